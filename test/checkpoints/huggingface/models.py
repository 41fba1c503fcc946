"""Small models of transformers with random weights, saved as folders in each spelling of their
names.
"""

import json

import torch
from safetensors.torch import save_file

LIMIT = 1e-4
LABELS = {0: "cup", 1: "can", 2: "crane", 3: "crane"}
SPELLINGS = ("as saved", "as the modules are named")
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
WITH_MLP = {**SIZES, "intermediate_size": 48}
STRETCH = {
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def randomised(module_class, config):
    """A model of transformers whose every weight matters: its own initial ones are zeros, ones and
    nearly zero.
    """
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = module_class(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            continue
        one = ("norm" in name and name.endswith("weight")) or "layer_scale" in name
        # Matrices keep the size of what they are given, so that no width drowns any part.
        parameter.normal_(
            mean=float(one), std=parameter[0].numel() ** -0.5 if parameter.ndim == 2 else 0.2
        )
    return model


def saved(model, folder, spelling=SPELLINGS[0], preprocessor=STRETCH):
    """``model`` in ``folder``, under the names of files on the hub or under those of its
    modules.
    """
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    if spelling == SPELLINGS[1]:
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
            folder / "model.safetensors",
        )
    return str(folder)


def largest_difference(ours, theirs) -> float:
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()
