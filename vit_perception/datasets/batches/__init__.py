"""Several frames of one recording in one run of the encoder."""
