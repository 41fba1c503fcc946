"""Cameras whose images come as video: their packets are decoded beside the executor."""
