"""The ONNX file: valid, with the nodes that compilers fuse, and computing what the torch graph
computes.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx.reference
import pytest
import torch

from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.engines.onnx_export import export_onnx
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

BATCH, SIZE_PX = 2, (64, 48)  # not square, and not the size of the position embedding
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCKS = VARIANTS["test"].depth
ELEMENT = onnx.TensorProto
ELEMENT_OF = {"float32": ELEMENT.FLOAT, "float16": ELEMENT.FLOAT16, "bfloat16": ELEMENT.BFLOAT16}
# (precision, attention, batch) of every file that the tests read.
FORMS = [
    ("float32", "half", BATCH),
    ("float16", "half", BATCH),
    ("float16", "float32_softmax", BATCH),
    ("float16", "float32", BATCH),
    ("bfloat16", "half", BATCH),
    ("float16", "half", None),
]
STATIC_FORMS = [form for form in FORMS if form[2]]


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    config = replace(VARIANTS["test"], head="linear", classes=7)
    return EncoderGraph(VisionTransformer(config), MEAN, STD, SIZE_PX)


@pytest.fixture(scope="module")
def file_of(graph, tmp_path_factory):
    """The file of (precision, attention, batch), exported once."""
    files = {}

    def get(precision="float32", attention="half", batch=BATCH):
        key = (precision, attention, batch)
        if key not in files:
            files[key] = tmp_path_factory.mktemp("onnx") / "model.onnx"
            export_onnx(graph, batch, files[key], precision, attention)
        return files[key]

    return get


def counts_of(file):
    return Counter(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)


def shape_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def pictures(batch):
    return np.random.default_rng(0).integers(0, 256, (batch, 3, *SIZE_PX), np.uint8)


def run_onnxruntime(file, images):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
        None, {"images": images}
    )


def cosine(ours, theirs):
    ours, theirs = (x.reshape(len(x), -1).astype(np.float64) for x in (ours, theirs))
    return (
        (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    ).min()


@pytest.mark.parametrize("precision, attention, batch", FORMS)
def test_it_is_valid_with_the_agreed_names_shapes_and_types(file_of, precision, attention, batch):
    file = file_of(precision, attention, batch)
    onnx.checker.check_model(str(file), full_check=True)
    model = onnx.load(file)
    rows = batch or "batch"
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    (images,) = model.graph.input
    assert (images.name, images.type.tensor_type.elem_type) == ("images", ELEMENT.UINT8)
    assert shape_of(images) == [rows, 3, 64, 48]
    assert {o.name: shape_of(o) for o in model.graph.output} == {
        "cls_token": [rows, 32],
        "patch_tokens": [rows, 48, 32],
        "cls_attention": [rows, 4, 48],
        "logits": [rows, 7],
    }
    assert {o.type.tensor_type.elem_type for o in model.graph.output} == {ELEMENT.FLOAT}


@pytest.mark.parametrize("precision, attention, batch", FORMS)
def test_weights_and_products_are_in_the_precision(graph, file_of, precision, attention, batch):
    """Regression: an option that lies. Also the values, for bfloat16 runs in no CPU runtime."""
    model = onnx.shape_inference.infer_shapes(onnx.load(file_of(precision, attention, batch)))
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    types = {name: tensor.data_type for name, tensor in held.items()}
    types |= {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.value_info, *model.graph.output)
    }
    wanted, compared = ELEMENT_OF[precision], 0
    inside_attention = 2 * BLOCKS + 1 if attention == "float32" else 0
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    wide = [node for node in products if types[node.input[0]] != wanted]
    assert {types[node.input[1]] for node in products if node not in wide} == {wanted}
    assert len(wide) == inside_attention and {types[node.input[0]] for node in wide} <= {
        ELEMENT.FLOAT
    }
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert {types[name] for node in norms for name in node.input} == {wanted}
    for name, parameter in graph.named_parameters():
        if name in held:
            expected = parameter.to(getattr(torch, precision)).to(torch.float32).numpy()
            np.testing.assert_array_equal(
                onnx.numpy_helper.to_array(held[name]).astype(np.float32), expected
            )
            compared += 1
    assert compared > 20


def test_the_float32_nodes_are_pinned(file_of):
    """Regression: IsNaN and Where behind each Softmax; Resize of the position embedding; norms in
    pieces.
    """
    counts = counts_of(file_of())
    # Query, key, value, output, up, down are one product each; two in attention; one in the CLS
    # row; the head.
    assert counts["MatMul"] + counts["Gemm"] == BLOCKS * 8 + 1 + 1
    assert counts == {
        "Cast": 1,
        "Sub": 1,
        "Conv": 1,
        "Concat": 2,
        "Gemm": 1,
        "MatMul": BLOCKS * 8 + 1,
        "Softmax": BLOCKS + 1,
        "LayerNormalization": 2 * BLOCKS + 1,
        # One heads-split of query, key, value and one join a block, and the patches; the transposed
        # key of the CLS row.
        "Reshape": 4 * BLOCKS + 1,
        "Transpose": 4 * BLOCKS + 2,
        "Erf": BLOCKS,
        "Div": BLOCKS + 1,
        # Six biases (the head's is in its Gemm), two residuals and one of GELU a block; the
        # position embedding.
        "Add": 9 * BLOCKS + 1,
        "Mul": 5 * BLOCKS + 1,
        "Slice": 5,
        "Gather": 2,
    }


@pytest.mark.parametrize(
    "attention, casts",
    [("half", 6), ("float32_softmax", 6 + 2 * (BLOCKS + 1)), ("float32", 6 + 4 * BLOCKS + 1)],
)
def test_half_precision_adds_only_the_casts_that_its_form_of_attention_says(
    file_of, attention, casts
):
    """Two at the input, one an output; a pair a softmax, or query, key, value and result of each
    attention.
    """
    counts = counts_of(file_of("float16", attention))
    assert counts.pop("Cast") == casts
    plain = counts_of(file_of())
    del plain["Cast"]
    assert counts == plain


def test_bfloat16_unfolds_its_patches_for_onnx_has_no_such_convolution(file_of):
    narrow, half = counts_of(file_of("bfloat16")), counts_of(file_of("float16"))
    assert half - narrow == {"Conv": 1} and narrow - half == {"MatMul": 1, "Add": 1, "Reshape": 1}


@pytest.mark.parametrize("precision, attention, batch", STATIC_FORMS)
def test_a_static_graph_computes_no_shapes(file_of, precision, attention, batch):
    model = onnx.shape_inference.infer_shapes(
        onnx.load(file_of(precision, attention, batch)), strict_mode=True
    )
    counts = Counter(node.op_type for node in model.graph.node)
    forbidden = {
        "If",
        "Loop",
        "IsNaN",
        "Where",
        "Resize",
        "Shape",
        "Expand",
        "ConstantOfShape",
        "Range",
        "Constant",
    }
    assert not forbidden & set(counts), counts
    computed = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    outputs = [name for node in model.graph.node for name in node.output if name in computed]
    assert len(outputs) > 100
    assert {computed[name] for name in outputs} <= {ELEMENT.FLOAT, ELEMENT_OF[precision]}


def test_an_open_batch_costs_one_shape_and_two_expands(file_of):
    static, dynamic = counts_of(file_of("float16")), counts_of(file_of("float16", batch=None))
    assert dynamic - static == {"Shape": 1, "Expand": 2, "Concat": 1} and not static - dynamic


@pytest.mark.parametrize(
    "precision, attention, tolerance",
    [
        ("float32", "half", 2e-5),
        ("float16", "float32_softmax", 2e-2),
        ("float16", "float32", 2e-2),
        ("bfloat16", "half", 1e-1),
        ("bfloat16", "float32", 1e-1),
    ],
)
def test_it_computes_what_the_graph_computes(graph, file_of, precision, attention, tolerance):
    """By onnx's reference evaluator, which shares no code with any runtime."""
    images = pictures(BATCH)
    evaluator = onnx.reference.ReferenceEvaluator(str(file_of(precision, attention)))
    for name, ours, theirs in zip(
        graph.output_names,
        evaluator.run(None, {"images": images}),
        expected_of(graph, images),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=tolerance, err_msg=name)
        assert cosine(ours, theirs) >= 0.9995, name


