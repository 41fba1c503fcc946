"""Folders on local disk or object storage, through one interface."""
