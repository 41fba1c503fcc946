"""Read files of others within bounds; write our own completely or not at all."""
