"""One readable Vision Transformer, its sizes, and the card that travels with its weights."""
