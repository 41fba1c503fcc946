"""Options of `embed` that belong together."""
