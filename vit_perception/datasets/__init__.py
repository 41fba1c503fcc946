"""Recordings and data sets to features: ``embed``, LeRobot, and labelled pictures."""
