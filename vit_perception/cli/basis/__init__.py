"""Learn from recorded features a basis in which patch tokens are sent as few coefficients.

The directions are those of the largest variance. The last fifth of each episode is not learnt from:
what is kept of its tokens is printed, for this count of directions and others.
"""

from vit_perception.cli.basis.command import EXAMPLES, add_arguments, run

__all__ = ["EXAMPLES", "add_arguments", "run"]
