"""Building an engine: visible progress, a bound on memory, and a child process that may fail."""
