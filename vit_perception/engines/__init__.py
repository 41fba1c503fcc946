"""Engines that run the encoder, one file per runtime; each imports its own runtime inside
``open()``.
"""
