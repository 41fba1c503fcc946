"""Engines that run the encoder: one file per runtime, which imports the runtime in ``open()``."""
