"""Whole robot policies: the vision tower, the connector and the state projection in their files.

Only these tensors are read; the rest of a policy stays on the disk.
"""
