"""The tokens that a dense head takes, through every engine; and that without one nothing
changes.
"""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from test.log_lines import LogLines
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.building.build import build_ahead
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.parity_gate import ParityLimits, measure
from vit_perception.engines.reference import graph_key, graph_of
from vit_perception.engines.select import open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt.buffers import TensorFacts, buffer_table
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.wire.records import EncoderOutput

BLOCKS = (0, 2)


def with_head(loaded, norm: bool) -> LoadedModel:
    """The tiny model with a head that takes two blocks; only which blocks matters here."""
    return replace(
        loaded,
        dense=DenseHeadSpec("depth", BLOCKS, torch.nn.Identity(), norm=norm, quantity="depth"),
    )


@pytest.fixture(scope="module")
def dense(loaded) -> LoadedModel:
    return with_head(loaded, norm=True)


def normalised(loaded, pictures):
    mean, std = (torch.tensor(v)[:, None, None] for v in (loaded.card.mean, loaded.card.std))
    return (torch.from_numpy(pictures) / 255 - mean) / std


@pytest.mark.parametrize(
    "backend, norm", [("torch", False), ("torch", True), ("openvino", True), ("onnxruntime", False)]
)
def test_every_engine_gives_the_tokens_of_the_blocks(loaded, pictures, backend, norm):
    dense = with_head(loaded, norm)
    if backend != "torch":
        pytest.importorskip(backend, reason=f"{backend} is not installed")
    opened = open_engine(EngineSettings(backend=backend, precision="float32"), dense, 2, dense=True)
    try:
        output = opened.engine.infer(pictures[:2])
        with torch.inference_mode():
            wanted = dense.model.intermediate(
                normalised(dense, pictures[:2]), BLOCKS, dense.dense.norm
            )
        assert output.block_tokens.dtype == np.float32
        np.testing.assert_allclose(output.block_tokens, torch.stack(wanted, 1).numpy(), atol=1e-4)
        assert opened.report.blocks_l2 < 1e-4 and "dense head's tokens 0.0000" in str(opened.report)
    finally:
        opened.engine.close()


def test_bfloat16_passes_the_gate(dense):
    pytest.importorskip("openvino", reason="openvino is not installed")
    opened = open_engine(EngineSettings(backend="openvino"), dense, 1, dense=True)
    opened.engine.close()
    assert opened.report.blocks_l2 < 0.05


def test_an_engine_built_ahead_is_the_one_that_the_node_opens(dense):
    pytest.importorskip("openvino", reason="openvino is not installed")
    settings = EngineSettings("openvino", "float32")
    (result,) = build_ahead(settings, dense, 3, dense=True)
    assert (
        result.parity == "proven"
        and "dense head's tokens 0.0000" in result.figures
        and not result.cached
    )
    said = LogLines()
    open_engine(settings, dense, 3, log=said, dense=True).engine.close()
    assert not [text for text in said if "exporting" in text]


def test_tensorrt_takes_the_output(dense):
    """Parsed and built for a GPU that is not here."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are not installed")
    (result,) = build_ahead(
        EngineSettings("tensorrt_rtx", "float16"), dense, 1, targets=("8.9",), dense=True
    )
    assert result.parity == "to be proven on the GPU" and result.path.stat().st_size > 0


def test_without_it_the_graph_is_what_it_was(dense, loaded, pictures):
    off, plain, on = graph_of(dense), graph_of(loaded), graph_of(dense, dense=True)
    assert off.output_names == ("cls_token", "patch_tokens", "cls_attention")
    assert graph_key(off) == graph_key(plain)
    assert set(graph_key(off)) == {
        "weights_sha256",
        "config",
        "network_size_px",
        "block",
        "graph_version",
    }
    assert graph_key(off)["graph_version"] == 1
    assert graph_key(on) == graph_key(off) | {"dense_blocks": [0, 2], "dense_norm": True}
    images = torch.from_numpy(pictures[:2])
    with torch.inference_mode():
        for ours, other, third in zip(off(images), plain(images), on(images)):
            assert torch.equal(ours, other) and torch.equal(ours, third)


def test_the_onnx_file_without_it_is_the_same_and_with_it_has_no_shape_arithmetic(dense, loaded):
    models = {
        name: onnx.load(EngineSource(graph, 2).onnx_file().path, load_external_data=False).graph
        for name, graph in (
            ("off", graph_of(dense)),
            ("plain", graph_of(loaded)),
            ("on", graph_of(dense, dense=True)),
        )
    }
    assert [n.op_type for n in models["off"].node] == [n.op_type for n in models["plain"].node]
    kinds = {n.op_type for n in models["on"].node}
    assert not kinds & {"If", "Where", "Shape", "Loop", "IsNaN"}
    assert [o.name for o in models["on"].output] == [
        "cls_token",
        "patch_tokens",
        "cls_attention",
        "block_tokens",
    ]


def test_blocks_behind_the_chosen_one_and_a_head_are_run(pictures):
    torch.manual_seed(0)
    model = VisionTransformer(replace(VARIANTS["test"], head="linear", classes=3)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        plain, kept = model(images, 1), model(images, 1, (2, 0))
        assert torch.equal(plain.patch_tokens, kept.patch_tokens) and torch.equal(
            plain.logits, kept.logits
        )
        assert torch.equal(kept.block_tokens, torch.stack(model.intermediate(images, (2, 0)), 1))
        model.head = None
        assert torch.equal(model(images, 1, (2, 0)).block_tokens, kept.block_tokens)
        assert model(images).block_tokens is None


def test_the_gate_sees_a_block_that_drifts():
    rng = np.random.default_rng(0)
    arrays = {
        "cls_token": rng.normal(size=(3, 8)),
        "patch_tokens": rng.normal(size=(3, 4, 8)),
        "cls_attention": rng.random((3, 2, 4)),
        "block_tokens": rng.normal(size=(3, 2, 5, 8)),
    }
    reference = EncoderOutput(**arrays)
    drifted = arrays["block_tokens"].copy()
    drifted[2, 1] *= 1.1
    report = measure(EncoderOutput(**arrays | {"block_tokens": drifted}), reference)
    assert report.blocks_l2 == pytest.approx(0.1)
    assert report.failures(ParityLimits()) == [
        "relative L2 of the dense head's tokens 0.1000 is above 0.05"
    ]
    assert measure(reference, reference).failures(ParityLimits()) == []
    with pytest.raises(ValueError, match="block_tokens has shape"):
        measure(
            EncoderOutput(*(arrays[n] for n in ("cls_token", "patch_tokens", "cls_attention"))),
            reference,
        )


def test_a_compiled_engine_may_have_the_output_and_no_other():
    facts = [
        TensorFacts("images", True, "UINT8", (2, 3, 64, 64)),
        TensorFacts("cls_token", False, "FLOAT", (2, 64)),
        TensorFacts("patch_tokens", False, "FLOAT", (2, 64, 64)),
        TensorFacts("cls_attention", False, "FLOAT", (2, 4, 64)),
        TensorFacts("block_tokens", False, "FLOAT", (2, 2, 65, 64)),
    ]
    spec = EngineSpec(2, (64, 64), "float16")
    table = buffer_table(facts, spec)
    assert [slot.name for slot in table.outputs][-1] == "block_tokens"
    assert table.size_bytes >= 4 * (2 * 2 * 65 * 64)
    with pytest.raises(EngineError, match="block_tokens with a dense one"):
        buffer_table([*facts, TensorFacts("depth", False, "FLOAT", (2, 64, 64))], spec)
