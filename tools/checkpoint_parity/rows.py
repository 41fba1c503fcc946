"""One row of the table, and the comparison that fills it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

import vit_perception.engines
from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import RgbImage

# What "equal" means: the largest absolute difference of any number, and the mean one of the pixels.
LARGEST_DIFFERENCE, LARGEST_PIXEL_DIFFERENCE = 1e-4, 1.0
# (height, width): smaller and larger than a network's input, upright and wide, and no multiples of
# anything.
ODD_SIZES_PX = ((480, 640), (333, 501), (501, 333), (97, 143), (719, 1281))
_PICTURES = Path(vit_perception.engines.__file__).parent / "parity_pictures"


@dataclass(frozen=True)
class Row:
    """What was compared with what. ``tokens`` and ``logits`` are largest absolute differences,
    ``preprocessing`` the largest mean one of any picture, in 1/255 of the pixels' range; None: not
    compared, and ``note`` says why.

    ``load_s`` and ``origin_load_s`` are the seconds from the file to a model.
    """

    family: str
    what: str
    origin: str
    tokens: float | None = None
    logits: float | None = None
    preprocessing: float | None = None
    load_s: float | None = None
    origin_load_s: float | None = None
    note: str = ""

    def faults(self) -> list[str]:
        """What is out of bounds, NaN too; a row that compares neither tokens nor logits is a
        fault.
        """
        bounds = {
            "tokens": LARGEST_DIFFERENCE,
            "logits": LARGEST_DIFFERENCE,
            "preprocessing": LARGEST_PIXEL_DIFFERENCE,
        }
        given = {name: getattr(self, name) for name in bounds if getattr(self, name) is not None}
        nothing = (
            []
            if given.keys() & {"tokens", "logits"}
            else ["neither tokens nor logits were compared"]
        )
        return nothing + [
            f"{name} {value:.2e} > {bounds[name]:g}"
            for name, value in given.items()
            if not value <= bounds[name]
        ]


# Normalised images (B, 3, H, W) float32 -> arrays by ViTOutput's names (cls_token, patch_tokens,
# pooled, logits), or "projected", pooled in the space that CLIP shares with texts.
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Origin:
    """The other implementation, with the weights of the file: ``name`` with its version;
    ``preprocess`` takes a picture to normalised (3, H, W) float32; ``load_s`` is how long it took
    from the file to the model.
    """

    name: str
    run: Run | None = None
    preprocess: Callable[[Image.Image], np.ndarray] | None = None
    load_s: float | None = None


@cache
def pictures() -> list[np.ndarray]:
    """The package's own parity pictures, (H, W, 3) uint8 RGB."""
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(_PICTURES.glob("*.jpg"))]


@cache
def odd_pictures() -> list[np.ndarray]:
    """The pictures in the sizes of ``ODD_SIZES_PX``."""
    return [
        np.ascontiguousarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
        for picture, (height, width) in zip(pictures() * 2, ODD_SIZES_PX)
    ]


def rgb_image(pixels: np.ndarray) -> RgbImage:
    """``pixels`` (H, W, 3) as the package's type of image."""
    return RgbImage(pixels, 0, "")


def normalised(
    loaded: LoadedModel, size_px: tuple[int, int] | None = None, count: int = 2
) -> np.ndarray:
    """``count`` pictures as the model sees them, (B, 3, H, W) float32; cut to ``size_px`` instead
    of the network's.
    """
    card = loaded.card
    if size_px is None:
        pixels = [Preprocessor(card.rule)(rgb_image(p)).numpy() for p in pictures()[:count]]
    else:
        pixels = [
            cv2.resize(p, size_px[::-1], interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
            for p in pictures()[:count]
        ]
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (card.mean, card.std))
    return ((np.stack(pixels).astype(np.float32) / 255 - mean) / std).astype(np.float32)


def compare(
    family: str,
    what: str,
    checkpoint: Path,
    origin: Origin,
    note: str = "",
    sizes_px: Sequence[tuple[int, int]] = (),
    warm: bool = True,
) -> Row:
    """Load ``checkpoint`` here, run both on the same pixels and subtract.

    ``sizes_px`` are (height, width) of further inputs, for position embeddings on other grids;
    ``warm`` loads twice and counts the second time, as ``timed`` does for the origin.
    """
    loaded, load_s = timed(lambda: load_checkpoint(str(checkpoint)), warm)
    if loaded.card.family != family:
        raise ValueError(f"{checkpoint} was read as {loaded.card.family}, not as {family}")
    tokens, logits = [], []
    for size_px in (None, *sizes_px) if origin.run is not None else ():
        images = normalised(loaded, size_px)
        with torch.inference_mode():
            ours = loaded.model(torch.from_numpy(images))
            if loaded.connector is not None:
                grid = loaded.model.config.grid_of(*images.shape[2:])
                connected = loaded.connector(ours.patch_tokens, grid)
                ours = ours._replace(patch_tokens=connected / loaded.connector.spec.scale)
        for name, theirs in origin.run(images).items():
            mine = (
                ours.pooled.numpy() @ loaded.projection.T
                if name == "projected"
                else getattr(ours, name).numpy()
            )
            theirs = np.asarray(theirs)
            if mine.shape != theirs.shape:
                raise ValueError(
                    f"{family} {what}: {name} is {mine.shape} here and {theirs.shape} there"
                )
            (logits if name in ("logits", "projected") else tokens).append(
                float(np.abs(mine - theirs).max())
            )
    pixel_difference = (
        preprocessing_difference(loaded, origin.preprocess) if origin.preprocess else None
    )
    return Row(
        family,
        what,
        origin.name,
        max(tokens, default=None),
        max(logits, default=None),
        pixel_difference,
        load_s,
        origin.load_s,
        note,
    )


def preprocessing_difference(
    loaded: LoadedModel, preprocess: Callable[[Image.Image], np.ndarray]
) -> float:
    """The largest mean absolute difference over the odd pictures, in 1/255."""
    card, worst = loaded.card, 0.0
    mean, std = (np.array(v, np.float64)[:, None, None] for v in (card.mean, card.std))
    preprocessor = Preprocessor(card.rule)
    for picture in odd_pictures():
        mine = preprocessor(rgb_image(picture)).numpy().astype(np.float64)
        theirs = (np.asarray(preprocess(Image.fromarray(picture)), np.float64) * std + mean) * 255
        if mine.shape != theirs.shape:
            raise ValueError(
                f"{card.name}: preprocessing gives {mine.shape} here and {theirs.shape} there"
            )
        worst = max(worst, float(np.abs(mine - theirs).mean()))
    return worst


def timed(load: Callable, warm: bool = True) -> tuple:
    """What ``load`` gives, and how many seconds it took; the second time where ``warm``, so that
    imports are done.
    """
    if warm:
        load()
    start = time.perf_counter()
    return load(), time.perf_counter() - start


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter off its initial value, so that none that is lost goes unseen. In evaluation
    mode.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model.eval()
