"""Learn what is normal for each camera, so that the node says when the world has moved.

From the features of training recordings: which patches are static background, what their tokens
are, and how novel frames are that were held out. The node's parameter monitor.reference names the
folder (docs/monitor.md).
"""

from vit_perception.cli.reference.command import EXAMPLES, add_arguments, run

__all__ = ["EXAMPLES", "add_arguments", "run"]
