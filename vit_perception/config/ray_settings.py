"""Settings of the rays of a camera's patches, and of the points that they end at."""

import math
from dataclasses import MISSING, dataclass
from typing import ClassVar

from vit_perception.config.checks import BadSetting, check_name
from vit_perception.config.named_groups import NamedGroup, register_group
from vit_perception.config.parameter import TOKENS, Section, param, require
from vit_perception.config.settings import TOKENIZERS

RAY = "ray"
POINTS = "points"
TOKEN_KINDS = (RAY, POINTS)
FARTHEST_M = 1000.0  # of the camera from what it is mounted on
MAX_NORM_ERROR = 1e-3  # of a quaternion


@dataclass(frozen=True)
class RaySettings(Section):
    """The rays of one camera's patches."""

    PREFIX: ClassVar[str] = "rays.{}."

    # The name: that of their group of tokens.
    name: str
    camera: str = param(
        MISSING, "Name of the camera whose patches the rays go through.", fixed=TOKENS
    )
    pose: str = param(
        "",
        "Name of the arm that the camera is mounted on, also one with source tf. '' is a camera "
        "that does not move.",
        fixed=TOKENS,
    )
    base_frame: str = param(
        "",
        "Name of the frame that the rays are given in, for the layout. With pose it is the arm's.",
        fixed=TOKENS,
    )
    translation_m: tuple[float, ...] = param(
        (),
        "Position x, y, z of the camera's optical frame in the arm's end-effector frame, without "
        "pose in the base frame, in m. [] is 0, 0, 0.",
        unit="m",
        bounds=(-FARTHEST_M, FARTHEST_M),
        count=3,
        fixed=TOKENS,
    )
    quaternion_xyzw: tuple[float, ...] = param(
        (),
        "Rotation x, y, z, w of the camera's optical frame in that frame. [] is none.",
        bounds=(-1.0 - MAX_NORM_ERROR, 1.0 + MAX_NORM_ERROR),
        count=4,
        fixed=TOKENS,
    )
    tokens: tuple[str, ...] = param(
        (),
        "Which groups there are: ray, points. [] is ray, and points if the camera has a "
        "depth_topic.",
        choices=TOKEN_KINDS,
        fixed=TOKENS,
    )
    tokenizer: str = param(
        "fourier",
        "How a ray or a point becomes a token. fourier needs no weights.",
        choices=TOKENIZERS,
        fixed=TOKENS,
    )
    tokenizer_weights: str = param(
        "", "safetensors file of the linear or mlp tokenizer of rays.", fixed=TOKENS, is_path=True
    )
    points_tokenizer_weights: str = param(
        "",
        "safetensors file of the linear or mlp tokenizer of points.",
        fixed=TOKENS,
        is_path=True,
    )

    def __post_init__(self) -> None:
        check_name("ray_names", self.name)
        self.check_parameters()
        prefix = self.prefix
        require(f"{prefix}camera", self.camera, "one of camera_names")
        norm = math.hypot(*self.quaternion_xyzw)
        if self.quaternion_xyzw and not abs(norm - 1.0) <= MAX_NORM_ERROR:
            raise BadSetting(
                f"{prefix}quaternion_xyzw",
                list(self.quaternion_xyzw),
                f"a quaternion x, y, z, w whose norm is 1 within {MAX_NORM_ERROR:g}; its norm is "
                f"{norm:.6g}",
            )
        if self.tokenizer != "fourier" and RAY in (self.tokens or (RAY,)):
            require(
                f"{prefix}tokenizer_weights",
                self.tokenizer_weights,
                f"a safetensors file: an untrained {self.tokenizer} gives noise, so it is refused",
            )
        if set(self.tokens) - set(TOKEN_KINDS) or len(set(self.tokens)) < len(self.tokens):
            raise BadSetting(
                f"{prefix}tokens", list(self.tokens), f"some of {', '.join(TOKEN_KINDS)}, each once"
            )


register_group(
    NamedGroup(
        prefix="rays",
        names_parameter="ray_names",
        settings=RaySettings,
        default_topic="",
        what="cameras' rays",
    )
)
