"""Decode and preprocess camera images, and map patches to source pixels."""
