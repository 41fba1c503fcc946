"""Does the monitor see what it should, and is it silent where nothing has changed?

    python benchmarks/monitor_bench.py --reference reference --cache monitor_tokens

The demo recording, which the reference has not seen, is changed in known ways (moved and turned
camera, blur, dirt, less light, a hand, another object), encoded, and judged in windows of 2 s by
the code of the node with its default limits. ``--loop`` is a folder of features of the simulator's
demonstrations (tools/closed_loop): seeds that were not learnt from have to raise no alarm.

With ``--features`` and ``--basis`` it is measured instead what the forms of docs/thin_link.md cost
(benchmarks/monitor_forms.py):

    python benchmarks/monitor_bench.py --reference reference --cache monitor_tokens \
        --features features --basis basis_128.safetensors basis_64.safetensors

Encoded tokens are kept in ``--cache`` as float16, one file a variant and camera: the command goes
on where it was stopped.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed

from benchmarks.monitor_changes import CHANGES, MOVES, changed, frames_of
from benchmarks.monitor_forms import Monitors, Tokens, form_cases, forms_table
from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.config.offline_settings import settings_of_parameters
from vit_perception.datasets.reference.learn import learn_camera, parts_of
from vit_perception.datasets.reference.turned import ANGLES_DEG, turned
from vit_perception.pipeline.monitor.load import monitor_of
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.pipeline.monitor.reference import View
from vit_perception.pipeline.monitor.window import ChangeWindow, Finding
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.records import RgbImage

PERIOD_NS = 50_000_000  # of the demo recording
# Every 15th frame is changed; of the unchanged ones every 4th is taken, as frames and as windows of
# every 16th.
EVERY, NORMAL_EVERY, NORMAL_STRIDE = 15, 4, 4
SETTINGS = MonitorSettings()
RESULTS = Path("benchmarks/results")
# Of the simulator's seeds, those that are learnt from; no number is from the others.
LOOP_LEARNT = {"seeds 0 to 39": range(40), "seeds 20 to 59": range(20, 60)}


@dataclass
class Encoder:
    """Encodes variants of the recording, once each."""

    pipeline: Pipeline
    frames: dict[str, list[RgbImage]]
    cache: Path
    encode_s: float = 0.0  # CPU time of all threads
    encoded: int = 0

    def tokens(self, variant: str) -> dict[str, np.ndarray]:
        """Return the patch tokens (frames, P, D) of each camera."""
        names = {
            camera: self.cache / f"{variant.replace(' ', '_')}_{camera}.npy"
            for camera in self.frames
        }
        if not all(path.exists() for path in names.values()):
            every = NORMAL_EVERY if variant == "normal" else EVERY
            rows: dict[str, list[np.ndarray]] = {camera: [] for camera in self.frames}
            for number, at in enumerate(range(0, len(next(iter(self.frames.values()))), every)):
                images = {
                    camera: changed(images[at], variant, number)
                    for camera, images in self.frames.items()
                }
                prepared = self.pipeline.prepare(images)
                started_s = time.process_time()
                output = self.pipeline.encode(prepared)
                self.encode_s += time.process_time() - started_s
                self.encoded += 1
                for row, camera in enumerate(self.pipeline.settings.cameras):
                    rows[camera.name].append(output.patch_tokens[row].astype(np.float16))
            for camera, path in names.items():
                np.save(path, np.stack(rows[camera]))
            print(f"encoded: {variant}", flush=True)
        return {camera: np.load(path).astype(np.float32) for camera, path in names.items()}

    def turned(self, recording: Path, camera: str) -> list[tuple[float, np.ndarray]]:
        """Return angles and patch tokens of the pictures that show the gain of a reference."""
        path = self.cache / f"turned_{recording.name}_{camera}.npy"
        if not path.exists():
            rows = [row for _, row in turned(self.pipeline, recording, camera)]
            np.save(path, np.stack(rows).astype(np.float16))
            print(f"encoded: turned pictures of {camera}", flush=True)
        tokens = np.load(path).astype(np.float32)
        return [(ANGLES_DEG[n % len(ANGLES_DEG)], row) for n, row in enumerate(tokens)]


def windows(monitor: CameraMonitor, changes: list, period_ns: int) -> Iterator[Finding]:
    """Yield what each window of 2 s says that is long enough to be judged."""
    window = ChangeWindow(monitor.reference)
    for number, change in enumerate(changes):
        window.add((number + 1) * period_ns, change, SETTINGS.window_s)
        finding = window.finding(SETTINGS)
        if finding.score == finding.score:
            yield finding


def auroc(normal: list[float], changed: list[float]) -> float:
    """Return how often a changed window has the higher alarm, ties half."""
    low, high = np.array(normal)[:, None], np.array(changed)
    return float((low < high).mean() + 0.5 * (low == high).mean())


def variant_row(variant: str, changes: list, normal: list[float], monitor: CameraMonitor) -> dict:
    """Return what was measured of one variant on one camera."""
    found = list(windows(monitor, changes, EVERY * PERIOD_NS))
    row = {
        "variant": variant,
        "frames": len(changes),
        "windows": len(found),
        "auroc": round(auroc(normal, [each.alarm for each in found]), 4),
        "alarms": round(float(np.mean([each.level != "ok" for each in found])), 3),
        "score": round(float(np.median([change.score for change in changes])), 2),
    }
    shifts = [change.shift for change in changes if change.shift]
    if variant in MOVES and shifts:
        x_px, y_px, rotation_deg = MOVES[variant]
        errors = [np.hypot(shift.x_px - x_px, shift.y_px - y_px) for shift in shifts]
        turns = [abs(shift.rotation_deg - rotation_deg) for shift in shifts]
        row |= {
            "found": round(len(shifts) / len(changes), 3),
            "error_px_median": round(float(np.median(errors)), 2),
            "error_px_worst": round(float(max(errors)), 2),
            "rotation_error_deg_median": round(float(np.median(turns)), 2),
            "rotation_error_deg_worst": round(float(max(turns)), 2),
        }
    return row


def demo(tokens: Tokens, monitors: Monitors) -> dict:
    """Measure every variant of the demo recording."""
    result = {}
    for camera, monitor in monitors.items():
        started_s = time.process_time()
        normal = [monitor(each) for each in tokens["normal"][camera]]
        monitor_ms = 1e3 * (time.process_time() - started_s) / len(normal)
        all_windows = list(windows(monitor, normal, NORMAL_EVERY * PERIOD_NS))
        thin = [
            each.alarm
            for phase in range(NORMAL_STRIDE)
            for each in windows(
                monitor, normal[phase::NORMAL_STRIDE], NORMAL_STRIDE * NORMAL_EVERY * PERIOD_NS
            )
        ]
        rows = [
            variant_row(variant, [monitor(each) for each in rows[camera]], thin, monitor)
            for variant, rows in tokens.items()
            if variant != "normal"
        ]
        view = monitor.reference.view
        result[camera] = {
            "has_background": monitor.reference.has_background,
            "static_patches": int(monitor.reference.static.sum()),
            "patch_px": round(view.patch_size_px / view.scale[1], 2),
            "rotation_gain": round(monitor.reference.rotation_gain, 2),
            "monitor_cpu_ms": round(monitor_ms, 2),
            "normal_windows": len(all_windows),
            "false_alarms": round(float(np.mean([w.level != "ok" for w in all_windows])), 4),
            "normal_alarm_highest": round(max(each.alarm for each in all_windows), 3),
            "variants": rows,
        }
    return result


def loop(folder: Path, seeds: range) -> dict:
    """Measure false alarms on the simulator's seeds other than ``seeds``, which are learnt from."""
    files = FeatureFiles(folder)
    layout = files.layouts[-1]
    episode = files.episode
    learnt = np.flatnonzero(np.isin(episode, seeds))
    others = [int(number) for number in np.unique(episode) if number not in seeds]
    learn, held_out = (learnt[part] for part in parts_of(episode[learnt]))
    result = {}
    for camera in layout.cameras:
        group = layout.group(f"{camera.name}/patch")

        def tokens(rows: np.ndarray, group=group) -> Iterator[np.ndarray]:
            for row in rows:
                every = files.row(int(row), ("tokens",))["tokens"]
                yield every[group.start : group.stop].astype(np.float32)

        reference, _ = learn_camera(
            camera.name,
            View.of(camera, group.grid),
            lambda tokens=tokens: tokens(learn),
            lambda tokens=tokens: tokens(held_out),
        )
        monitor = CameraMonitor(reference)
        found: list[Finding] = []
        for number in others:
            rows = np.flatnonzero(episode == number)
            window = ChangeWindow(reference)
            for stamp_ns, each in zip(files.stamp_ns[rows], tokens(rows)):
                window.add(int(stamp_ns), monitor(each), SETTINGS.window_s)
                finding = window.finding(SETTINGS)
                if finding.score == finding.score:
                    found.append(finding)
        result[camera.name] = {
            "seeds_learnt": len(seeds),
            "seeds_tested": len(others),
            "static_patches": int(reference.static.sum()),
            "windows": len(found),
            "false_alarms": round(float(np.mean([each.level != "ok" for each in found])), 4),
            "alarm_highest": round(max(each.alarm for each in found), 3),
            "says": sorted({each.says for each in found if each.level != "ok"})[:5],
        }
    return result


