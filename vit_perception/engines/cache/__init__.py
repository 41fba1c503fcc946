"""Engine files that were built once: stored, found again, checked, and explained when they do
not fit.
"""
