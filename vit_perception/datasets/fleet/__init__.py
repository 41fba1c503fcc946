"""`embed` on many machines with Ray: a task for each source, its shards committed in order.

The result is byte for byte that of one process. ``tasks`` is what a machine does for one source,
``commits`` what the driver does with it, ``driver`` who does what when. Only ``cluster`` imports
Ray, and only when it is used.
"""
