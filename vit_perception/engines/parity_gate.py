"""The parity gate: before an engine may run, its features are compared with the float32 model's.

Half precision, a compiler's fusion or a wrong graph can change features without an error. The
comparison uses natural images, because noise hides differences that real images show.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_perception.image.opencv import cv2
from vit_perception.wire.records import ENCODER_ARRAYS, EncoderOutput, RgbImage

if TYPE_CHECKING:
    from vit_perception.image.preprocess import Preprocessor

PICTURES = Path(__file__).parent / "parity_pictures"


@dataclass(frozen=True)
class ParityLimits:
    """What an engine has to reach, in the figures of :class:`ParityReport`."""

    # Lower bound of the CLS cosine and the mean patch cosine.
    min_cosine: float = 0.999
    # Upper bound for tokens and logits: the cosine does not see their scale.
    relative_l2: float = 0.05
    # Upper bound for the CLS attention. Its largest entries differ more in half precision: 0.01 to
    # 0.03 is usual with bfloat16.
    attention_l2: float = 0.2

    @classmethod
    def for_precision(cls, precision: str, min_cosine: float = 0.0) -> "ParityLimits":
        """Return the limits of ``precision``; a ``min_cosine`` above 0 replaces its default.

        float32 has the limits of half precision: there they catch a wrong graph, not rounding.
        """
        limits = cls()
        if precision == "int8":
            limits = cls(min_cosine=0.99, relative_l2=0.15, attention_l2=0.5)
        return replace(limits, min_cosine=min_cosine) if min_cosine > 0 else limits

    @property
    def worst_patch_cosine(self) -> float:
        """Lower bound of a single patch, which may be ten times as far from 1 as the mean."""
        return 1 - 10 * (1 - self.min_cosine)


@dataclass(frozen=True)
class ParityReport:
    """How far an engine is from the reference. Every figure is the worst image's.

    An L2 figure is ‖engine − reference‖ / ‖reference‖.
    """

    cls_cosine: float
    # Mean over an image's patches.
    patch_cosine: float
    # Lowest of all patches.
    worst_patch_cosine: float
    tokens_l2: float
    # Of the CLS attention.
    attention_l2: float
    # None without a head.
    logits_l2: float | None
    # Whether every value of every output is finite.
    finite: bool
    # Number of images.
    pictures: int
    # Of the worst block that a dense head takes; None without such a head.
    blocks_l2: float | None = None

    @property
    def min_cosine(self) -> float:
        """The lower of CLS cosine and mean patch cosine, which ``engine.min_cosine`` bounds."""
        return min(self.cls_cosine, self.patch_cosine)

    def failures(self, limits: ParityLimits) -> list[str]:
        """Return one sentence for each figure that misses ``limits``; [] if the engine passes."""
        if not self.finite:
            return ["an output holds NaN or infinity"]
        at_least = (
            ("CLS cosine", self.cls_cosine, limits.min_cosine),
            ("mean patch cosine", self.patch_cosine, limits.min_cosine),
            ("worst patch cosine", self.worst_patch_cosine, limits.worst_patch_cosine),
        )
        at_most = (
            ("relative L2 of the tokens", self.tokens_l2, limits.relative_l2),
            ("relative L2 of the CLS attention", self.attention_l2, limits.attention_l2),
            ("relative L2 of the logits", self.logits_l2, limits.relative_l2),
            ("relative L2 of the dense head's tokens", self.blocks_l2, limits.relative_l2),
        )
        return [
            f"{name} {value:.5f} is below {limit:.5g}"
            for name, value, limit in at_least
            if not value >= limit
        ] + [
            f"{name} {value:.4f} is above {limit:.4g}"
            for name, value, limit in at_most
            if value is not None and not value <= limit
        ]

    def __str__(self) -> str:
        logits = "" if self.logits_l2 is None else f", logits {self.logits_l2:.4f}"
        logits += "" if self.blocks_l2 is None else f", dense head's tokens {self.blocks_l2:.4f}"
        return (
            f"CLS cosine {self.cls_cosine:.5f}, mean patch {self.patch_cosine:.5f}, worst patch "
            f"{self.worst_patch_cosine:.5f}; relative L2 of tokens {self.tokens_l2:.4f}, CLS "
            f"attention {self.attention_l2:.4f}{logits}; worst of {self.pictures} pictures"
            f"{'' if self.finite else '; NOT FINITE'}"
        )


def parity_batch(preprocessor: "Preprocessor", batch: int) -> np.ndarray:
    """Return the packaged images, preprocessed: (n, 3, H, W) uint8.

    n is the lowest multiple of ``batch`` that holds all. Further slots hold mirrored images. Up to
    16 slots, no two are equal, so an engine that mixes up its slots is caught.
    """
    sources = [
        cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        for path in sorted(PICTURES.glob("*.jpg"))
    ]
    count = -(-len(sources) // batch) * batch
    images = []
    for index in range(count):
        flips, picture = divmod(index, len(sources))
        pixels = sources[picture][:: -1 if flips & 2 else 1, :: -1 if flips & 1 else 1]
        rgb = RgbImage(np.ascontiguousarray(pixels), stamp_ns=0, frame_id="parity")
        images.append(preprocessor(rgb).numpy())
    return np.stack(images)


def run_batches(infer, images: np.ndarray, batch: int) -> EncoderOutput:
    """Call an engine's ``infer`` on ``images`` (n, 3, H, W) in n / batch runs; join the outputs."""
    runs = []
    for start in range(0, len(images), batch):
        output = infer(images[start : start + batch])
        runs.append(
            [
                None if a is None else a.copy()
                for a in (
                    output.cls_token,
                    output.patch_tokens,
                    output.cls_attention,
                    output.logits,
                    output.block_tokens,
                )
            ]
        )
    return EncoderOutput(
        *(None if parts[0] is None else np.concatenate(parts) for parts in zip(*runs))
    )


