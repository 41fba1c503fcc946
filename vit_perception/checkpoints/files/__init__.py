"""File formats of checkpoints, each read with bounds on memory and time before anything is
decoded.
"""
