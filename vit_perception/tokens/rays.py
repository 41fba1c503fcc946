"""The rays of a camera's patches as a token source: one token for each patch, where it looks.

Parameters: ``ray_names``, and for each name ``rays.<name>.camera`` and where that camera is. A ray
is six numbers, its Plücker coordinates in the base frame (:mod:`vit_perception.image.patches.rays`)
and becomes a token as a pose does. Rays whose calibration or pose is missing are masked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar

import numpy as np

from vit_perception.config.checks import BadSetting, check_name
from vit_perception.config.named_groups import NamedGroup, register_group
from vit_perception.config.parameter import TOKENS, Section, param, require
from vit_perception.config.settings import TOKENIZERS, EncoderSettings
from vit_perception.image.patches.rays import PatchRays, PatchView, patch_rays, plucker
from vit_perception.streams.pose_history import MAX_NORM_ERROR
from vit_perception.streams.rotation import rotation_matrix
from vit_perception.streams.sample_history import how_far
from vit_perception.tokens.frame import CameraView, EncoderGrid, FrameInputs
from vit_perception.tokens.source import (
    CheckpointTokens,
    DerivedSource,
    TokenRows,
    TokenSource,
    register,
)
from vit_perception.tokens.tokenizer import RowTokenizer, Tokenizer, make_row_tokenizer
from vit_perception.wire.layout_sources import LayoutRays
from vit_perception.wire.records import BadInput, TokenGroup

KIND = "ray"
NUMBERS = 6
FARTHEST_M = 1000.0  # of the camera from what it is mounted on
_NOT_MOVED = (0.0, 0.0, 0.0)
_NOT_TURNED = (0.0, 0.0, 0.0, 1.0)


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
    tokenizer: str = param(
        "fourier",
        "How a ray becomes a token. fourier needs no weights.",
        choices=TOKENIZERS,
        fixed=TOKENS,
    )
    tokenizer_weights: str = param(
        "", "safetensors file of the linear or mlp tokenizer.", fixed=TOKENS, is_path=True
    )

    def __post_init__(self) -> None:
        check_name("ray_names", self.name)
        self.check_parameters()
        prefix = self.prefix
        require(f"{prefix}camera", self.camera, "one of camera_names")
        norm = float(np.linalg.norm(self.quaternion_xyzw))
        if self.quaternion_xyzw and not abs(norm - 1.0) <= MAX_NORM_ERROR:
            raise BadSetting(
                f"{prefix}quaternion_xyzw",
                list(self.quaternion_xyzw),
                f"a quaternion x, y, z, w whose norm is 1 within {MAX_NORM_ERROR:g}; its norm is "
                f"{norm:.6g}",
            )
        if self.tokenizer != "fourier":
            require(
                f"{prefix}tokenizer_weights",
                self.tokenizer_weights,
                f"a safetensors file: an untrained {self.tokenizer} gives noise, so it is refused",
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


@register
class RaySource(DerivedSource):
    """The rays of one camera: six numbers a patch, direction and moment in the base frame."""

    group = "rays"
    label = "rays"

    def __init__(self, settings: RaySettings, arm_frame: str = ""):
        super().__init__(settings)
        self.calibrated = (settings.camera,)
        self.made_of = (settings.pose,) if settings.pose else ()
        self.base_frame = arm_frame or settings.base_frame
        self.translation_m = np.array(settings.translation_m or _NOT_MOVED)
        quaternion = np.array(settings.quaternion_xyzw or _NOT_TURNED)
        self.quaternion_xyzw = quaternion / np.linalg.norm(quaternion)
        self._rotation = rotation_matrix(self.quaternion_xyzw)
        # The latest rays of each encoder's patches, and what they were made of.
        self._rays: dict[int, tuple[Any, PatchRays]] = {}
        # The same of tokens, of a camera that does not move.
        self._tokens: dict[int, tuple[PatchRays, np.ndarray]] = {}

    @classmethod
    def of(cls, settings: EncoderSettings) -> list[TokenSource]:
        """Return the rays that ``settings`` name.

        Raises:
            BadSetting: there is no such camera or arm, or the arm has another base frame.
        """
        cameras = [camera.name for camera in settings.cameras]
        arms = {arm.name: arm.expected_frame_id for arm in settings.poses}
        sources: list[TokenSource] = []
        for rays in settings.group(cls.group):
            if rays.camera not in cameras:
                raise BadSetting(
                    f"{rays.prefix}camera",
                    rays.camera,
                    f"one of camera_names: {', '.join(cameras)}",
                )
            if rays.pose and rays.pose not in arms:
                named = f"one of pose_names: {', '.join(arms)}" if arms else "'': there are no arms"
                raise BadSetting(f"{rays.prefix}pose", rays.pose, named)
            arm_frame = arms.get(rays.pose, "")
            if arm_frame and rays.base_frame not in ("", arm_frame):
                raise BadSetting(
                    f"{rays.prefix}base_frame",
                    rays.base_frame,
                    f"'' or {arm_frame!r}, the frame of {rays.prefix}pose",
                )
            sources.append(cls(rays, arm_frame))
        return sources

    @classmethod
    def tokenizers(
        cls, sources: Sequence[Any], settings: EncoderSettings, checkpoint: CheckpointTokens
    ) -> dict[str, Tokenizer]:
        """Return the tokenizer of each of ``sources``."""
        return {
            source.name: make_row_tokenizer(
                kind=source.settings.tokenizer,
                width=checkpoint.width,
                weights_path=source.settings.tokenizer_weights,
                count=NUMBERS,
                prefix=source.settings.prefix,
            )
            for source in sources
        }

    @classmethod
    def layout_fields(
        cls, sources: Sequence[Any], settings: EncoderSettings, tokenizers: Mapping[str, Tokenizer]
    ) -> dict[str, Any]:
        """Return what the rays are given in."""
        return {
            "rays": tuple(
                LayoutRays(
                    name=source.name,
                    camera=source.settings.camera,
                    base_frame=source.base_frame,
                    pose=source.settings.pose,
                    translation_m=tuple(source.translation_m.tolist()),
                    quaternion_xyzw=tuple(source.quaternion_xyzw.tolist()),
                    tokenizer=tokenizers[source.name].kind,
                    tokenizer_sha256=tokenizers[source.name].weights_sha256,
                )
                for source in sources
            )
        }

    def token_rows(
        self, encoders: Sequence[EncoderGrid], tokenizers: Mapping[str, Tokenizer]
    ) -> tuple[TokenRows, ...]:
        """Return a row for each patch token of the camera, in their order."""
        return tuple(
            TokenRows(
                kind=KIND,
                count=encoder.grid[0] * encoder.grid[1],
                grid=encoder.grid,
                embedded=False,
                encoder=encoder.name,
            )
            for encoder in encoders
        )

    def token_groups(self, frame: FrameInputs) -> list[TokenGroup]:
        """Return the rays of each encoder's patches; patches without one are masked."""
        tokenizer: Any = frame.tokenizers[self.name]
        groups = []
        for index, encoder in enumerate(frame.encoders):
            count = encoder.grid[0] * encoder.grid[1]
            tokens = np.zeros((count, tokenizer.width), np.float32)
            valid: bool | np.ndarray = False
            why = None
            try:
                rays = self._rays_of(index, self._view(frame))
                tokens = self._encoded(index, rays, tokenizer, frame)
                valid = np.isfinite(rays.forward).all(axis=1)
            except BadInput as error:
                why = error
            groups.append(
                TokenGroup(
                    kind=KIND,
                    source=self.name,
                    tokens=tokens,
                    valid=valid,
                    grid=encoder.grid,
                    embedded=False,
                    encoder=encoder.name,
                    why=why,
                )
            )
        return groups

    def _view(self, frame: FrameInputs) -> CameraView:
        camera = self.settings.camera
        if camera not in frame.views:
            raise BadInput("no_image", f"camera {camera} has no image; accepted: one")
        return frame.views[camera]

    def _rays_of(self, index: int, camera: CameraView) -> PatchRays:
        """Return the rays of the encoder ``index``, which are made anew when something changes."""
        if isinstance(camera.calibration, BadInput):
            raise camera.calibration
        made_of: tuple[PatchView, Any] = (camera.views[index], camera.calibration)
        known = self._rays.get(index)
        if known is None or known[0] != made_of:
            self._rays[index] = known = (made_of, patch_rays(*made_of))
        return known[1]

    def _encoded(
        self, index: int, rays: PatchRays, tokenizer: RowTokenizer, frame: FrameInputs
    ) -> np.ndarray:
        moves = bool(self.settings.pose)
        known = self._tokens.get(index)
        if not moves and known is not None and known[0] is rays:
            return known[1]
        rotation, origin_m = self._pose_of_camera(frame)
        numbers = plucker(rays.directions, rotation, origin_m)
        # What is masked must not be NaN: it would be refused as an engine's failure.
        tokens = tokenizer.encode_rows(np.nan_to_num(numbers, nan=0.0))
        if not moves:
            self._tokens[index] = rays, tokens
        return tokens

    def _pose_of_camera(self, frame: FrameInputs) -> tuple[np.ndarray, np.ndarray]:
        """Return rotation (3, 3) and position (3,) in m of the optical frame in the base frame."""
        arm = self.settings.pose
        if not arm:
            return self._rotation, self.translation_m
        sample = frame.samples[arm]
        if sample.value is None:
            raise BadInput(
                "no_pose",
                f"no pose of {arm} at the image: {how_far(sample.nearest_ns)}; accepted: one "
                f"within poses.{arm}.max_skew_s",
            )
        of_arm = rotation_matrix(sample.value.quaternion_xyzw)
        origin_m = of_arm @ self.translation_m + sample.value.position_m
        return of_arm @ self._rotation, origin_m
