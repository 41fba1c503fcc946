"""`vit-perception watch`."""
