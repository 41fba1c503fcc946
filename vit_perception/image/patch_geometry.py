"""How a camera image becomes network pixels, and which source pixels a patch saw.

Coordinates are pixel edges: pixel ``i`` covers ``[i, i + 1)`` and its centre is ``i + 0.5``. Every
pair is (y, x) or (height, width). Per axis::

    network_px = source_px * scale + offset_px

Resized sizes and crop offsets round as the Pillow-backed image processors of Hugging Face
transformers do (``get_resize_output_image_size`` and ``center_crop`` of ``image_transforms.py``):
the long edge is truncated, the crop starts at ``(resized - network) // 2``. A shift of one pixel
changes the network's input, so torchvision's ``CenterCrop``, which rounds half to even, is another
``crop_rounding``.

A region of interest is cut out of the source before all that. Source pixels are those of the whole
image all the same: the region's corner is a part of ``offset_px``.
"""

from dataclasses import asdict, dataclass
from typing import Any

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.records import Roi

FITS = ("stretch", "crop", "pad", "stretch_crop", "stretch_corner")
CUT_FROM_SQUARE = ("stretch_crop", "stretch_corner")
INTERPOLATIONS = (
    "bicubic",
    "bilinear",
    "bilinear_aliased",
    "bilinear_rounded",
    "nearest",
    "lanczos",
)
CROP_ROUNDINGS = ("down", "half_even")
PAD_ROUNDINGS = ("nearest", "down")
PAD_SIDES = ("both", "top_left")


@dataclass(frozen=True)
class ResizeRule:
    """How any image is brought to the network's size. It is a part of the model card.

    ``fit`` is one of

    * ``stretch`` ignores the aspect ratio.
    * ``crop`` keeps it, resizes the shortest edge to ``resize_shortest_edge_px``, and cuts out the
      centre.
    * ``pad`` keeps it, fits the complete image in, and centres it.
    * ``stretch_crop`` stretches to a square of ``resize_shortest_edge_px`` and cuts out its centre
      (DeiT as transformers prepares it).
    * ``stretch_corner`` stretches to the same square and cuts out its top left corner (what a patch
      embedding sees of a square that is not a multiple of the patch).

    Raises:
        InvalidValue: a field has a value that is not accepted.
    """

    network_size_px: tuple[int, int]  # (height, width)
    fit: str = "stretch"
    # None with crop: as small as still covers the network's size.
    resize_shortest_edge_px: int | None = None
    interpolation: str = "bicubic"  # one of INTERPOLATIONS
    pad_value_rgb: tuple[int, int, int] = (0, 0, 0)  # 0 to 255, with pad
    crop_rounding: str = "down"  # down or half_even, of an odd difference of sizes
    # With pad, how the shorter side is rounded: nearest, or down (robot policies).
    pad_rounding: str = "nearest"
    # With pad, where the padding is: on both sides, or at the top and the left alone (SmolVLA).
    pad_sides: str = "both"

    def __post_init__(self):
        # Cards come from JSON, which has lists; a tuple keeps the rule hashable.
        object.__setattr__(
            self,
            "network_size_px",
            _integers("network_size_px", self.network_size_px, count=2, low=1, high=1 << 14),
        )
        object.__setattr__(
            self,
            "pad_value_rgb",
            _integers("pad_value_rgb", self.pad_value_rgb, count=3, low=0, high=255),
        )
        for name, accepted in (
            ("fit", FITS),
            ("interpolation", INTERPOLATIONS),
            ("crop_rounding", CROP_ROUNDINGS),
            ("pad_rounding", PAD_ROUNDINGS),
            ("pad_sides", PAD_SIDES),
        ):
            if getattr(self, name) not in accepted:
                raise InvalidValue(
                    f"{name} is {getattr(self, name)!r}; accepted: {', '.join(accepted)}"
                )
        if self.fit != "pad" and (self.pad_rounding, self.pad_sides) != ("nearest", "both"):
            raise InvalidValue(
                f"pad_rounding is {self.pad_rounding!r} and pad_sides {self.pad_sides!r} with fit "
                f"{self.fit!r}; accepted: only fit 'pad'"
            )
        edge = self.resize_shortest_edge_px
        if edge is None and self.fit not in CUT_FROM_SQUARE:
            return
        if self.fit != "crop" and self.fit not in CUT_FROM_SQUARE:
            raise InvalidValue(
                f"resize_shortest_edge_px is {edge!r} with fit {self.fit!r}; accepted: only fit "
                f"'crop', {', '.join(map(repr, CUT_FROM_SQUARE))}"
            )
        low = max(self.network_size_px)
        # A shorter edge would leave a border next to the crop.
        object.__setattr__(
            self,
            "resize_shortest_edge_px",
            _integers("resize_shortest_edge_px", (edge,), count=1, low=low, high=1 << 14)[0],
        )

    def fields(self) -> dict[str, Any]:
        """The fields by name, for JSON and digests.

        The two of the padding are left out while they have their defaults: digests that were made
        before there were any stay what they are.
        """
        defaults = {"pad_rounding": "nearest", "pad_sides": "both"}
        return {name: value for name, value in asdict(self).items() if defaults.get(name) != value}


