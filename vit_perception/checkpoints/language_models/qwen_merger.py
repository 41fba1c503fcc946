"""The merger of Qwen2.5-VL and Qwen3-VL: a norm of each patch, squares of patches side by side, two
linear layers. It is the connector behind the image tower.

Source: transformers, models/qwen2_5_vl and models/qwen3_vl.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import CONNECTOR, linear_and_norm_names
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.config import whole_number_of
from vit_perception.checkpoints.policies.policy_files import require
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.connectors import ConnectorSpec
from vit_perception.model.vit_config import ViTConfig

_MERGER = "merger."
_BELOW = ("", "model.visual.", "visual.")
_EPS = 1e-6
_MOST_WIDTH = 1_000_000


@dataclass(frozen=True)
class Merger:
    """One version's merger."""

    # The kind of its norm.
    norm: str
    # Its names of the norm and of both linear layers.
    theirs: tuple[str, str, str]
    # Whether outputs of earlier blocks go to the language model besides.
    deep_stack: bool

    def names(self) -> dict[str, tuple[str, ...]]:
        """Map its names, without the tower's prefix, to the connector's."""
        ours = ("norm", "layers.0", "layers.1")
        return linear_and_norm_names(
            {
                f"{_MERGER}{theirs}": (f"{CONNECTOR}{name}",)
                for theirs, name in zip(self.theirs, ours)
            }
        )

    def read(
        self, files: CheckpointFiles, config: ViTConfig, merge: int, vision: Mapping[str, Any]
    ) -> ConnectorSpec | None:
        """Read the connector's shape; None for a tower that was saved without the merger.

        ``config`` is the tower's shape, ``merge`` the side of a square in patches; ``vision`` are
        the tower's fields of config.json.

        Raises:
            CheckpointError: A whole model has no merger, or a part of it is missing.
            ValueError: A field is wrong.
        """
        below = [
            prefix
            for prefix in _BELOW
            if any(name.startswith(f"{prefix}{_MERGER}") for name in files.tensors)
        ]
        if not below:
            if "vision_config" in (files.config or {}):
                raise CheckpointError(
                    f"{files.path} has no {_MERGER}*, the connector between image tower and "
                    "language model; accepted: the complete model, or its tower alone with the "
                    "tower's own config.json"
                )
            return None
        last = f"{below[0]}{_MERGER}{self.theirs[2]}.weight"
        require(files, last, "the merger behind the image tower")
        given = files.shape(last)[0]
        width = whole_number_of(vision, "out_hidden_size", given, 1, _MOST_WIDTH)
        inside = merge**2 * config.width
        return ConnectorSpec(
            widths=(inside, inside, width),
            shuffle=merge,
            norm=self.norm,
            norm_eps=_EPS,
            left_out=self._left_out(vision, config.depth),
        )

    def _left_out(self, vision: Mapping[str, Any], depth: int) -> tuple[int, ...]:
        blocks = vision.get("deepstack_visual_indexes", ()) if self.deep_stack else ()
        if not isinstance(blocks, (list, tuple)) or any(
            type(index) is not int or not 0 <= index < depth for index in blocks
        ):
            raise InvalidValue(
                f"deepstack_visual_indexes is {blocks!r:.80}; accepted: indices of blocks, 0 to "
                f"{depth - 1}"
            )
        return tuple(blocks)


MERGER_OF_2_5 = Merger("rms", ("ln_q", "mlp.0", "mlp.2"), deep_stack=False)
MERGER_OF_3 = Merger("layer", ("norm", "linear_fc1", "linear_fc2"), deep_stack=True)