def write(path: Path, result: dict) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--params", type=Path, default=Path("config/demo.yaml"))
    parser.add_argument("--bag", type=Path, default=Path("data/demo/pick_place_demo"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--loop", type=Path, help="features of the simulator's demonstrations")
    parser.add_argument("--features", type=Path, help="float32 features that were learnt from")
    parser.add_argument(
        "--basis", type=Path, nargs="+", default=[], help="measure forms, with them"
    )
    parser.add_argument(
        "--recording", type=Path, default=Path("data/demo/pick_place_train"), help="of the features"
    )
    parser.add_argument("--out", type=Path, help="default: in benchmarks/results")
    args = parser.parse_args()
    if bool(args.features) != bool(args.basis):
        parser.error("--features and --basis belong together")
    args.cache.mkdir(parents=True, exist_ok=True)
    settings = settings_of_parameters(args.params)
    settings = replace(
        settings,
        poses=(),
        engine=replace(settings.engine, threads=1),
        monitor=MonitorSettings(str(args.reference)),
    )
    pipeline = Pipeline.open(settings)
    try:
        monitor = monitor_of(settings, pipeline.parts.encoders)
        topics = {camera.name: camera.topic for camera in settings.cameras}
        encoder = Encoder(pipeline, frames_of(args.bag, topics), args.cache)
        tokens = {variant: encoder.tokens(variant) for variant in ("normal", *MOVES, *CHANGES)}
        result = {"model": pipeline.card.name, "engine": pipeline.what_runs()}
        if args.basis:
            gain_on = partial(encoder.turned, args.recording)
            learnt = monitor.cameras, args.features, args.basis, gain_on
            result["cases"] = form_cases(demo, tokens, *learnt)
        else:
            result["demo"] = demo(tokens, monitor.cameras)
    finally:
        pipeline.close()
    if args.basis:
        write(args.out or RESULTS / "monitor_forms.json", result)
        print(forms_table(result))
        return
    if encoder.encoded:
        encode_ms = 1e3 * encoder.encode_s / encoder.encoded
        monitor_ms = sum(each["monitor_cpu_ms"] for each in result["demo"].values())
        result["cost"] = {
            "encoder_cpu_ms": round(encode_ms, 1),
            "monitor_cpu_ms": round(monitor_ms, 2),
            "share": round(monitor_ms / encode_ms, 4),
            "frames": encoder.encoded,
        }
    if args.loop:
        result["loop"] = {name: loop(args.loop, seeds) for name, seeds in LOOP_LEARNT.items()}
    write(args.out or RESULTS / "monitor.json", result)
    for camera, each in result["demo"].items():
        print(camera, {k: v for k, v in each.items() if k != "variants"})
        for row in each["variants"]:
            print("  ", row)
    print(result.get("cost"), result.get("loop"))


if __name__ == "__main__":
    main()