def measure(engine: EncoderOutput, reference: EncoderOutput) -> ParityReport:
    """Compare the outputs for the same n images.

    Raises:
        ValueError: A shape differs.
    """
    pairs = {name: (getattr(engine, name), getattr(reference, name)) for name in ENCODER_ARRAYS}
    for name, (ours, theirs) in pairs.items():
        if np.shape(ours) != np.shape(theirs):
            raise ValueError(f"{name} has shape {np.shape(ours)}, the reference {np.shape(theirs)}")
    patch_cosines = _cosine(*pairs["patch_tokens"])  # (n, P)
    return ParityReport(
        cls_cosine=float(_cosine(*pairs["cls_token"]).min()),
        patch_cosine=float(patch_cosines.mean(axis=1).min()),
        worst_patch_cosine=float(patch_cosines.min()),
        tokens_l2=max(_relative_l2(*pairs["cls_token"]), _relative_l2(*pairs["patch_tokens"])),
        attention_l2=_relative_l2(*pairs["cls_attention"]),
        logits_l2=None if reference.logits is None else _relative_l2(*pairs["logits"]),
        finite=all(bool(np.isfinite(ours).all()) for ours, _ in pairs.values() if ours is not None),
        pictures=len(reference.cls_token),
        blocks_l2=None
        if reference.block_tokens is None
        else max(
            _relative_l2(ours, theirs)
            for ours, theirs in zip(*(np.moveaxis(x, 1, 0) for x in pairs["block_tokens"]))
        ),
    )


def _cosine(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the cosine over the last axis, in float64; 0 if a vector is zero."""
    ours = ours.astype(np.float64)
    theirs = theirs.astype(np.float64)
    norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    with np.errstate(invalid="ignore"):  # infinities have their own figure, `finite`
        return (ours * theirs).sum(axis=-1) / np.maximum(norms, np.finfo(np.float64).tiny)


def _relative_l2(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the worst image's ‖ours − theirs‖ / ‖theirs‖, over all axes except the first."""
    ours, theirs = (x.reshape(len(x), -1).astype(np.float64) for x in (ours, theirs))
    norms = np.maximum(np.linalg.norm(theirs, axis=1), np.finfo(np.float64).tiny)
    return float((np.linalg.norm(ours - theirs, axis=1) / norms).max())
