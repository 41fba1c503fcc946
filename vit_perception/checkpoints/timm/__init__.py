"""Checkpoints of timm's Vision Transformers."""
