"""make closed-loop: a simulated Panda does its task with the node's tokens, over DDS.

``simulator`` runs in an environment of its own (.venv-sim): robosuite needs NumPy 1. It records the
demonstrations, and is the robot of the loop. All other modules run in .venv. Both sides read
``interface`` and ``recipe``, which need the standard library alone.
"""
