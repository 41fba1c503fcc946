"""The ONNX file: valid, with the nodes that compilers fuse, and computing what the torch graph computes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx.reference
import pytest
import torch

from vit_perception.export.onnx_export import export_onnx
from vit_perception.model.encoder_graph import EncoderGraph
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

BATCH, SIZE_PX = 2, (64, 48)  # not square, and not the size of the position embedding
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    config = replace(VARIANTS["test"], head="linear", classes=7)
    return EncoderGraph(VisionTransformer(config), MEAN, STD, SIZE_PX)


@pytest.fixture(scope="module")
def file(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(graph, BATCH, path)
    return path


def shape_of(value):
    return [d.dim_value for d in value.type.tensor_type.shape.dim]


def test_it_is_valid_with_static_shapes_and_the_agreed_names(file):
    onnx.checker.check_model(str(file), full_check=True)
    model = onnx.load(file)
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    images = model.graph.input[0]
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert shape_of(images) == [2, 3, 64, 48]
    assert {o.name: shape_of(o) for o in model.graph.output} == {
        "cls_token": [2, 32], "patch_tokens": [2, 48, 32], "cls_attention": [2, 4, 48], "logits": [2, 7]}
    assert {o.type.tensor_type.elem_type for o in model.graph.output} == {onnx.TensorProto.FLOAT}


def test_the_nodes_are_those_that_compilers_fuse(file):
    """Regression: IsNaN and Where behind each Softmax; Resize of the position embedding; norms in pieces."""
    counts = Counter(node.op_type for node in onnx.load(file).graph.node)
    blocks = VARIANTS["test"].depth
    assert not {"If", "Loop", "IsNaN", "Where", "Resize", "ReduceMean", "Shape"} & set(counts), counts
    assert counts["Softmax"] == blocks + 1  # the CLS row is one of its own
    assert counts["LayerNormalization"] == 2 * blocks + 1
    # Query, key, value, output, up, down are one product each; two in attention; one in the CLS row; the head.
    assert counts["MatMul"] + counts["Gemm"] == blocks * 8 + 1 + 1
    assert counts["Cast"] == 1 and counts["Conv"] == 1


def test_it_computes_what_the_graph_computes(graph, file):
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 3, *SIZE_PX), np.uint8)
    outputs = onnx.reference.ReferenceEvaluator(str(file)).run(None, {"images": images})
    with torch.inference_mode():
        expected = graph(torch.from_numpy(images))
    for name, ours, theirs in zip(graph.output_names, outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5, err_msg=name)


def test_it_holds_no_paths_and_two_exports_are_equal(graph, file, tmp_path):
    """Regression: the exporter writes stack traces, with the paths of the installation, into each node."""
    export_onnx(graph, BATCH, tmp_path / "model.onnx")
    content = file.read_bytes()
    assert b"site-packages" not in content and b".py" not in content
    assert (tmp_path / "model.onnx").read_bytes() == content
    assert (tmp_path / "model.onnx.data").read_bytes() == file.with_name("model.onnx.data").read_bytes()


def test_the_graph_keeps_its_fused_attention(graph, file):
    assert {block.attention.kind for block in graph.model.blocks} == {"fused"}


def test_a_graph_in_half_precision_is_refused(graph, tmp_path):
    half = EncoderGraph(graph.model, MEAN, STD, SIZE_PX).to(torch.bfloat16)
    with pytest.raises(ValueError, match="bfloat16.*accepted: float32"):
        export_onnx(half, BATCH, tmp_path / "model.onnx")


def test_a_folder_that_is_missing_is_an_oserror(graph, tmp_path):
    with pytest.raises(OSError):
        export_onnx(graph, BATCH, tmp_path / "none" / "model.onnx")
