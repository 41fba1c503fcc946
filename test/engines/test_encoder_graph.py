"""The graph that engines get equals the model behind the usual normalisation, and holds nothing it
should not.
"""

import dataclasses

import pytest
import torch

from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.model.layers import explicit_attention
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = ("cls_token", "patch_tokens", "cls_attention", "logits")


@pytest.fixture(scope="module")
def model() -> VisionTransformer:
    torch.manual_seed(0)
    config = dataclasses.replace(VARIANTS["test"], head="linear", classes=5)
    model = VisionTransformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.2)
    return model


def pictures(size, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=generator)


def normalised(images):
    return (images.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[
        :, None, None
    ]


@pytest.mark.parametrize("size", [(64, 64), (40, 72), (16, 8), (128, 96)])
@pytest.mark.parametrize("block", [-1, 0])
def test_it_equals_the_model(model, size, block):
    graph = EncoderGraph(model, MEAN, STD, size, block)
    images = pictures(size)
    reference, outputs = model(normalised(images), block), graph(images)
    assert graph.output_names == NAMES
    for name, output in zip(NAMES, outputs, strict=True):
        assert (output - getattr(reference, name)).abs().max() <= 1e-4, name


FORMS = {
    "rope": {"rope_theta": 100.0, "position_embedding": "none"},
    "no CLS token, attention pooling": {"cls_token": False, "pooling": "map"},
    "no CLS token, mean": {"cls_token": False, "pooling": "mean", "register_tokens": 0},
    "distilled": {"distillation_token": True, "head": "distilled"},
    "norm behind the pooling": {"pooling": "mean", "norm_pooled": True},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [-1, 0])
def test_every_form_of_the_model_equals_its_graph(form, block):
    torch.manual_seed(0)
    config = dataclasses.replace(VARIANTS["test"], **{"head": "linear", "classes": 5} | FORMS[form])
    model = VisionTransformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.2)
    images = pictures((40, 72))
    graph = EncoderGraph(model, MEAN, STD, (40, 72), block)
    reference = model(normalised(images), block)
    for name, output in zip(NAMES, graph(images), strict=True):
        assert (output - getattr(reference, name)).abs().max() <= 1e-4, name
    assert model.rotation_cos is None
    half = graph.to(torch.bfloat16)(images)
    assert all(torch.isfinite(output).all() and output.dtype == torch.float32 for output in half)


def test_no_logits_without_a_head():
    graph = EncoderGraph(VisionTransformer(VARIANTS["test"]), MEAN, STD, (64, 64))
    assert graph.output_names == NAMES[:3]
    assert len(graph(pictures((64, 64)))) == 3
    assert not graph.training


def test_the_model_that_was_given_stays_as_it_is(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = EncoderGraph(model, MEAN, STD, (40, 72)).to(torch.bfloat16)
    with explicit_attention(graph):
        assert model.blocks[0].attention.kind == "fused"
    assert model.config.image_size_px == (64, 64)
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name]), name


def test_half_precision_runs_and_gives_float32(model):
    images = pictures((64, 64))
    exact = EncoderGraph(model, MEAN, STD, (64, 64))(images)
    outputs = EncoderGraph(model, MEAN, STD, (64, 64)).to(torch.bfloat16)(images)
    for name, output, reference in zip(NAMES, outputs, exact, strict=True):
        assert output.dtype == torch.float32
        assert torch.cosine_similarity(output.flatten(), reference.flatten(), dim=0) > 0.99, name


def test_folding_leaves_no_subnormal_float16_weights(model):
    """Folding 1 / (255 std) whole put 45 % of DINOv2's weights below 2^-14; those are flushed on
    some devices.
    """
    weight = EncoderGraph(model, MEAN, STD, (64, 64)).model.patch_embedding.projection.weight
    before = model.patch_embedding.projection.weight
    assert (weight.abs() < 2**-14).float().mean() <= (before.abs() < 2**-14).float().mean() + 1e-3


def test_the_exported_program_is_free_of_resizing_and_fused_attention(model):
    graph = EncoderGraph(model, MEAN, STD, (40, 72))
    images = pictures((40, 72), batch=3)
    with explicit_attention(graph):
        program = torch.export.export(graph, (images,))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.softmax.int" in operators and "aten.layer_norm.default" in operators
    for unwanted in ("upsample", "scaled_dot_product", "interpolate", "isnan", "where"):
        assert not [name for name in operators if unwanted in name]
    for output, expected in zip(program.module()(images), graph(images), strict=True):
        assert torch.allclose(output, expected, atol=1e-5)


def test_a_network_size_that_is_no_multiple_of_the_patch_is_refused(model):
    with pytest.raises(ValueError, match="accepted: both sides multiples of the patch size 8"):
        EncoderGraph(model, MEAN, STD, (60, 64))
