"""The rays of a camera's patches as a token source: one token for each patch, where it looks.

Parameters: ``ray_names``, and for each name ``rays.<name>.camera`` and where that camera is. A ray
is six numbers, its Plücker coordinates in the base frame
(:mod:`vit_perception.image.patches.rays`), and becomes a token as a pose does. If the camera has
depth images, the points that its patches see are a second group, of three numbers each. What is
missing is masked, row by row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_perception.config.checks import BadSetting
from vit_perception.config.ray_settings import POINTS, RAY, TOKEN_KINDS, RaySettings
from vit_perception.config.settings import CameraSettings, EncoderSettings
from vit_perception.image.patches.depth import patch_depths_m
from vit_perception.image.patches.rays import PatchRays, PatchView, patch_rays, plucker
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

# How many numbers a token is made of.
NUMBERS = {RAY: 6, POINTS: 3}
# The parameter with the weights of its tokenizer.
_WEIGHTS = {RAY: "tokenizer_weights", POINTS: "points_tokenizer_weights"}
_NOT_MOVED = (0.0, 0.0, 0.0)
_NOT_TURNED = (0.0, 0.0, 0.0, 1.0)


@register
class RaySource(DerivedSource):
    """The rays of one camera's patches, and the points that these see, in the base frame."""

    group = "rays"
    label = "rays"

    def __init__(self, settings: RaySettings, camera: CameraSettings, arm_frame: str = ""):
        super().__init__(settings)
        there = TOKEN_KINDS if camera.depth_topic else (RAY,)
        self.kinds = settings.tokens or there
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
            BadSetting: there is no such camera or arm, the arm has another base frame, or points
                and depth images do not belong together.
        """
        cameras = {camera.name: camera for camera in settings.cameras}
        arms = {arm.name: arm.expected_frame_id for arm in settings.poses}
        sources: list[TokenSource] = [
            cls(*_checked(rays, cameras, arms)) for rays in settings.group(cls.group)
        ]
        seen = {s.settings.camera for s in sources if isinstance(s, cls) and POINTS in s.kinds}
        for camera in cameras.values():
            if camera.depth_topic and camera.name not in seen:
                raise BadSetting(
                    f"{camera.prefix}depth_topic",
                    camera.depth_topic,
                    "'', or an entry of ray_names with this camera and the token points",
                )
        return sources

    @classmethod
    def tokenizers(
        cls, sources: Sequence[Any], settings: EncoderSettings, checkpoint: CheckpointTokens
    ) -> dict[str, Tokenizer]:
        """Return the tokenizers of each of ``sources``, by the name of the group."""
        return {
            f"{source.name}/{kind}": make_row_tokenizer(
                kind=source.settings.tokenizer,
                width=checkpoint.width,
                weights_path=getattr(source.settings, _WEIGHTS[kind]),
                count=NUMBERS[kind],
                parameter=f"{source.settings.prefix}tokenizer",
                weights_parameter=f"{source.settings.prefix}{_WEIGHTS[kind]}",
            )
            for source in sources
            for kind in source.kinds
        }

    @classmethod
    def layout_fields(
        cls, sources: Sequence[Any], settings: EncoderSettings, tokenizers: Mapping[str, Tokenizer]
    ) -> dict[str, Any]:
        """Return what the rays are given in."""
        sha256 = {name: tokenizer.weights_sha256 for name, tokenizer in tokenizers.items()}
        return {
            "rays": tuple(
                LayoutRays(
                    name=source.name,
                    camera=source.settings.camera,
                    base_frame=source.base_frame,
                    pose=source.settings.pose,
                    translation_m=tuple(source.translation_m.tolist()),
                    quaternion_xyzw=tuple(source.quaternion_xyzw.tolist()),
                    tokenizer=source.settings.tokenizer,
                    tokenizer_sha256=sha256.get(f"{source.name}/{RAY}", ""),
                    points_tokenizer_sha256=sha256.get(f"{source.name}/{POINTS}", ""),
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
                kind=kind,
                count=encoder.grid[0] * encoder.grid[1],
                grid=encoder.grid,
                embedded=False,
                encoder=encoder.name,
            )
            for encoder in encoders
            for kind in self.kinds
        )

    def token_groups(self, frame: FrameInputs) -> list[TokenGroup]:
        """Return the rows of each encoder's patches; patches without one are masked."""
        return [
            self._group(kind, index, frame)
            for index in range(len(frame.encoders))
            for kind in self.kinds
        ]

    def _group(self, kind: str, index: int, frame: FrameInputs) -> TokenGroup:
        tokenizer: Any = frame.tokenizers[f"{self.name}/{kind}"]
        encoder = frame.encoders[index]
        tokens = np.zeros((encoder.grid[0] * encoder.grid[1], tokenizer.width), np.float32)
        valid: bool | np.ndarray = False
        why = None
        make = self._ray_tokens if kind == RAY else self._point_tokens
        try:
            tokens, valid = make(index, tokenizer, frame)
        except BadInput as error:
            why = error
        return TokenGroup(
            kind=kind,
            source=self.name,
            tokens=tokens,
            valid=valid,
            grid=encoder.grid,
            embedded=False,
            encoder=encoder.name,
            why=why,
        )

    def _ray_tokens(
        self, index: int, tokenizer: RowTokenizer, frame: FrameInputs
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens and which are valid. Raises BadInput where there are none."""
        rays = self._rays_of(index, self._view(frame))
        valid = np.isfinite(rays.forward).all(axis=1)
        moves = bool(self.settings.pose)
        known = self._tokens.get(index)
        if not moves and known is not None and known[0] is rays:
            return known[1], valid
        numbers = plucker(rays.directions, *self._pose_of_camera(frame))
        # What is masked must not be NaN: it would be refused as an engine's failure.
        tokens = tokenizer.encode_rows(np.nan_to_num(numbers, nan=0.0))
        if not moves:
            self._tokens[index] = rays, tokens
        return tokens, valid

    def _point_tokens(
        self, index: int, tokenizer: RowTokenizer, frame: FrameInputs
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what :meth:`_ray_tokens` does, of points."""
        camera = self._view(frame)
        rays = self._rays_of(index, camera)
        rotation, origin_m = self._pose_of_camera(frame)
        if isinstance(camera.depth, BadInput):
            raise camera.depth
        points_m = rays.points_m(patch_depths_m(camera.depth, camera.views[index]))
        points_m = points_m @ rotation.T + origin_m
        valid = np.isfinite(points_m).all(axis=1)
        if not valid.any():
            raise BadInput("no_valid_depth", "no patch has a depth; accepted: depth above zero")
        return tokenizer.encode_rows(np.nan_to_num(points_m, nan=0.0)), valid

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


def _checked(
    rays: RaySettings, cameras: Mapping[str, CameraSettings], arms: Mapping[str, str]
) -> tuple[RaySettings, CameraSettings, str]:
    """Return ``rays``, their camera, and the base frame of their arm, of which ``arms`` has all."""
    if rays.camera not in cameras:
        named = f"one of camera_names: {', '.join(cameras)}"
        raise BadSetting(f"{rays.prefix}camera", rays.camera, named)
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
    camera = cameras[rays.camera]
    if POINTS in rays.tokens and not camera.depth_topic:
        raise BadSetting(
            f"{rays.prefix}tokens",
            list(rays.tokens),
            f"{RAY} alone: {camera.prefix}depth_topic is ''",
        )
    return rays, camera, arm_frame
