"""Groups of options of `fit`."""
