"""A Ray cluster of two nodes on one machine, its faults, and recordings for it."""
