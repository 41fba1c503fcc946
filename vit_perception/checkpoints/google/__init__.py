"""Checkpoints of Google Research's Vision Transformer (.npz)."""
