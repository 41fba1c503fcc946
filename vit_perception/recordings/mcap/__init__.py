"""MCAP files, read with bounds on memory and time (https://mcap.dev/spec)."""
