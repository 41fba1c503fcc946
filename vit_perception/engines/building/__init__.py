"""Building an engine: progress that a user can see, a bound on memory, and a child process that
may fail.
"""