def expected_of(graph, images):
    with torch.inference_mode():
        return [output.numpy() for output in graph(torch.from_numpy(images))]


@pytest.mark.parametrize("precision, attention, batch", [f for f in FORMS if f[0] != "bfloat16"])
def test_onnxruntime_agrees_with_torch(graph, file_of, precision, attention, batch):
    for rows in (batch,) if batch else (1, 2, 5):
        images = pictures(rows)
        outputs = run_onnxruntime(file_of(precision, attention, batch), images)
        for name, ours, theirs in zip(
            graph.output_names, outputs, expected_of(graph, images), strict=True
        ):
            assert ours.dtype == np.float32 and ours.shape == theirs.shape
            if precision == "float32":
                np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=name)
            else:
                assert cosine(ours, theirs) >= 0.999, name


def test_it_holds_no_paths_and_two_exports_are_equal(graph, file_of, tmp_path):
    """Regression: the exporter writes stack traces, with the paths of the installation, into each
    node.
    """
    file = file_of("float16")
    export_onnx(graph, BATCH, tmp_path / "model.onnx", "float16")
    content = file.read_bytes()
    assert b"site-packages" not in content and b".py" not in content
    assert (tmp_path / "model.onnx").read_bytes() == content
    assert (tmp_path / "model.onnx.data").read_bytes() == file.with_name(
        "model.onnx.data"
    ).read_bytes()


