"""LeRobot's own policies, given our tokens in place of pictures: their actions stay the same.

The code that hands the tokens over is the one in docs/policies.md, run as it stands there. Two
cameras have a picture of the network's size, a third has none. ``tokens`` are compared with
``embed_image``, ``logits`` are the chunk of actions, ``pixels`` are compared with the policy's own
preparation of odd pictures. The weights are random, so the words are random ids, and the tokenizer
is not needed. Folders are written by the policy's ``save_pretrained``.

A tower runs once on a picture; what it gave is used again when the same picture comes again.
"""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from test.plain_messages import image_message
from tools.checkpoint_parity import lerobot_models
from tools.checkpoint_parity.lerobot_models import CAMERAS, STATE_COUNT
from tools.checkpoint_parity.rows import Row, preprocessing_difference, timed
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.live import Observation
from vit_perception.wire.tensors import mask_of

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/policies.md"
# The actions must follow the pictures, or to compare them would prove nothing.
LEAST_CHANGE = 1e-2
MOST_STATE_DIFFERENCE = 1e-5
_WORDS = {
    "observation.language.tokens": torch.arange(3, 51)[None],
    "observation.language.attention_mask": torch.ones(1, 48, dtype=torch.bool),
}
_Prepare = Callable[[Any, dict[str, torch.Tensor]], list[torch.Tensor]]


@dataclass(frozen=True)
class _Case:
    """One row."""

    family: str
    what: str
    policy: Any
    side_px: int
    # The policy and a batch to what ``embed_image`` is given, from -1 to 1.
    prepare: _Prepare
    # The policy's part that has ``embed_image``.
    part: str


def rows() -> list[Row]:
    """SmolVLA in its real shapes, and π0 in its real widths with fewer blocks."""
    lerobot_models.import_lerobot()
    torch.manual_seed(0)
    return [_row(_smolvla()), _row(_pi0())]


def _smolvla() -> _Case:
    return _Case(
        family="smolvla",
        what="LeRobot's SmolVLA from our tokens, 2 cameras and one missing",
        policy=lerobot_models.smolvla(),
        side_px=lerobot_models.VISION["image_size"],
        prepare=lambda policy, batch: policy.prepare_images(batch)[0],
        part="vlm_with_expert",
    )


def _pi0() -> _Case:
    return _Case(
        family="pi0",
        what="LeRobot's π0 from our tokens, 2 cameras and one missing; "
        f"{lerobot_models.PI0_VISION_BLOCKS} of 27 and {lerobot_models.PI0_BLOCKS} of 18 blocks, "
        f"{lerobot_models.PI0_WORDS} words",
        policy=lerobot_models.pi0(),
        side_px=224,
        # It pads pictures that are not square with -3 in place of black (docs/policies.md).
        prepare=lambda policy, batch: [
            image.clamp(min=-1) for image in policy._preprocess_images(batch)[0]
        ],
        part="paligemma_with_expert",
    )


