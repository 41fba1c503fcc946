"""Which family reads a checkpoint, what is said where none does, and the parts of a LoadPlan by a
small family.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vit_perception.checkpoints import families
from vit_perception.checkpoints.defaults import HALF
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.families import nearest_family
from vit_perception.checkpoints.family import (
    DENSE,
    PROJECTION,
    Family,
    LoadPlan,
    Preprocessing,
    positions_of_patches,
    zero_biases,
)
from vit_perception.checkpoints.refused import REFUSED
from vit_perception.checkpoints.sources import load_checkpoint, open_checkpoint
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

TEST = VARIANTS["test"]
SIGNATURE_KEYS = ("tower.cls_token", "tower.norm.weight")


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        f"tower.{name}": tensor.clone()
        for name, tensor in VisionTransformer(TEST).state_dict().items()
    }


def plan_of(found, **changes) -> LoadPlan:
    names = {name: (name,) for name in VisionTransformer(TEST).state_dict()}
    plan = LoadPlan(
        config=TEST,
        key_map=names,
        preprocessing=Preprocessing(ResizeRule((64, 64)), HALF, HALF),
        prefixes=("tower.",),
    )
    return dataclasses.replace(plan, **changes)


@pytest.fixture
def family(monkeypatch):
    """A family of its own in the table, whose LoadPlan the test changes."""
    changes = {}
    made = Family(
        name="tower",
        recognises=lambda found: found.has(*SIGNATURE_KEYS),
        read=lambda found: plan_of(found, **changes),
        signature_keys=SIGNATURE_KEYS,
    )
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, made))
    return changes


def test_a_family_by_its_names_alone_without_any_config(family, tmp_path):
    save_file(weights(), tmp_path / "my_weights.safetensors")
    loaded = load_checkpoint(str(tmp_path))
    assert (loaded.card.family, loaded.projection, loaded.dense) == ("tower", None, None)
    assert load_checkpoint(str(tmp_path / "my_weights.safetensors")).card.name == "my_weights"


def test_a_named_family_is_taken_at_its_word_and_an_unknown_one_refused(family, tmp_path):
    save_file(
        {f"x{name}": tensor for name, tensor in weights().items()}, tmp_path / "m.safetensors"
    )
    with pytest.raises(CheckpointError, match="is of no family that is known"):
        load_checkpoint(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"does not fit the model: \d+ missing"):
        load_checkpoint(str(tmp_path), "tower")
    with pytest.raises(CheckpointError, match="model.family is 'towel'; accepted: auto, .*tower"):
        load_checkpoint("hf://is/never-asked", "towel")


def test_a_foreign_checkpoint_gets_the_differences_to_the_nearest_family(tmp_path):
    tensors = {
        "module.embeddings.cls_token": torch.zeros(1, 1, 8),
        "module.layernorm.weight": torch.zeros(8),
        "module.embeddings.position_embeddings": torch.zeros(1, 5, 8),
        "module.encoder.layer.0.norm1.weight": torch.zeros(8),
        "decoder.weight": torch.zeros(3, 4),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    assert nearest_family(open_checkpoint(str(tmp_path)))[0].name == "dinov2"
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(str(tmp_path))
    message = str(error.value)
    assert "the nearest family is dinov2: 4 of its 8 telling names are in the file" in message
    rows = [
        [cell.strip() for cell in line.split("|")] for line in message.splitlines() if "|" in line
    ]
    assert rows[0] == ["missing in the file", "in the file besides"]
    assert rows[1][1] == "decoder.weight (3, 4)"
    assert [row[0] for row in rows[1:]] == [
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.layer_scale1.lambda1",
        "encoder.layer.0.norm2.weight",
        "encoder.layer.0.layer_scale2.lambda1",
    ]


def test_a_projection_and_patterns_of_unused_names(family, tmp_path):
    save_file(
        {
            **weights(),
            "tower.proj": torch.arange(64.0).reshape(32, 2),
            "text.a": torch.zeros(1),
            "text.b": torch.full((1,), float("nan")),
        },
        tmp_path / "m.safetensors",
    )
    names = {name: (name,) for name in VisionTransformer(TEST).state_dict()}
    family.update(
        key_map={**names, "proj": (PROJECTION,)},
        converters={PROJECTION: lambda tensor: tensor.T},
        unused=("text.*",),
    )
    loaded = load_checkpoint(str(tmp_path))
    np.testing.assert_array_equal(loaded.projection, np.arange(64.0).reshape(32, 2).T)
    assert loaded.projection.dtype == np.float32 and set(loaded.unused) == {"text.a", "text.b"}
    family["converters"] = {}
    with pytest.raises(
        CheckpointError, match=r"the projection has the shape \(32, 2\).*accepted: .*\(E, 32\)"
    ):
        load_checkpoint(str(tmp_path))
    family["unused"] = ()
    with pytest.raises(CheckpointError, match=r"2 unexpected(.|\n)*text.a \(1,\)"):
        load_checkpoint(str(tmp_path))


def test_what_a_family_lacks_is_zero_and_positions_of_patches_get_a_row_for_cls(family, tmp_path):
    tensors = {name: tensor for name, tensor in weights().items() if "key.bias" not in name}
    positions = tensors["tower.position_embedding"][0, 1:].clone()
    save_file({**tensors, "tower.position_embedding": positions}, tmp_path / "m.safetensors")
    family.update(
        zeros=zero_biases(TEST, "attention.key"),
        converters={"position_embedding": positions_of_patches(TEST)},
    )
    model = load_checkpoint(str(tmp_path)).model
    assert (
        torch.equal(model.position_embedding[0, 1:], positions)
        and not model.position_embedding[0, 0].any()
    )
    assert not any(block.attention.key.bias.any() for block in model.blocks)


def test_a_converter_that_cannot_take_a_tensor_names_it(family, tmp_path):
    save_file(weights(), tmp_path / "m.safetensors")
    family.update(converters={"norm.weight": lambda tensor: tensor.reshape(7, 7)})
    with pytest.raises(
        CheckpointError, match=r"tower.norm.weight \(32,\) cannot become norm.weight: shape"
    ):
        load_checkpoint(str(tmp_path))


def test_a_dense_head_is_filled_strictly_beside_parameters_of_the_same_name(family, tmp_path):
    with torch.device("meta"):
        module = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(4)})
    save_file(
        {**weights(), "neck.weight": torch.ones(4), "neck.bias": torch.ones(4)},
        tmp_path / "m.safetensors",
    )
    names = {name: (name,) for name in VisionTransformer(TEST).state_dict()}
    family.update(
        key_map={
            **names,
            "neck.weight": (f"{DENSE}norm.weight",),
            "neck.bias": (f"{DENSE}norm.bias",),
        },
        dense=DenseHeadSpec(kind="depth", blocks=(0, 1), module=module, quantity="metric_depth"),
    )
    loaded = load_checkpoint(str(tmp_path))
    assert (
        torch.equal(loaded.dense.module["norm"].bias, torch.ones(4))
        and not loaded.dense.module.training
    )
    assert torch.equal(loaded.model.norm.weight, weights()["tower.norm.weight"])
    save_file({**weights(), "neck.weight": torch.ones(4)}, tmp_path / "m.safetensors")
    with pytest.raises(
        CheckpointError, match=r"dense head\) does not fit the model: 1 missing(.|\n)*norm.bias"
    ):
        load_checkpoint(str(tmp_path))


def test_a_family_that_cannot_make_a_model_of_the_sizes_names_the_file(family, tmp_path):
    save_file(weights(), tmp_path / "m.safetensors")
    family["preprocessing"] = Preprocessing(ResizeRule((60, 60)), HALF, HALF)
    with pytest.raises(
        CheckpointError, match="60 x 60 px; accepted: both sides multiples of the patch size 8"
    ):
        load_checkpoint(str(tmp_path))
    broken = Family(
        name="broken",
        recognises=lambda found: True,
        read=lambda found: dataclasses.replace(TEST, heads=5),
        signature_keys=SIGNATURE_KEYS,
    )
    families.FAMILIES = (broken,)
    with pytest.raises(
        CheckpointError, match="m.safetensors, read as broken: heads of the model is 5"
    ):
        load_checkpoint(str(tmp_path))


def test_nan_anywhere_is_refused_in_every_precision(family, tmp_path):
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        tensors = {name: tensor.to(dtype) for name, tensor in weights().items()}
        tensors["tower.blocks.2.mlp.down.weight"][3, 5] = float("nan")
        save_file(tensors, tmp_path / "m.safetensors")
        with pytest.raises(CheckpointError, match="blocks.2.mlp.down.weight holds NaN or infinity"):
            load_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"kind": "flow"},
            "kind of the dense head is 'flow'; accepted: one of depth, segmentation",
        ),
        ({"blocks": ()}, "blocks of the dense head"),
        ({"quantity": "cm"}, "quantity of the dense head is 'cm'; accepted: one"),
        ({"kind": "segmentation", "quantity": "class"}, "labels of the dense head"),
        ({"labels": ("wall",)}, "labels of the dense head"),
    ],
)
def test_a_dense_head_that_says_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DenseHeadSpec(
            **{"kind": "depth", "blocks": (0,), "module": torch.nn.Identity(), "quantity": "depth"}
            | fields
        )


@pytest.mark.parametrize("model_type", REFUSED)
def test_models_that_cannot_run_here_are_refused_by_name_with_what_to_take_instead(
    model_type, tmp_path
):
    save_file({"embeddings.cls_token": torch.zeros(1, 1, 8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(
        CheckpointError, match=f"config.json is '{model_type}': .*; accepted: .*, e.g. "
    ) as error:
        load_checkpoint(str(tmp_path))
    assert "nearest" not in str(error.value)


def test_a_model_type_that_is_no_text_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": ["vit"]}))
    with pytest.raises(
        CheckpointError, match=r"model_type in .* is \['vit'\]; accepted: vit_perception, vit, "
    ):
        load_checkpoint(str(tmp_path))
