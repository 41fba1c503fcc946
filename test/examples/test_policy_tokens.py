"""The code of docs/policies.md on a policy's parts; `make parity` runs it in lerobot itself."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from test.checkpoints.huggingface.models import LIMIT, largest_difference
from test.checkpoints.policies.policy_folders import SMOLVLA, smolvla_tensors, smolvlm, write
from test.conftest import ROOT
from test.plain_messages import image_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.live import Observation
from vit_perception.wire.tensors import mask_of

CAMERAS = ("top", "wrist")


@pytest.fixture(scope="module")
def code() -> dict:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/policies.md").read_text(), re.S)
    assert block.count("\n") <= 40
    found: dict = {}
    exec(block, found)
    return found


def test_a_policys_embed_image_gives_what_it_gave_for_pictures(code, tmp_path):
    vlm = smolvlm()
    folder = write(tmp_path, SMOLVLA, smolvla_tensors(vlm))
    pipeline = Pipeline.open(
        EncoderSettings(
            tuple(CameraSettings(camera, f"/{camera}") for camera in CAMERAS),
            model=ModelSettings(str(folder)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    message = image_message(7, size_px=(64, 64), encoding="rgb8")
    prepared = pipeline.prepare({"wrist": message})  # the other camera is missing
    tokens = pipeline.assemble(prepared, pipeline.encode(prepared), {}).sequence.tokens.copy()
    layout = pipeline.layout()
    pipeline.close()
    # A part of SmolVLAPolicy with its names.
    words = vlm.model.text_model.get_input_embeddings()
    part = SimpleNamespace(embed_language_tokens=words, embed_image=None)
    policy = SimpleNamespace(
        model=SimpleNamespace(vlm_with_expert=part),
        config=SimpleNamespace(device="cpu"),
        prepare_images=None,
    )
    code["take_tokens"](policy, layout, ["wrist", "top"])
    batch = code["batch_of"](Observation(7, tokens, mask_of(tokens), None, {}, layout))
    images, masks = policy.prepare_images(batch)
    assert [mask.tolist() for mask in masks] == [[True], [False]]
    picture = np.frombuffer(message.data, np.uint8).reshape(64, 64, 3).copy()
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        tower = vlm.model.vision_model(pixel_values=pixels, patch_attention_mask=None)
        wanted = vlm.model.connector(tower.last_hidden_state)
        found = part.embed_image(images[0])
    assert wanted.std() > 0.05
    assert largest_difference(found, wanted) <= LIMIT
