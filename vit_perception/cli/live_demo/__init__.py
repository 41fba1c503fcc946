"""The demo at work: node and player as processes, what came out, and the report of it."""
