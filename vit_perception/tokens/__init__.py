"""Tokenizers of poses and joint states, and the fusion of all tokens into one embedding."""
