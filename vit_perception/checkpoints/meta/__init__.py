"""Checkpoints of Meta's DeiT, DINO, DINOv2 and DINOv3 in the form that their authors publish."""
