"""Parts of `vit-perception embed`: groups of options, and the run in one process."""
