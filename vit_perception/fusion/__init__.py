"""Image and pose tokens joined into one embedding."""
