"""Checkpoint files of every family to the one model, strictly: nothing is skipped silently."""
