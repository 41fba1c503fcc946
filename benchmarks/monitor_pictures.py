"""Draw the pictures of docs/monitor.md from the tokens that benchmarks/monitor_bench.py has kept.

    python benchmarks/monitor_pictures.py --reference reference --cache monitor_tokens

They show the demo recording from the camera ``agentview``: what the changes look like and what is
said of them, and the numbers over time where the camera is bumped in the middle.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed

from benchmarks.monitor_bench import (
    EVERY,
    NORMAL_EVERY,
    PERIOD_NS,
    SETTINGS,
)
from benchmarks.monitor_changes import changed, frames_of
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.pipeline.monitor.reference_file import load_reference

CAMERA = "agentview"
TOPIC = "/agentview/image/compressed"
SHOWN = (
    "normal",
    "shift 4 0 px",
    "rotation 3 degrees",
    "blur 2 px",
    "dirt",
    "light 0.5",
    "hand",
    "another object",
)
FRAME = 4  # of the changed ones
BUMP = "shift 8 0 px"


def tokens_of(cache: Path, variant: str) -> np.ndarray:
    """Return what the bench has encoded, (frames, P, D)."""
    name = f"{variant.replace(' ', '_')}_{CAMERA}.npy"
    return np.load(cache / name).astype(np.float32)


def draw_changes(path: Path, cache: Path, monitor: CameraMonitor, images: list) -> None:
    """Draw one frame of each change, with what the monitor says of it."""
    figure = Figure(figsize=(11, 5))
    axes = figure.subplots(2, 4)
    for axis, variant in zip(axes.flat, SHOWN):
        # Frame 60 of the recording is among the unchanged ones, too.
        number = FRAME * EVERY // NORMAL_EVERY if variant == "normal" else FRAME
        change = monitor(tokens_of(cache, variant)[number])
        axis.imshow(changed(images[FRAME * EVERY], variant, FRAME).pixels)
        shift = change.shift
        moved = (
            f"{shift.x_px:+.1f} {shift.y_px:+.1f} px, {shift.rotation_deg:+.1f}°"
            if shift
            else "no shift found"
        )
        axis.set_title(f"{variant}\nscore {change.score:.1f}; {moved}", fontsize=10)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=70, pil_kwargs={"quality": 85})


def draw_bump(path: Path, cache: Path, monitor: CameraMonitor) -> None:
    """Draw score and shift over time; in the middle the camera moves by eight pixels."""
    normal = [(k * NORMAL_EVERY, each) for k, each in enumerate(tokens_of(cache, "normal"))]
    bumped = [(k * EVERY, each) for k, each in enumerate(tokens_of(cache, BUMP))]
    middle = 75
    found = [
        (at * PERIOD_NS / 1e9, monitor(tokens))
        for at, tokens in [
            *((at, each) for at, each in normal if at < middle),
            *((at, each) for at, each in bumped if at >= middle),
        ]
    ]
    times = [time_s for time_s, _ in found]
    figure = Figure(figsize=(9, 4.4))
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.semilogy(times, [change.score for _, change in found], ".-", color="#0072B2")
    for limit, name in ((SETTINGS.novelty_warn, "WARN"), (SETTINGS.novelty_error, "ERROR")):
        upper.axhline(limit, color="#D55E00", linestyle=":")
        upper.annotate(name, (0, limit), fontsize=8, color="#D55E00", va="bottom")
    upper.set_ylabel("novelty score")
    shifts = [change.shift for _, change in found]
    for name, colour in (("x_px", "#0072B2"), ("y_px", "#009E73"), ("rotation_deg", "#CC79A7")):
        values = [getattr(shift, name) if shift else np.nan for shift in shifts]
        lower.plot(times, values, ".-", color=colour, label=name)
    lower.axhline(SETTINGS.shift_warn_px, color="#D55E00", linestyle=":")
    lower.annotate("WARN, px", (0, SETTINGS.shift_warn_px), fontsize=8, color="#D55E00")
    lower.set_ylabel("camera shift")
    lower.set_xlabel("time in s; the picture moves by 8 px to the right at 3.75 s")
    lower.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--bag", type=Path, default=Path("data/demo/pick_place_demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    monitor = CameraMonitor(load_reference(args.reference).cameras[CAMERA])
    images = frames_of(args.bag, {CAMERA: TOPIC})[CAMERA]
    draw_changes(args.out / "monitor_changes.jpg", args.cache, monitor, images)
    draw_bump(args.out / "monitor_bump.png", args.cache, monitor)


if __name__ == "__main__":
    main()
