"""What the layout says of depth and segmentation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayoutDense:
    """What a pixel of each camera's depth or segmentation means.

    ``quantity`` is one of

    * ``metric_depth``, with the ``unit`` m,
    * ``relative_inverse_depth``: larger is nearer; it has no unit, and its scale and shift are
      unknown and change from image to image,
    * ``depth``, if the checkpoint does not say which of the two,
    * ``class``: the pixel is an index into ``labels``.

    Pixels that the network did not see are ``no_label``, or NaN in depth.
    """

    kind: str  # depth or segmentation
    quantity: str
    unit: str  # m, or empty
    blocks: tuple[int, ...]  # transformer blocks whose tokens it is made of
    labels: tuple[str, ...] = ()
    no_label: int = 0
