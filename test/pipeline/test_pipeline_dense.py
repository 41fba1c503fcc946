"""Depth and segmentation through the pipeline, against transformers' own model and its
post-processing.
"""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from test.checkpoints.dense.dense_models import dpt_config, dpt_depth, randomise, save
from test.plain_messages import image_message
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    DenseSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.image.decode import decode_image
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.layout import Layout

STAMP_NS = 7_000_000_000


def open_pipeline(folder, dense=True, backend="torch", cameras=("a", "b"), **model):
    return Pipeline.open(
        EncoderSettings(
            tuple(CameraSettings(c, f"/{c}") for c in cameras),
            model=ModelSettings(str(folder), **model),
            engine=EngineSettings(backend, "float32"),
            dense=DenseSettings(dense),
        )
    )


def run(pipeline, messages):
    prepared = pipeline.prepare(messages)
    return pipeline.assemble(prepared, pipeline.encode(prepared), {})


def reference(model, pipeline, message) -> torch.Tensor:
    """What transformers' model gives for the pixels that the network saw: depth (1, h, w) or logits
    (1, K, h, w).
    """
    card = pipeline.card
    pixels = Preprocessor(card.rule)(decode_image(message)) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (card.mean, card.std))
    with torch.inference_mode():
        output = model(((pixels - mean) / std)[None])
    return output.logits if hasattr(output, "logits") else output.predicted_depth


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    return dpt_depth(tmp_path_factory.mktemp("tiny_dpt"))


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_depth_of_each_camera_is_that_of_transformers_at_the_size_of_its_image(depth, backend):
    if backend != "torch":
        pytest.importorskip(backend, reason=f"{backend} is not installed")
    model, folder = depth
    pipeline = open_pipeline(folder, backend=backend)
    messages = {
        "a": image_message(STAMP_NS, 1, (48, 64)),
        "b": image_message(STAMP_NS, 2, (37, 51)),
    }
    cameras = run(pipeline, messages).cameras
    for name, message in messages.items():
        wanted = reference(model, pipeline, message)
        wanted = functional.interpolate(
            wanted[None], (message.height, message.width), mode="bicubic"
        )[0, 0]
        found = pipeline.dense_values(cameras[name])
        assert (
            found.shape == (message.height, message.width)
            and found.dtype == np.float32
            and found.std() > 1e-3
        )
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)
    pipeline.close()


def test_segmentation_is_transformers_argmax(tmp_path):
    from transformers import DPTForSemanticSegmentation

    config = dpt_config(
        id2label={k: f"thing {k}" for k in range(11)}, use_batch_norm_in_fusion_residual=True
    )
    model = randomise(DPTForSemanticSegmentation(config), 0)
    pipeline = open_pipeline(save(model, tmp_path, {"height": 32, "width": 32}))
    message = image_message(STAMP_NS, 1, (48, 64))
    found = pipeline.dense_values(run(pipeline, {"a": message}).cameras["a"])
    scores = functional.interpolate(reference(model, pipeline, message), (48, 64), mode="bilinear")[
        0
    ].numpy()
    top = np.sort(scores, axis=0)
    clear = top[-1] - top[-2] > 1e-4  # elsewhere the last bit decides
    assert found.dtype == np.uint8 and clear.mean() > 0.99 and len(np.unique(found)) > 2
    np.testing.assert_array_equal(found[clear], scores.argmax(axis=0)[clear])
    dense = Layout.from_json(pipeline.layout().to_json()).dense
    assert (dense.kind, dense.quantity, dense.no_label, dense.labels[3]) == (
        "segmentation",
        "class",
        255,
        "thing 3",
    )
    pipeline.close()


def test_switched_off_it_is_not_there_and_costs_nothing(depth):
    _, folder = depth
    on, off = open_pipeline(folder), open_pipeline(folder, dense=False)
    message = image_message(STAMP_NS, 1)
    first, second = (run(p, {"a": message, "b": message}) for p in (on, off))
    np.testing.assert_array_equal(first.sequence.tokens, second.sequence.tokens)
    np.testing.assert_array_equal(first.embedding, second.embedding)
    assert off.dense is None and second.cameras["a"].block_tokens is None
    assert first.cameras["a"].block_tokens.shape == (4, 17, 64)
    assert "dense" not in json.loads(off.layout().to_json()) and off.layout().dense is None
    said = json.loads(on.layout().to_json())
    assert said.pop("dense") == {
        "kind": "depth",
        "quantity": "relative_inverse_depth",
        "unit": "",
        "blocks": [0, 1, 2, 3],
        "labels": [],
        "no_label": 0,
    }
    said.pop("layout_id"), (plain := json.loads(off.layout().to_json())).pop("layout_id")
    assert said == plain
    assert Layout.from_json(on.layout().to_json()) == on.layout()
    on.close(), off.close()


def test_the_dense_head_is_that_of_the_first_of_several_checkpoints(depth, tiny_second):
    _, folder = depth
    both = open_pipeline(folder, more_checkpoints=(str(tiny_second),), cameras=("a",))
    alone = open_pipeline(folder, cameras=("a",))
    values = [
        pipeline.dense_values(run(pipeline, {"a": image_message(STAMP_NS, 1)}).cameras["a"])
        for pipeline in (both, alone)
    ]
    assert values[0].std() > 0
    np.testing.assert_allclose(*values, atol=1e-5)
    assert [encoder.model for encoder in both.layout().encoders][1:] == ["tiny vit"]
    both.close(), alone.close()
    with pytest.raises(BadSetting, match="dense.enabled"):
        open_pipeline(tiny_second, more_checkpoints=(str(folder),))


def test_a_checkpoint_without_a_dense_head_is_refused(tiny_checkpoint):
    with pytest.raises(
        BadSetting, match="'dense.enabled' is True; accepted: false with .*no dense head; DPT and"
    ):
        open_pipeline(tiny_checkpoint)


def test_another_network_size_is_used_and_a_wrong_one_refused(depth):
    _, folder = depth
    pipeline = open_pipeline(folder, network_size="48x64", cameras=("a",))
    assert pipeline.grid == (6, 8) and pipeline.card.rule.network_size_px == (48, 64)
    values = pipeline.dense_values(
        run(pipeline, {"a": image_message(STAMP_NS, 1, (96, 128))}).cameras["a"]
    )
    assert values.shape == (96, 128) and np.isfinite(values).all()
    pipeline.close()
    with pytest.raises(
        BadSetting, match="'model.network_size' is '50x64'; accepted: multiples of the patch size 8"
    ):
        open_pipeline(folder, network_size="50x64")
    for wrong in ("48", "48x", "0x64", "48 x 64", "-8x8"):
        with pytest.raises(BadSetting, match="model.network_size.*such as 518x686"):
            ModelSettings(network_size=wrong)
