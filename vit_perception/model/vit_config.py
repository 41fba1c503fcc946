"""One model's shape: the switches that the families of Vision Transformers differ by."""

from dataclasses import dataclass

from vit_perception.files.errors import InvalidValue
from vit_perception.model.activations import ACTIVATIONS
from vit_perception.model.positions import INTERPOLATIONS

POOLINGS = ("cls", "mean", "max", "map", "map_all", "cls_mean", "cls_set")
# With a learned query.
ATTENTION_POOLINGS = ("map", "map_all")
HEADS = ("none", "linear", "linear_tanh_linear", "distilled")
POSITION_EMBEDDINGS = ("learned", "none")
NORMS = ("layer", "rms")
ROPE_PLACES = ("centres", "indices")
# About ten times the largest published model. A file may claim any number, and memory is allocated
# from them.
_MOST = {
    "width": 65_536,
    "depth": 1000,
    "heads": 4096,
    "mlp_width": 1_000_000,
    "patch_size_px": 1024,
    "register_tokens": 1024,
    "classes": 1_000_000,
    "head_hidden_width": 1_000_000,
    "cls_set": 1024,
    "window_patches": 4096,
    "pooling_heads": 4096,
    "pooling_mlp_width": 1_000_000,
}
_MOST_SIDE_PX = 1 << 14