def snippet() -> dict[str, Any]:
    """What the Python code of docs/policies.md defines, by name."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), found)
    return found


@torch.no_grad()
def _row(case: _Case) -> Row:
    policy = case.policy
    side_px = case.side_px
    messages = {
        camera: image_message(7, seed=seed, size_px=(side_px, side_px), encoding="rgb8")
        for seed, camera in enumerate(CAMERAS[:2])
    }
    batch = {
        f"observation.images.{camera}": _pixels(np.frombuffer(m.data, np.uint8), side_px)
        for camera, m in messages.items()
    }
    given = {"observation.state": torch.linspace(-2, 2, STATE_COUNT)[None], **_WORDS}
    part = getattr(policy.model, case.part)
    _remember(part)
    embedded = [part.embed_image(image) for image in case.prepare(policy, batch)[:2]]
    own = _actions(policy, {**batch, **given})
    other = dict(zip(batch, reversed(batch.values())))
    change = (_actions(policy, {**other, **given}) - own).abs().max().item()
    if not change > LEAST_CHANGE:
        raise ValueError(f"{case.what}: swapped pictures change the actions by {change} alone")
    with tempfile.TemporaryDirectory() as folder:
        normalise = _write(policy, Path(folder))
        loaded, load_s = timed(lambda: load_checkpoint(folder), warm=False)
        _check_state(loaded, policy, normalise)
        resized = preprocessing_difference(loaded, lambda picture: _prepared(case, picture))
        observation = _observed(folder, messages)
    code = snippet()
    layout = observation.layout
    scale = layout.connector.scale
    parts = layout.split(observation.tokens)
    tokens = max(
        float(np.abs(parts[f"{camera}/patch"] / scale - theirs[0].numpy()).max())
        for camera, theirs in zip(CAMERAS, embedded)
    )
    code["take_tokens"](policy, layout, CAMERAS)
    ours = _actions(policy, {**code["batch_of"](observation), **given})
    return Row(
        family=case.family,
        what=case.what,
        origin=f"lerobot {version('lerobot')}",
        tokens=tokens,
        logits=(ours - own).abs().max().item(),
        preprocessing=resized,
        load_s=load_s,
        note="tokens against embed_image; logits are the actions; swapped pictures change these by "
        f"{change:.1g}",
    )


def _remember(part: Any) -> None:
    embed_image = part.embed_image
    known: dict[bytes, torch.Tensor] = {}

    def once(image: torch.Tensor) -> torch.Tensor:
        key = image.numpy().tobytes()
        if key not in known:
            known[key] = embed_image(image)
        return known[key]

    part.embed_image = once


def _pixels(values: np.ndarray, side_px: int) -> torch.Tensor:
    """One picture as LeRobot hands it to a policy: (1, 3, H, W) from 0 to 1."""
    return torch.from_numpy(values.reshape(side_px, -1, 3).copy()).permute(2, 0, 1)[None] / 255


def _prepared(case: _Case, picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    name = f"observation.images.{CAMERAS[0]}"
    return case.prepare(case.policy, {name: _pixels(pixels, len(pixels))})[0][0].numpy()


def _actions(policy: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The chunk of actions (1, steps, count), from the same noise each time."""
    torch.manual_seed(1)
    policy.reset()
    actions: torch.Tensor = policy.predict_action_chunk(dict(batch))
    return actions


def _write(policy: Any, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Write the policy's folder by LeRobot's code; give its normalisation of the state."""
    from lerobot.processor import NormalizerProcessorStep, PolicyProcessorPipeline

    statistics = {
        "observation.state": {
            "mean": torch.linspace(-1, 1, STATE_COUNT),
            "std": torch.linspace(0.1, 2, STATE_COUNT),
        }
    }
    config = policy.config
    features = {"observation.state": config.input_features["observation.state"]}
    step = NormalizerProcessorStep(features, config.normalization_mapping, statistics)
    pipeline = PolicyProcessorPipeline([step], name="policy_preprocessor")
    policy.save_pretrained(folder)
    pipeline.save_pretrained(folder)
    return lambda state: pipeline({"observation.state": state})["observation.state"]


def _check_state(
    loaded: Any, policy: Any, normalise: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    state = torch.linspace(-2, 3, STATE_COUNT)
    padded = torch.zeros(policy.config.max_state_dim)
    padded[:STATE_COUNT] = normalise(state)
    theirs = policy.model.state_proj(padded).numpy()
    difference = float(np.abs(loaded.state.encode(state.numpy()) - theirs).max())
    if not difference <= MOST_STATE_DIFFERENCE:
        raise ValueError(
            f"the state token is {difference} from the policy's; accepted: up to "
            f"{MOST_STATE_DIFFERENCE}"
        )


def _observed(folder: str, messages: dict[str, Any]) -> Observation:
    """What a node that is pointed at ``folder`` publishes for the pictures, in float32 on torch."""
    pipeline = Pipeline.open(
        EncoderSettings(
            tuple(CameraSettings(camera, f"/{camera}") for camera in CAMERAS),
            model=ModelSettings(folder),
            engine=EngineSettings("torch", "float32"),
        )
    )
    prepared = pipeline.prepare(messages)
    tokens = pipeline.assemble(prepared, pipeline.encode(prepared), {}).sequence.tokens.copy()
    layout = pipeline.layout()
    pipeline.close()
    return Observation(7, tokens, mask_of(tokens), None, {}, layout)
