"""The small encoder that the demo needs, converted from a published checkpoint."""