def test_the_graph_keeps_its_fused_attention_and_its_dtype(graph, file_of):
    file_of("bfloat16")
    assert {block.attention.kind for block in graph.model.blocks} == {"fused"}
    assert {parameter.dtype for parameter in graph.parameters()} == {torch.float32}


def test_a_graph_in_half_precision_is_refused(graph, tmp_path):
    half = EncoderGraph(graph.model, MEAN, STD, SIZE_PX).to(torch.bfloat16)
    with pytest.raises(ValueError, match="bfloat16.*accepted: float32"):
        export_onnx(half, BATCH, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "precision, attention, message",
    [
        ("int8", "half", "precision is 'int8'; accepted: float32, float16, bfloat16"),
        ("float16", "flash", "attention is 'flash'; accepted: half, float32_softmax, float32"),
    ],
)
def test_an_unknown_precision_or_form_is_refused(graph, tmp_path, precision, attention, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(graph, BATCH, tmp_path / "model.onnx", precision, attention)
    assert not list(tmp_path.iterdir())


def test_weights_that_float16_cannot_hold_are_named(graph, tmp_path):
    huge = graph.copied_to(torch.device("cpu"), torch.float32)
    with torch.no_grad():
        huge.model.blocks[1].mlp.up.weight[0, 0] = -70000.0
    with pytest.raises(
        ValueError,
        match=r"model.blocks.1.mlp.up.weight holds 7e\+04, which float16 cannot.*bfloat16",
    ):
        export_onnx(huge, BATCH, tmp_path / "model.onnx", "float16")


def test_a_folder_that_is_missing_is_an_oserror(graph, tmp_path):
    with pytest.raises(OSError, match="none is not a folder: model.onnx"):
        export_onnx(graph, BATCH, tmp_path / "none" / "model.onnx")


OTHER_FORMS = {
    "rope": {"rope_theta": 100.0, "position_embedding": "none"},
    "attention pooling": {"cls_token": False, "pooling": "map"},
    "mean pooling": {"cls_token": False, "pooling": "mean", "register_tokens": 0},
    "distilled": {"distillation_token": True, "head": "distilled"},
}


@pytest.mark.parametrize("batch", [BATCH, None])
@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_of_the_model_are_as_plain_and_agree(form, batch, tmp_path):
    """Regression: rotary positions that compute shapes, attention pooling with an IsNaN behind its
    softmax.
    """
    torch.manual_seed(0)
    config = replace(
        VARIANTS["test"], depth=2, **{"head": "linear", "classes": 7} | OTHER_FORMS[form]
    )
    graph, file = (
        EncoderGraph(VisionTransformer(config), MEAN, STD, SIZE_PX),
        tmp_path / "model.onnx",
    )
    export_onnx(graph, batch, file)
    forbidden = {"If", "Loop", "IsNaN", "Where", "Resize", "Sin", "Cos"}
    forbidden |= {"Shape", "Expand", "ConstantOfShape", "Range"} if batch else set()
    assert not forbidden & set(counts_of(file))
    images = pictures(BATCH)
    for name, ours, theirs in zip(
        graph.output_names, run_onnxruntime(file, images), expected_of(graph, images), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=name)
