"""Checkpoints with a depth or segmentation head: DPT and Depth Anything."""
