"""``make gpu-test``: what only a machine with an NVIDIA GPU can show, in parts of at most ten
minutes. Needs no ROS.

``plan`` lists the steps, ``runner`` runs each in a process of its own, ``step`` is that process,
``report`` writes JSON after each. ``machine`` and ``inside`` are what steps see of the runtimes
here; ``steps/`` is what they do.
"""
