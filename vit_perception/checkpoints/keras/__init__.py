"""Checkpoints of Keras Vision Transformers (.h5, .weights.h5, .keras)."""