@dataclass(frozen=True)
class ViTConfig:
    """One model's shape.

    Raises:
        ValueError: A field is wrong; the error names it.
    """

    # Channels of a token.
    width: int
    # Blocks.
    depth: int
    heads: int
    # Hidden width of the MLP; of one of its two halves for ``swiglu``.
    mlp_width: int
    patch_size_px: int
    # (height, width) that the position embedding was learned at.
    image_size_px: tuple[int, int] = (224, 224)
    # One of ACTIVATIONS, or ``swiglu``.
    activation: str = "gelu"
    qkv_bias: bool = True
    layer_scale: bool = False
    norm_before_blocks: bool = False
    # LayerNorm, or RMSNorm: no mean is taken off, and there is no bias.
    norm: str = "layer"
    # RMSNorm of queries and keys over all heads.
    qk_norm: bool = False
    norm_eps: float = 1e-6
    cls_token: bool = True
    register_tokens: int = 0
    # What the head sees: the CLS token, the mean or max patch token, attention pooling of the
    # patches (``map``) or of all tokens (``map_all``), the CLS token and the mean patch token
    # concatenated, or the first ``cls_set`` tokens concatenated: CLS, then registers.
    pooling: str = "cls"
    # Of the pooling ``cls_set``; 0 for another one.
    cls_set: int = 0
    # Of attention pooling: heads, and the MLP's hidden width; 0 for those of a block.
    pooling_heads: int = 0
    pooling_mlp_width: int = 0
    # ``distilled``: the mean of a linear head on the CLS token and one on the distillation token.
    head: str = "none"
    classes: int = 0
    distillation_token: bool = False
    position_embedding: str = "learned"
    position_interpolation: str = "bicubic"
    # Turns rotary positions on: the base of their periods.
    rope_theta: float | None = None
    # What is turned by: a patch's centre from -1 to 1 over the image, times 2 pi (``centres``), or
    # its row and column (``indices``), counted from 1 if there is a CLS token, which stays at 0.
    rope_places: str = "centres"
    # (rows, columns): indices of any other grid are spread over this one. None: they are its own.
    rope_grid: tuple[int, int] | None = None
    # Side of the windows, in patches from the top left, that attention stays in; 0 for none.
    window_patches: int = 0
    # Blocks, from 0, whose attention sees all patches nevertheless.
    full_blocks: tuple[int, ...] = ()
    # The final norm comes after pooling; tokens are then not normed.
    norm_pooled: bool = False
    # Between the layers of ``linear_tanh_linear``; 0 for the width of what it sees.
    head_hidden_width: int = 0
    # Without it, tokens are those of the last block.
    final_norm: bool = True

    def __post_init__(self):
        for name, most in _MOST.items():
            least = 1 if name in ("width", "depth", "heads", "mlp_width", "patch_size_px") else 0
            value = getattr(self, name)
            self._require(
                name, type(value) is int and value >= least, f"an integer of at least {least}"
            )
            self._require(name, value <= most, f"at most {most}")
        for name in (
            "qkv_bias",
            "layer_scale",
            "norm_before_blocks",
            "qk_norm",
            "cls_token",
            "distillation_token",
            "norm_pooled",
            "final_norm",
        ):
            self._require(name, isinstance(getattr(self, name), bool), "true or false")
        self._require("heads", self.width % self.heads == 0, f"a divisor of the width {self.width}")
        size = self.image_size_px
        self._require(
            "image_size_px",
            isinstance(size, tuple)
            and len(size) == 2
            and all(
                type(side) is int and 0 < side <= _MOST_SIDE_PX and side % self.patch_size_px == 0
                for side in size
            ),
            f"(height, width) up to {_MOST_SIDE_PX}, multiples of the patch size "
            f"{self.patch_size_px}",
        )
        self._require(
            "norm_eps",
            _is_number(self.norm_eps) and 0 < self.norm_eps < 1,
            "a number between 0 and 1",
        )
        for name, accepted in (
            ("activation", (*ACTIVATIONS, "swiglu")),
            ("pooling", POOLINGS),
            ("head", HEADS),
            ("position_embedding", POSITION_EMBEDDINGS),
            ("position_interpolation", INTERPOLATIONS),
            ("norm", NORMS),
            ("rope_places", ROPE_PLACES),
        ):
            given = getattr(self, name)
            self._require(
                name, isinstance(given, str) and given in accepted, "one of " + ", ".join(accepted)
            )
        self._require(
            "classes",
            (self.classes > 0) == (self.head != "none"),
            f"0 without a head, else the number of classes (head is {self.head!r})",
        )
        self._check_combinations()

    def _check_combinations(self) -> None:
        self._require(
            "pooling",
            self.cls_token or self.pooling not in ("cls", "cls_mean", "cls_set"),
            "mean, max, map or map_all for a model without a CLS token",
        )
        self._require(
            "pooling",
            self.pooling not in ATTENTION_POOLINGS or self.activation != "swiglu",
            "another one with swiglu: attention pooling has a plain MLP",
        )
        self._require(
            "cls_set",
            1 <= self.cls_set <= self.first_patch
            if self.pooling == "cls_set"
            else self.cls_set == 0,
            f"1 to {self.first_patch}, the tokens before the patches, with the pooling cls_set, "
            "else 0",
        )
        self._require(
            "window_patches",
            self.window_patches == 0 or self.first_patch == 0,
            "0 for a model with tokens before the patches",
        )
        blocks = self.full_blocks
        self._require(
            "full_blocks",
            isinstance(blocks, tuple)
            and all(type(index) is int and 0 <= index < self.depth for index in blocks)
            and (not blocks or self.window_patches > 0),
            f"indices of blocks, 0 to {self.depth - 1}, of a model with windows",
        )
        for name in ("pooling_heads", "pooling_mlp_width"):
            self._require(
                name,
                getattr(self, name) == 0 or self.pooling in ATTENTION_POOLINGS,
                f"0 with the pooling {self.pooling}",
            )
        self._require(
            "pooling_heads",
            self.pooling_heads == 0 or self.width % self.pooling_heads == 0,
            f"a divisor of the width {self.width}",
        )
        self._require(
            "distillation_token",
            self.cls_token or not self.distillation_token,
            "False for a model without a CLS token",
        )
        self._require(
            "head",
            self.head != "distilled" or (self.distillation_token and self.pooling == "cls"),
            "another one: a distilled head needs a distillation token and the pooling cls",
        )
        self._require(
            "norm_pooled",
            not self.norm_pooled or self.pooling in ("cls", "mean", "max"),
            f"False with the pooling {self.pooling}",
        )
        self._require(
            "norm_pooled",
            not self.norm_pooled or self.head != "distilled",
            "False with a distilled head",
        )
        self._require(
            "norm_pooled", not self.norm_pooled or self.final_norm, "False without a final norm"
        )
        self._require(
            "head_hidden_width",
            self.head_hidden_width >= 0
            and (self.head_hidden_width == 0 or self.head == "linear_tanh_linear"),
            "an integer of at least 0, and 0 unless the head is linear_tanh_linear",
        )
        theta = self.rope_theta
        self._require(
            "rope_theta",
            theta is None or (_is_number(theta) and 1 < theta < 1e12 and self.head_width % 4 == 0),
            "None, or a number above 1 with heads whose width is a multiple of 4",
        )
        spread = self.rope_grid
        self._require(
            "rope_grid",
            spread is None
            or (
                self.rope_places == "indices"
                and isinstance(spread, tuple)
                and len(spread) == 2
                and all(type(count) is int and 0 < count <= _MOST_SIDE_PX for count in spread)
            ),
            "None, or (rows, columns) with rope_places indices",
        )

    def _require(self, name: str, holds: bool, accepted: str) -> None:
        if not holds:
            raise InvalidValue(
                f"{name} of the model is {getattr(self, name)!r:.80}; accepted: {accepted}"
            )

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def prefix_tokens(self) -> int:
        """How many tokens with a learned position come first: CLS and distillation."""
        return int(self.cls_token) + int(self.distillation_token)

    @property
    def first_patch(self) -> int:
        """The index of the first patch token, after CLS, distillation and registers."""
        return self.prefix_tokens + self.register_tokens

    @property
    def pooled_width(self) -> int:
        """Width of what the head sees."""
        return self.width * (2 if self.pooling == "cls_mean" else self.cls_set or 1)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches that the position embedding was learned at."""
        return self.grid_of(*self.image_size_px)

    def grid_of(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Divide an image into (rows, columns) of patches.

        Raises:
            ValueError: A side is no multiple of the patch size.
        """
        patch = self.patch_size_px
        if min(height_px, width_px) < patch or height_px % patch or width_px % patch:
            raise InvalidValue(
                f"the image is {height_px} x {width_px} px; accepted: both sides multiples of the "
                f"patch size {patch}"
            )
        return height_px // patch, width_px // patch


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
