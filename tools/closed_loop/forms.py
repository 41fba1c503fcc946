"""In which form the node sends tokens, and with which engine it makes them.

A policy is trained on the tokens of ``USUAL`` and runs with those of every form: what is compared
is the form alone. A policy of ``TRAINED_ON`` is trained on another form, and runs with that one.
"""

from typing import NamedTuple


class Form(NamedTuple):
    """One form."""

    parameters: dict[str, str]  # of the node
    directions: int = 0  # of a basis that is learnt from the demonstrations; 0: none


FORMS = {
    "float16": Form({"output_dtype": "float16"}),
    "float32": Form({"output_dtype": "float32"}),
    "int8": Form({"output_dtype": "int8"}),
    "basis 128": Form({"output_dtype": "float32"}, 128),
    "basis 64": Form({"output_dtype": "float32"}, 64),
    "basis 32": Form({"output_dtype": "float32"}, 32),
    "engine int8": Form({"output_dtype": "float16", "engine.precision": "int8"}),
}
USUAL = "float16"
TRAINED_ON = {"spatial, coefficients": "basis 64"}
# What a layout says of the form, and what a policy that gets restored tokens need not compare.
MAY_DIFFER = ("dtype", "basis")

# What the node is told because of a trouble of the loop.
OF_TROUBLE: dict[str, dict[str, object]] = {
    # It does not wait for the camera that is silent.
    "wrist silent": {"sync.policy": "mask"},
    # It takes the newest pose that there is.
    "pose late": {"poses.arm.wait_s": 0.0, "poses.arm.max_skew_s": 0.2},
}
