"""What the demo collected, as numbers, a verdict and a picture."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vit_perception.files.atomic import write_whole
from vit_perception.image.decode import decode_compressed
from vit_perception.image.preprocess import Preprocessor
from vit_perception.recordings.reader import BagReader
from vit_perception.viewing.contact_sheet import CameraPanel, SheetRow, draw_sheet
from vit_perception.viewing.pose_map import ArmPath, HandPose
from vit_perception.wire.stamps import stamp_ns_of

IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
POSE_TYPE = "geometry_msgs/msg/PoseStamped"
ROWS = 6


class SentLog:
    """The player's log, read while it grows: when each image was handed to DDS."""

    def __init__(self, path: Path):
        self.path = path
        self.images = 0
        self._first_ns: dict[int, int] = {}
        self._offset = 0

    def read(self) -> dict[int, int]:
        """Return the wall clock in ns at which the first image of each stamp was sent."""
        if self.path.exists():
            with open(self.path, encoding="utf-8") as file:
                file.seek(self._offset)
                # The last line may be half written: it is read again next time.
                lines = (text := file.read())[: text.rfind("\n") + 1]
                self._offset = self._offset + text.rfind("\n") + 1
            for entry in map(json.loads, lines.splitlines()):
                if entry["topic"].endswith("compressed"):
                    self.images += 1
                    self._first_ns.setdefault(entry["stamp_ns"], entry["sent_ns"])
        return self._first_ns


@dataclass
class DemoRun:
    """One replay: labels, when each image was sent, and what the node published and counted."""

    # The recording that is replayed.
    bag_path: Path
    # When each image was sent.
    sent: SentLog
    # Image and pose topics, sorted.
    topics: list[str]
    # The bag's first time of recording, and its length.
    start_ns: int
    duration_s: float
    # The true stage by time of recording in ns.
    stages: dict[int, str]
    # What was received, by stamp in ns.
    frames: dict = field(default_factory=dict)
    # The latest layout; None before the first one.
    layout: object = None
    # The node's counters by camera, from its latest diagnostics.
    accounts: dict[str, Counter] = field(default_factory=dict)
    # Skew of poses, as the diagnostics say it.
    skew_ms: str = ""

    @classmethod
    def of(cls, bag: BagReader, sent: Path) -> "DemoRun":
        """Read what is known before the replay starts."""
        stages = {stamp_ns: m.data for _, stamp_ns, m in bag.messages(["/task_stage"])}
        rows = bag.topics.values()
        topics = [t.name for t in rows if t.type_name in (IMAGE_TYPE, POSE_TYPE)]
        return cls(
            bag.path,
            SentLog(sent),
            sorted(topics),
            bag.start_ns,
            (bag.end_ns - bag.start_ns) / 1e9,
            stages,
        )

    def line(self, count: int, stamp_ns: int, frame) -> str:
        """The live line: frame, predicted stage with score, pose, latency."""
        stage = "{} {:.2f}".format(*best_class(frame.classes)) if frame.classes else "no stage"
        position = [p.pose.position for p in frame.poses.values()]
        pose = (
            f"({position[0].x:+.3f}, {position[0].y:+.3f}, {position[0].z:+.3f}) m"
            if position
            else "no pose"
        )
        sent_ns = self.sent.read().get(stamp_ns)
        latency = f"{(frame.received_ns - sent_ns) / 1e6:.0f} ms" if sent_ns else ""
        return f"frame {count:>3}  {stage:<10}  pose {pose}  {latency}"

    def is_settled(self, watcher) -> bool:
        """Whether the node's last report has every image sent, and none pending."""
        self.collect(watcher)
        received = sum(a["received"] for a in self.accounts.values())
        self.sent.read()
        return received == self.sent.images and not any(
            a["pending"] for a in self.accounts.values()
        )

    def collect(self, watcher) -> None:
        """Take what the watcher has received."""
        from vit_perception.ros.diagnostics import parse_accounts

        self.layout = watcher.layout
        self.frames = {s: f for s, f in watcher.frames.items() if f.received_ns}
        if watcher.diagnostics is not None:
            self.accounts = parse_accounts(watcher.diagnostics)
            values = [v for s in watcher.diagnostics.status for v in s.values]
            self.skew_ms = next((v.value for v in values if v.key == "skew_ms"), "")

    def latencies_ms(self) -> np.ndarray:
        """From sending the image until the tokens were received, for each published frame."""
        sent = self.sent.read()
        return np.array(
            [(f.received_ns - sent[s]) / 1e6 for s, f in sorted(self.frames.items()) if s in sent]
        )


def summarise(demo: DemoRun) -> dict:
    """The content of summary.json."""
    total = sum(demo.accounts.values(), Counter())
    latencies = demo.latencies_ms()
    layout = demo.layout
    skews = [float(x) for x in demo.skew_ms.split(" / ")] if demo.skew_ms else [None, None]
    cameras = [c.name for c in layout.cameras if c.labels]
    accuracy = {name: accuracy_of(demo, [name]) for name in cameras}
    return {
        "frames_sent": demo.sent.images,
        "frames_received": total["received"],
        "frames_published": total["published"],
        "frames_dropped": {
            k.removeprefix("dropped."): n for k, n in total.items() if k.startswith("dropped.")
        },
        "frames_pending": total["pending"],
        "groups_published": len(demo.frames),
        "latency_ms": {
            "p50": round(float(np.percentile(latencies, 50)), 1) if len(latencies) else None,
            "p99": round(float(np.percentile(latencies, 99)), 1) if len(latencies) else None,
        },
        "engine": {
            "runtime": layout.runtime,
            "precision": layout.precision,
            "min_cosine": layout.min_cosine,
        },
        "classification": {
            "accuracy": accuracy_of(demo, cameras),
            "accuracy_by_camera": accuracy,
            "labels": sorted(set(demo.stages.values())),
        },
        "pose_skew_ms": {"p50": skews[0], "max": skews[1]},
    }


