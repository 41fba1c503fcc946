"""One readable Vision Transformer, its sizes, its classification heads, and the graph that engines run."""
