"""Show a running node live in the Rerun viewer: images, PCA of the patch tokens, attention, classes
over time, poses, latency and drops.

It listens to topics alone. The node computes its two views only while somebody listens to them.
"""

from vit_perception.cli.watch.command import EXAMPLES, add_arguments, run

__all__ = ["EXAMPLES", "add_arguments", "run"]