def best_class(classes: dict[str, dict[str, float]]) -> tuple[str, float]:
    """Return the class with the highest mean of the cameras' scores, and that mean."""
    names = {name for scores in classes.values() for name in scores}
    mean = {
        name: sum(scores.get(name, 0.0) for scores in classes.values()) / len(classes)
        for name in sorted(names)
    }
    best = max(mean, key=mean.get)
    return best, mean[best]


def accuracy_of(demo: DemoRun, cameras: list[str]) -> float | None:
    """Return the share of frames whose stage is right, by the mean of these cameras' scores."""
    hits = [
        best_class({c: f.classes[c] for c in cameras})[0] == demo.stages[s]
        for s, f in demo.frames.items()
        if s in demo.stages and set(cameras) <= set(f.classes)
    ]
    return round(float(np.mean(hits)), 4) if hits else None


def failures(summary: dict) -> list[str]:
    """Return what the demo promises and this run did not keep."""
    found = []
    accounted = (
        summary["frames_published"]
        + sum(summary["frames_dropped"].values())
        + summary["frames_pending"]
    )
    if summary["frames_received"] < 0.99 * summary["frames_sent"]:
        found.append(
            f"{summary['frames_received']} of {summary['frames_sent']} frames were received"
        )
    if summary["frames_received"] != accounted:
        found.append(f"{summary['frames_received']} frames received, {accounted} accounted for")
    if not summary["groups_published"]:
        found.append("no tokens came")
    if (summary["classification"]["accuracy"] or 0) < 0.9:
        found.append(f"stage accuracy is {summary['classification']['accuracy']}, less than 0.9")
    return found


def write_sheet(demo: DemoRun, preprocess: Preprocessor, path: Path) -> None:
    """Write the contact sheet: frames spread over the replay, one panel per camera."""
    # Topics of one stamp come one by one: only frames of which everything came can be drawn.
    cameras = [c.name for c in demo.layout.cameras]
    whole = [
        s
        for s, f in sorted(demo.frames.items())
        if f.tokens is not None
        and set(cameras) <= set(f.attention)
        and set(cameras) <= set(f.classes)
        and s in demo.stages
    ]
    if not whole:
        return
    chosen = [whole[i] for i in np.linspace(0, len(whole) - 1, ROWS + 2).round().astype(int)[1:-1]]
    images = images_at(demo, set(chosen))
    rows = [
        SheetRow(
            (s - demo.start_ns) / 1e9,
            demo.stages[s],
            *best_class(demo.frames[s].classes),
            panels=tuple(
                panel(demo=demo, preprocess=preprocess, images=images, camera=c, stamp_ns=s)
                for c in cameras
            ),
            hands={name: hand_of(pose) for name, pose in demo.frames[s].poses.items()},
        )
        for s in chosen
    ]
    sheet = draw_sheet(
        rows, sheet_title(demo), time_is="time in the recording", paths=paths_of(demo)
    )
    write_whole(path, lambda file: sheet.save(file, "PNG"))


def sheet_title(demo: DemoRun) -> str:
    """Return what was replayed, through which model, on which engine."""
    layout = demo.layout
    return (
        f"What the robot sees: {demo.bag_path.name}, {layout.model} on {layout.runtime}, "
        f"{layout.precision}"
    )


def hand_of(message) -> HandPose:
    """Return a ``geometry_msgs/PoseStamped`` as arrays."""
    position = message.pose.position
    rotation = message.pose.orientation
    return HandPose(
        position_m=np.array([position.x, position.y, position.z]),
        quaternion_xyzw=np.array([rotation.x, rotation.y, rotation.z, rotation.w]),
    )


def paths_of(demo: DemoRun) -> dict[str, ArmPath]:
    """Return the path of each arm, by the poses that the node used."""
    seen: dict[str, list[tuple[float, np.ndarray]]] = {}
    for stamp_ns, frame in sorted(demo.frames.items()):
        for name, pose in frame.poses.items():
            time_s = (stamp_ns - demo.start_ns) / 1e9
            seen.setdefault(name, []).append((time_s, hand_of(pose).position_m))
    return {
        name: ArmPath(np.array([t for t, _ in row]), np.stack([p for _, p in row]))
        for name, row in seen.items()
    }


def images_at(demo: DemoRun, stamps_ns: set[int]) -> dict[tuple[str, int], np.ndarray]:
    """Return decoded images of the bag by (topic, stamp)."""
    with BagReader(demo.bag_path) as bag:
        topics = [t for t in demo.topics if bag.type_of(t) == IMAGE_TYPE]
        return {
            (topic, stamp_ns_of(m.header)): decode_compressed(m)
            for topic, _, m in bag.messages(topics)
            if stamp_ns_of(m.header) in stamps_ns
        }


def panel(
    demo: DemoRun, preprocess: Preprocessor, images: dict, camera: str, stamp_ns: int
) -> CameraPanel:
    """Return one camera of one frame, from what the node published and the bag's image."""
    frame = demo.frames[stamp_ns]
    # Of several encoders the first, whose attention and classes are beside it.
    group = next(
        g for g in demo.layout.groups if (g.source, g.kind, g.step) == (camera, "patch", 0)
    )
    image = images[f"/{camera}/image/compressed", stamp_ns]
    rgb = preprocess(image).permute(1, 2, 0).numpy()
    return CameraPanel(
        camera,
        rgb,
        frame.tokens[group.start : group.stop],
        group.grid,
        frame.attention[camera],
        *best_class({camera: frame.classes[camera]}),
    )
