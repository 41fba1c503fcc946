"""Fitting on labelled pictures: a head on the encoder's features, or the whole model
(``vit-perception fit``).
"""
