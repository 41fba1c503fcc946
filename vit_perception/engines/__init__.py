"""The runtimes that run the encoder, one file each, and how one is chosen."""
