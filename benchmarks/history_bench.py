"""What a history costs: memory, engine time and the time to put the sequence together.

    python benchmarks/history_bench.py      (two minutes)

The demo's DINOv2 ViT-S/14 with two cameras, frames 0.1 s apart. For each number of frames K in the
history (stride 0.1 s and 0.2 s) it prints

- runs: how often the engine ran per frame,
- infer, assemble: medians of the two stages over the frames, in ms; the settings take turns frame
  by frame, so that other work on the machine slows all of them,
- kept: the frames in the buffer, and the bytes of their tokens, and of one frame's.
"""

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed

from vit_perception.config.history_settings import HistorySettings
from vit_perception.config.settings import CameraSettings, EncoderSettings, ModelSettings
from vit_perception.pipeline.history import TokenHistory
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import RgbImage

PERIOD_NS = 100_000_000
START_NS = 1_000_000_000
CASES = {
    "off": HistorySettings(),
    "K 2, stride 0.1 s": HistorySettings(frames=2, stride_s=0.1),
    "K 4, stride 0.1 s": HistorySettings(frames=4, stride_s=0.1),
    "K 8, stride 0.1 s": HistorySettings(frames=8, stride_s=0.1),
    "K 4, stride 0.2 s": HistorySettings(frames=4, stride_s=0.2),
}


def kept_bytes(history: TokenHistory) -> int:
    """Return the bytes of all tokens in the buffer."""
    return sum(each.sequence.tokens.nbytes for each in history._kept)


def measured(checkpoint: str, frames: int) -> dict[str, dict[str, float]]:
    """Run ``frames`` frames through one pipeline, with the history of each case in turn."""
    cameras = (CameraSettings("left", "/left"), CameraSettings("right", "/right"))
    settings = EncoderSettings(cameras, model=ModelSettings(checkpoint))
    pipeline = Pipeline.open(settings)
    frame_bytes = 4 * pipeline.layout().token_count * pipeline.width
    histories = {
        name: TokenHistory(each.rule, frame_bytes=frame_bytes) for name, each in CASES.items()
    }
    runs = dict.fromkeys(CASES, 0)
    stages: dict[str, dict[str, list[float]]] = {
        name: {"infer": [], "assemble": []} for name in CASES
    }
    engine = pipeline.every_opened[0].engine
    infer = engine.infer
    current = ""

    def counted(batch):
        runs[current] += 1
        return infer(batch)

    engine.infer = counted
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, 480, 640, 3), np.uint8)
    for k in range(frames):
        stamp_ns = START_NS + k * PERIOD_NS
        for current, history in histories.items():
            pipeline.history = history
            pipeline.settings = replace(settings, history=CASES[current])
            images = {c.name: RgbImage(p, stamp_ns, c.name) for c, p in zip(cameras, pixels)}
            prepared = pipeline.prepare(images)
            result = pipeline.assemble(prepared, pipeline.encode(prepared), {})
            for stage, times in stages[current].items():
                times.append(result.stage_ms[stage])
    pipeline.close()
    return {
        name: {
            "runs": runs[name] / frames,
            **{stage: round(statistics.median(times), 3) for stage, times in of.items()},
            "kept_frames": histories[name].frames,
            "kept_bytes": kept_bytes(histories[name]),
            "frame_bytes": frame_bytes,
        }
        for name, of in stages.items()
    }


def main() -> int:
    """Print the table, or with ``--json`` the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo", help="as model.checkpoint (default: demo)")
    parser.add_argument("--frames", type=int, default=40, help="of each case (default: 40)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    rows = measured(arguments.checkpoint, arguments.frames)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'history':<18} {'runs':>5} {'infer ms':>9} {'assemble ms':>12} {'kept':>5} {'MiB':>6}")
    for name, row in rows.items():
        print(
            f"{name:<18} {row['runs']:>5.0f} {row['infer']:>9.1f} {row['assemble']:>12.2f} "
            f"{row['kept_frames']:>5} {row['kept_bytes'] / 2**20:>6.2f}"
        )
    print(f"one frame's tokens: {rows['off']['frame_bytes'] / 2**20:.2f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
