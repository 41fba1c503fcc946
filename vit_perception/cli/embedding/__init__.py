"""`embed` in one process."""
