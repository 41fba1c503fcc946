"""The data sets that are checked, of the recordings in data/demo, and LeRobot's loader."""

import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TRAIN_BAG, DEMO_BAG = ROOT / "data/demo/pick_place_train", ROOT / "data/demo/pick_place_demo"
PICTURE_FRAMES = 20
REPO_ID = "own/set"
TASK = "pick and place"


def import_lerobot() -> None:
    """Let LeRobot be imported beside transformers 5: without its package of GR00T's model, which
    does not load there, and without the ``__init__`` that imports every policy.
    """
    from tools.checkpoint_parity.lerobot_models import import_lerobot as import_policies

    import_policies()
    found = find_spec("lerobot")
    package = types.ModuleType("lerobot.policies.groot")
    package.__path__ = [str(Path(found.submodule_search_locations[0]) / "policies/groot")]
    sys.modules.setdefault("lerobot.policies.groot", package)


def small_encoder(folder: Path) -> str:
    """Write a random DINOv2 of two blocks: the format does not depend on what features are."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from test.conftest import write_preprocessing

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    write_preprocessing(folder, 56)
    return str(folder)


def embed(bag: Path, out: Path, checkpoint: str, *options: str) -> None:
    from vit_perception.cli.main import main as command

    given = ["embed", str(bag), "--params", str(ROOT / "config/demo.yaml"), "--out", str(out)]
    given += ["--format", "lerobot", "--action", "state", "--task", TASK, *options]
    if command([*given, "--checkpoint", checkpoint, "--backend", "torch"]) != 0:
        raise SystemExit(1)


def beginning_of(bag: Path, out: Path) -> Path:
    from vit_perception.recordings.reader import BagReader
    from vit_perception.recordings.writer import BagWriter

    images = 0
    with BagReader(bag) as reader, BagWriter(out) as writer:
        for message in reader.raw(sorted(reader.topics)):
            images += message.topic.startswith("/wrist")
            if images > PICTURE_FRAMES:
                break
            writer.write(message.topic, message.type_name, message.data, message.stamp_ns)
    return out


def data_set(root: Path) -> Any:
    """Open a data set with LeRobot."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(REPO_ID, root=root)
