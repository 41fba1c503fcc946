"""Shared by all tests: a tiny checkpoint, and a ROS domain of this run's own."""

import fcntl
import json
import os
import signal
import tempfile
from pathlib import Path

import pytest

from vit_perception.cli.processes import use_large_data_profile
from vit_perception.files import telemetry

ROOT = Path(__file__).resolve().parent.parent
TRAIN_BAG, DEMO_BAG = (
    ROOT / "data/demo" / name for name in ("pick_place_train", "pick_place_demo")
)
SAFE_DOMAINS = range(
    10, 100
)  # above 101 the ports of a domain meet those that Linux gives to clients

# The longest files come first, so that none runs alone at the end. The four that talk over DDS in
# real time stand apart: three workers begin with three files, and on one core two of these at once
# starve each other.
LONGEST = (
    "examples/test_policies_live.py",
    "test_docs_in_order.py",
    "cli/test_build.py",
    "files/test_telemetry.py",
    "tools/closed_loop/test_loop_short.py",
    "datasets/test_embed.py",
    "datasets/fleet/test_fleet_on_ray.py",
    "datasets/fleet/test_commits.py",
    "benchmarks/test_cpu_bench.py",
    "benchmarks/test_policy_tower_bench.py",
    "cli/test_cli.py",
    "training/test_finetune.py",
    "soak/test_soak_short.py",
    "cli/test_demo_family.py",
    "datasets/test_embed_memory.py",
    "tools/closed_loop/test_plumbing.py",
    "tools/closed_loop/test_expert.py",
    "datasets/stored/test_stored_embed.py",
    "datasets/batches/test_windows.py",
    "files/storage/test_storage_faults.py",
    "ros/watch/test_watch_page.py",
    "ros/watch/test_watch.py",
    "ros/test_end_to_end.py",
    "fuzz/test_malformed_messages.py",
    "ros/test_faults.py",
    "ros/health/test_situations.py",
    "ros/suggest/test_doctor_write.py",
    "ros/video/test_video_live.py",
    "engines/test_every_engine.py",
    "engines/test_connectors.py",
)


def claim_domain():
    """An open file that holds a domain which no other test run on this machine uses; released when
    this one ends.
    """
    for domain in SAFE_DOMAINS:
        path = Path(tempfile.gettempdir()) / f"vit_perception_test_domain_{domain}"
        # Everybody may write to that folder: a link of somebody else's is not followed, and nothing
        # is emptied.
        lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return lock
    raise RuntimeError(
        f"all ROS domains from {SAFE_DOMAINS.start} to {SAFE_DOMAINS.stop - 1} are in use by tests"
    )


# A shell starts its background commands with SIGINT ignored, and every program that a test starts
# would inherit that: Ctrl-C would then end none of them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before anything imports a library that reports its use.
telemetry.off()
# Before anything imports torch, here or in a program that a test starts. Workers share the cores:
# the second thread of a tiny model then mostly spins, and tests cost twice the CPU time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports rclpy: DDS reads the environment once.
_DOMAIN = claim_domain()
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("ROS_LOG_DIR", str(ROOT / ".ros_log"))
use_large_data_profile()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first. A file stays together, and keeps its order."""
    place = {ROOT / "test" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A random DINOv2 of 2 blocks, 64 wide, on 56 x 56 px (a grid of 4 x 4), saved by
    transformers.
    """
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny_dinov2")
    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    write_preprocessing(folder, 56)
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory) -> Path:
    """A random ViT classifier of 2 blocks on 32 x 32 px; two of its five labels have one name."""
    return write_classifier(
        tmp_path_factory.mktemp("tiny_vit"),
        seed=1,
        width=32,
        side_px=32,
        labels=("cup", "crane", "can", "crane", "robot"),
    )


@pytest.fixture(scope="session")
def tiny_second(tmp_path_factory) -> Path:
    """A random ViT classifier as wide as the tiny DINOv2, on 48 x 48 px (a grid of 3 x 3 patches of
    16 px), with another mean and deviation and three labels.
    """
    folder = write_classifier(
        tmp_path_factory.mktemp("second") / "tiny vit",
        seed=3,
        width=64,
        side_px=48,
        labels=("cup", "can", "robot"),
    )
    path = folder / "preprocessor_config.json"
    own = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    return folder


def write_classifier(
    folder: Path, *, seed: int, width: int, side_px: int, labels: tuple[str, ...]
) -> Path:
    """Write a random ViT classifier of 2 blocks with patches of 16 px and heads of 16 channels, as
    transformers saves it; return its folder.
    """
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=width // 16,
        intermediate_size=2 * width,
        image_size=side_px,
        patch_size=16,
        id2label=names,
        label2id={label: number for number, label in names.items()},
        num_labels=len(names),
    )
    ViTForImageClassification(config).save_pretrained(folder)
    write_preprocessing(folder, side_px)
    return folder


def write_preprocessing(folder: Path, side_px: int) -> None:
    """The preprocessor_config.json of a processor that resizes and crops to a square."""
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "BitImageProcessor",
                "do_resize": True,
                "size": {"shortest_edge": side_px},
                "resample": 3,
                "do_center_crop": True,
                "crop_size": {"height": side_px, "width": side_px},
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
            }
        )
    )