@dataclass(frozen=True)
class ResizePlan:
    """A rule applied to one source size: cut out the region of interest, resize, then crop or pad
    to the network's size.
    """

    rule: ResizeRule
    source_size_px: tuple[int, int]  # (height, width) of the whole image
    resized_size_px: tuple[int, int]  # (height, width)
    # The resized image's corner in the network image (y, x): negative for a crop of the centre,
    # positive for padding, else zero.
    top_left_px: tuple[int, int]
    roi: Roi | None = None  # the part of the source that is resized; None: all of it

    @property
    def region(self) -> Roi:
        """The part of the source that is resized: ``roi``, or the whole image."""
        height, width = self.source_size_px
        return self.roi or Roi(0, 0, width, height)

    @property
    def network_size_px(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.rule.network_size_px

    @property
    def scale(self) -> tuple[float, float]:
        """Network pixels per source pixel (y, x)."""
        height, width = self.resized_size_px
        return height / self.region.height, width / self.region.width

    @property
    def offset_px(self) -> tuple[float, float]:
        """The place of the source's pixel edge 0 in the network image (y, x)."""
        (top, left), (scale_y, scale_x) = self.top_left_px, self.scale
        return top - self.region.y * scale_y, left - self.region.x * scale_x


def plan_resize(
    rule: ResizeRule, source_size_px: tuple[int, int], roi: Roi | None = None
) -> ResizePlan:
    """Return the plan of ``rule`` for ``roi`` of a source of ``source_size_px`` (height, width).

    Raises:
        InvalidValue: a side of the source is zero.
        BadInput: ``roi``: it is not inside the source.
    """
    whole = _integers("source_size_px", source_size_px, count=2, low=1, high=1 << 30)
    if roi is not None:
        roi.check_inside(whole)
    source = whole if roi is None else (roi.height, roi.width)
    height, width = source
    network = rule.network_size_px
    if rule.fit == "stretch":
        resized = network
    elif rule.fit in CUT_FROM_SQUARE:
        resized = (rule.resize_shortest_edge_px,) * 2
    elif rule.fit == "pad" and rule.pad_rounding == "down":
        # In this order and in floating point, as the policies do it: 223 px may be 224 otherwise.
        ratio = max(width / network[1], height / network[0])
        resized = (max(1, int(height / ratio)), max(1, int(width / ratio)))
    elif rule.fit == "pad":
        scale = min(network[0] / height, network[1] / width)
        resized = tuple(min(n, max(1, round(s * scale))) for n, s in zip(network, source))
    elif rule.resize_shortest_edge_px is None:
        # The tighter axis gets exactly the network's size. Integer products have no rounding error.
        resized = (
            (network[0], network[0] * width // height)
            if network[0] * width >= network[1] * height
            else (network[1] * height // width, network[1])
        )
    else:
        edge = rule.resize_shortest_edge_px
        short = min(source)
        resized = (edge * height // short, edge * width // short)
    half = _half_even if rule.crop_rounding == "half_even" else _half_down
    # Of the positive difference, so that crop and pad round alike: a crop's extra row is at the
    # bottom.
    top_left = tuple((n - r) // 2 if n >= r else -half(r - n) for n, r in zip(network, resized))
    if rule.fit == "stretch_corner":
        top_left = (0, 0)
    if rule.pad_sides == "top_left":
        top_left = (network[0] - resized[0], network[1] - resized[1])
    return ResizePlan(
        rule=rule, source_size_px=whole, resized_size_px=resized, top_left_px=top_left, roi=roi
    )


def _half_down(surplus: int) -> int:
    return surplus // 2


def _half_even(surplus: int) -> int:
    return round(surplus / 2)


@dataclass(frozen=True)
class PatchGeometry:
    """Patch indices (row-major over the grid) to source pixels and back, for one plan.

    Raises:
        InvalidValue: the network's size is not a multiple of the patch.
    """

    plan: ResizePlan
    patch_size_px: int

    def __post_init__(self):
        if self.patch_size_px < 1 or any(n % self.patch_size_px for n in self.plan.network_size_px):
            raise InvalidValue(
                f"network_size_px is {self.plan.network_size_px}; accepted: multiples of the patch "
                f"size, {self.patch_size_px} px"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return tuple(n // self.patch_size_px for n in self.plan.network_size_px)

    def patch_box_in_source(self, index: int) -> tuple[float, float, float, float]:
        """Return (top, left, bottom, right) of patch ``index`` in source pixels, as edges.

        Not clipped: the box of a patch in the padding is outside the source, or outside of its
        region of interest.

        Raises:
            IndexError: there is no such patch.
        """
        rows, columns = self.grid
        if not 0 <= index < rows * columns:
            raise IndexError(f"patch index is {index}; accepted: 0 to {rows * columns - 1}")
        row, column = divmod(index, columns)
        top, left = self._source_of(row * self.patch_size_px, column * self.patch_size_px)
        bottom, right = self._source_of(
            (row + 1) * self.patch_size_px, (column + 1) * self.patch_size_px
        )
        return top, left, bottom, right

    def patch_at(self, source_y: float, source_x: float) -> int | None:
        """Return the patch that saw the source point; None if no patch did.

        The point is outside the source or its region of interest then, or was cropped away.
        """
        x, y, width, height = self.plan.region
        # Written so that NaN is outside, too.
        if not (y <= source_y < y + height and x <= source_x < x + width):
            return None
        (scale_y, scale_x), (offset_y, offset_x) = self.plan.scale, self.plan.offset_px
        row = int((source_y * scale_y + offset_y) // self.patch_size_px)
        column = int((source_x * scale_x + offset_x) // self.patch_size_px)
        rows, columns = self.grid
        return row * columns + column if 0 <= row < rows and 0 <= column < columns else None

    def _source_of(self, network_y: float, network_x: float) -> tuple[float, float]:
        (scale_y, scale_x), (offset_y, offset_x) = self.plan.scale, self.plan.offset_px
        return (network_y - offset_y) / scale_y, (network_x - offset_x) / scale_x


def _integers(name: str, values: object, count: int, low: int, high: int) -> tuple[int, ...]:
    """Return ``values`` as a tuple of ``count`` integers from ``low`` to ``high``.

    Raises:
        InvalidValue: they are not; the message names the field.
    """
    try:
        integers = tuple(int(v) for v in values)
        same = integers == tuple(values)
    except (TypeError, ValueError, OverflowError):
        integers = ()
        same = False
    if not same or len(integers) != count or any(not low <= v <= high for v in integers):
        raise InvalidValue(
            f"{name} is {values!r:.80}; accepted: {count} integer{'s' * (count > 1)} from {low} to "
            f"{high}"
        )
    return integers
