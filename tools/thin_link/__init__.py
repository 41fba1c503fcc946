"""Tokens and images over a thin link between two computers, for real: `python -m tools.thin_link`.

Sender and receiver are in two network namespaces of this computer, joined by one link whose rate,
delay and loss are those of a bad radio.
"""
