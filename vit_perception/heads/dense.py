"""A dense head (depth, segmentation): the module, and the meaning of its output."""

from dataclasses import dataclass

from torch import nn

from vit_perception.files.errors import InvalidValue

KINDS = ("depth", "segmentation")
# What a pixel's number means; ``depth`` if the checkpoint says neither its unit nor that it is
# inverse.
QUANTITIES = {
    "depth": ("metric_depth", "relative_inverse_depth", "depth"),
    "segmentation": ("class",),
}


@dataclass(frozen=True, eq=False)
class DenseHeadSpec:
    """A head on the tokens of several blocks of a
    :class:`~vit_perception.model.vision_transformer.VisionTransformer`.

    Raises:
        ValueError: A field is wrong.
    """

    # One of KINDS.
    kind: str
    # The blocks whose tokens it takes.
    blocks: tuple[int, ...]
    # Takes what ``intermediate(images, blocks, norm)`` gives, and the grid (rows, columns); gives
    # (B, H, W) depth or (B, K, H, W) class logits, float.
    module: nn.Module
    # Whether it takes tokens after the final norm.
    norm: bool = False
    # What a pixel means: one of QUANTITIES of its kind.
    quantity: str = ""
    # The K classes of a segmentation.
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        for name, holds, accepted in (
            ("kind", self.kind in KINDS, "one of " + ", ".join(KINDS)),
            ("blocks", len(self.blocks) > 0, "at least one block"),
            (
                "quantity",
                self.quantity in QUANTITIES.get(self.kind, ()),
                f"one of {', '.join(QUANTITIES.get(self.kind, ()))} for {self.kind}",
            ),
            (
                "labels",
                (len(self.labels) > 0) == (self.kind == "segmentation"),
                "the classes of a segmentation; none for depth",
            ),
        ):
            if not holds:
                raise InvalidValue(
                    f"{name} of the dense head is {getattr(self, name)!r}; accepted: {accepted}"
                )

    @property
    def unit(self) -> str:
        """``m`` for metric depth, else ``""``."""
        return "m" if self.quantity == "metric_depth" else ""
