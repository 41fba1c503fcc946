"""Files to model: one family per origin, loaded strictly.

``files`` reads the formats; the other folders are named after the origin.
"""
