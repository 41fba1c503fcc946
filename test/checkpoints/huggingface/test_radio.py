"""C-RADIO of transformers under the names of NVIDIA's files: its CLS set, registers, a position
table that is cut, and a normalisation that lies in the model.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import RadioConfig, RadioModel

from test.checkpoints.huggingface.models import LIMIT, STRETCH, largest_difference, randomised
from test.checkpoints.huggingface.models import saved as saved_folder
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "mlp_ratio": 1.5,
    "patch_size": 8,
    "max_img_size": 64,
    "norm_mean": [0.4, 0.5, 0.6],
    "norm_std": [0.3, 0.2, 0.25],
}
CASES = {
    "v4": {},
    "one token": {"num_cls_tokens": 1, "num_registers": 4, "summary_idxs": [0]},
    "teachers out of order": {"num_cls_tokens": 4, "summary_idxs": [2, 0, 3]},
    "video": {"video_temporal_patch_size": 2},
}
# nvidia/C-RADIOv4-H's processor scales pixels to [0, 1]; the model normalises.
PUBLISHED = {
    **{name: value for name, value in STRETCH.items() if not name.startswith("image_")},
    "do_normalize": False,
    "image_processor_type": "CLIPImageProcessorFast",
    "do_center_crop": False,
    "resample": 3,
}
ROOT = "radio_model.model."


def model(**fields):
    return randomised(RadioModel, RadioConfig(**{**SIZES, **fields}))


def saved(theirs, folder, preprocessor=PUBLISHED):
    """As published: without the factors of layers, which transformers' copy has beside them."""
    path = saved_folder(theirs, folder, preprocessor=preprocessor)
    held = load_file(folder / "model.safetensors")
    assert f"{ROOT}patch_generator.pos_embed" in held
    for name in [name for name in held if "layer_scale" in name]:
        del held[name]
    save_file(held, folder / "model.safetensors")
    return path


def without_scales(theirs):
    for name, parameter in theirs.named_parameters():
        if "layer_scale" in name:
            parameter.fill_(1)
    return theirs


def check(loaded, theirs, summary):
    config = theirs.config
    first = config.num_summary_tokens
    for size in ((32, 32), (64, 64), (48, 24), (16, 40)):
        images = torch.rand(2, 3, *size)
        out = theirs(images)
        assert out.features.std(dim=1).mean() > 0.1
        mean, std = (torch.tensor(v)[:, None, None] for v in (loaded.card.mean, loaded.card.std))
        ours = loaded.model((images - mean) / std)
        assert largest_difference(ours.patch_tokens, out.features) <= LIMIT
        assert largest_difference(ours.pooled, out.summary) <= LIMIT
        of_first = out.last_hidden_state[:, summary[0]]
        assert largest_difference(ours.cls_token, of_first) <= LIMIT
    assert loaded.model.first_patch == first


@pytest.mark.parametrize("case", CASES)
def test_parity(case, tmp_path):
    theirs = without_scales(model(**CASES[case]))
    loaded = load_checkpoint(saved(theirs, tmp_path))
    assert loaded.card.family == "radio"
    assert loaded.card.mean == pytest.approx((0.4, 0.5, 0.6))
    check(loaded, theirs, CASES[case].get("summary_idxs", [0, 1]))
    assert all("video" in name or "norm_" in name or "summary" in name for name in loaded.unused)


def test_nvidias_own_config_json(tmp_path):
    """It has no sizes; heads are those of the width."""
    theirs = without_scales(model(hidden_size=768, num_attention_heads=12, num_hidden_layers=1))
    saved(theirs, tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["RADIOModel"], "args": {}, "version": "c-radio_v3-b"})
    )
    check(load_checkpoint(str(tmp_path)), theirs, [0, 1])


def test_a_normalising_processor_comes_before_the_models(tmp_path):
    theirs = without_scales(model())
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    fields = {**PUBLISHED, **half, "do_normalize": True}
    loaded = load_checkpoint(saved(theirs, tmp_path, fields))
    images = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(v)[:, None, None] for v in (loaded.card.mean, loaded.card.std))
    ours = loaded.model((images - mean) / std).patch_tokens
    assert largest_difference(ours, theirs(images * 2 - 1).features) <= LIMIT


@pytest.mark.parametrize(
    "changes, tensors, message",
    [
        ({"use_swiglu_ffn": True}, {}, "use_swiglu_ffn is true; accepted: false"),
        ({"vitdet_window_size": 16}, {}, "vitdet_window_size is 16; accepted: a model without"),
        ({"num_attention_heads": None}, {}, "heads of the model is None|no num_attention_heads"),
        ({}, {"radio_model.summary_idxs": torch.tensor([0, 0])}, "summary_idxs is .0, 0."),
        ({}, {"radio_model.summary_idxs": torch.tensor([99])}, "different indices of the 10"),
        ({}, {f"{ROOT}norm.weight": torch.zeros(32)}, "1 unexpected"),
        ({}, {f"{ROOT}patch_generator.pos_embed": torch.zeros(1, 15, 32)}, "15 positions"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, tensors, message, tmp_path):
    folder = saved(model(), tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, **changes}))
    held = load_file(tmp_path / "model.safetensors")
    save_file({**held, **tensors}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
