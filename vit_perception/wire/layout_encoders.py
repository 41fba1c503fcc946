"""What the layout says of encoders: of a connector, and of each encoder where there are several."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayoutConnector:
    """What a policy puts after its encoder. Widths, grids and patch sizes are those after it."""

    # Channels before, between and after its linear layers. The first is ``shuffle`` squared times
    # the encoder's, or those of the encoders together.
    widths: tuple[int, ...]
    shuffle: int = 1  # so many patches of the encoder by so many are one token
    # The factor on the tokens. Divided by it, they are what the policy's ``embed_image`` gives.
    scale: float = 1.0
    # Channels of each of several encoders whose tokens stand side by side; empty for one.
    joined: tuple[int, ...] = ()
    # Blocks of the encoder whose outputs the policy's language model takes besides, and which are
    # not sent (deep-stack). Not in the JSON if there are none.
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayoutView:
    """How one camera's pixels became the network pixels of one encoder, as for `LayoutCamera`."""

    camera: str
    scale: tuple[float, float]  # (y, x)
    offset_px: tuple[float, float]  # (y, x)


@dataclass(frozen=True)
class LayoutEncoder:
    """One of several encoders: what was loaded, what it sees, and what runs it."""

    name: str  # of its groups, ``<camera>/<encoder>/<kind>``
    model: str  # name of the checkpoint
    weights_sha256: str  # of the checkpoint's file
    encoder_sha256: str  # of weights, configuration, block and preprocessing
    block: int  # transformer block whose tokens are sent, from 0
    width: int  # D, of its tokens: that of the layout
    grid: tuple[int, int]  # (rows, columns) of its patch tokens, of every camera
    patch_size_px: int
    network_size_px: tuple[int, int]  # (height, width)
    fit: str  # stretch, crop, pad, stretch_crop or stretch_corner
    interpolation: str  # of the resize, such as bicubic
    # Of R, G and B, for pixels scaled to [0, 1].
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    runtime: str  # that runs it, such as tensorrt
    precision: str  # such as float16
    # What a policy puts after it. None without one.
    connector: LayoutConnector | None = None
    # Of the cameras that have sent an image, in their order.
    views: tuple[LayoutView, ...] = ()
