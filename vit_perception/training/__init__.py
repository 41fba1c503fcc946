"""Fitting on labelled images: a head on the encoder's features, or the complete model."""
