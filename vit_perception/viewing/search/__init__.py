"""The picture sheet of a search."""
