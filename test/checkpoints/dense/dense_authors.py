"""transformers' dense models under the names of their authors' files, written out.

Names: https://github.com/DepthAnything/Depth-Anything-V2 and https://github.com/isl-org/DPT. Where
Depth Anything's own code is installed, `python -m tools.checkpoint_parity dense` compares with that
instead.
"""

import torch

# transformers' layer in a block: the authors', who have query, key and value in one.
DINOV2_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.output.dense": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
VIT_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def block_tensors(theirs: dict, prefix: str, layers: dict, depth: int) -> dict:
    """The encoder's blocks under timm's names."""
    out = {}
    for index in range(depth):
        old, new = f"{prefix}encoder.layer.{index}.", f"blocks.{index}."
        for part in ("weight", "bias"):
            out[f"{new}attn.qkv.{part}"] = torch.cat(
                [
                    theirs[f"{old}attention.attention.{name}.{part}"]
                    for name in ("query", "key", "value")
                ]
            )
            out |= {
                f"{new}{to}.{part}": theirs[f"{old}{given}.{part}"] for given, to in layers.items()
            }
        for number in (1, 2):
            if f"{old}layer_scale{number}.lambda1" in theirs:
                out[f"{new}ls{number}.gamma"] = theirs[f"{old}layer_scale{number}.lambda1"]
    for part in ("weight", "bias"):
        out[f"patch_embed.proj.{part}"] = theirs[
            f"{prefix}embeddings.patch_embeddings.projection.{part}"
        ]
        out[f"norm.{part}"] = theirs[f"{prefix}layernorm.{part}"]
    return out | {
        "cls_token": theirs[f"{prefix}embeddings.cls_token"],
        "pos_embed": theirs[f"{prefix}embeddings.position_embeddings"],
    }


def head_tensors(theirs: dict, outputs: dict, level_names) -> dict:
    """The neck and head: ``outputs`` are layers of the head, ``level_names(level)`` (projection,
    resize, readout).
    """
    out = {}

    def take(given: str, to: str) -> None:
        out.update(
            {
                f"{to}{name[len(given) :]}": tensor
                for name, tensor in theirs.items()
                if name.startswith(f"{given}.")
            }
        )

    for level in range(4):
        projection, resize, readout = level_names(level)
        take(f"neck.reassemble_stage.layers.{level}.projection", projection)
        take(f"neck.reassemble_stage.layers.{level}.resize", resize)
        take(f"neck.reassemble_stage.readout_projects.{level}.0", readout)
        take(f"neck.convs.{level}", f"scratch.layer{level + 1}_rn")
        old, new = f"neck.fusion_stage.layers.{3 - level}", f"scratch.refinenet{level + 1}"
        take(f"{old}.projection", f"{new}.out_conv")
        for unit in (1, 2):
            for place in (1, 2):
                take(
                    f"{old}.residual_layer{unit}.convolution{place}",
                    f"{new}.resConfUnit{unit}.conv{place}",
                )
                take(
                    f"{old}.residual_layer{unit}.batch_norm{place}",
                    f"{new}.resConfUnit{unit}.bn{place}",
                )
    for given, to in outputs.items():
        take(given, to)
    return out


def v4_names(model) -> dict:
    """The state dict as files have it: transformers 5 renames DINOv2's layers inside the model."""
    renamed = {
        ".attention.q_proj.": ".attention.attention.query.",
        ".attention.k_proj.": ".attention.attention.key.",
        ".attention.v_proj.": ".attention.attention.value.",
        ".attention.o_proj.": ".attention.output.dense.",
    }
    out = {}
    for name, tensor in model.state_dict().items():
        for new, old in renamed.items():
            name = name.replace(new, old)
        out[name] = tensor.clone()
    return out


def anything_tensors(model) -> dict:
    """A Depth Anything of transformers as the authors' state dict."""
    theirs, config = v4_names(model), model.config.backbone_config
    encoder = block_tensors(theirs, "backbone.", DINOV2_BLOCK, config.num_hidden_layers)
    outputs = {
        "head.conv1": "scratch.output_conv1",
        "head.conv2": "scratch.output_conv2.0",
        "head.conv3": "scratch.output_conv2.2",
    }
    head = head_tensors(
        theirs,
        outputs,
        lambda level: (
            f"projects.{level}",
            f"resize_layers.{level}",
            f"readout_projects.{level}.0",
        ),
    )
    return {
        **{f"pretrained.{n}": t for n, t in encoder.items()},
        **{f"depth_head.{n}": t for n, t in head.items()},
        "pretrained.mask_token": torch.zeros(1, config.hidden_size),
    }


def dpt_tensors(model) -> dict:
    """A DPT of transformers, of 12 blocks of width 64, as the authors' state dict."""
    theirs = v4_names(model)
    encoder = block_tensors(theirs, "dpt.", VIT_BLOCK, 12)
    head = head_tensors(
        theirs,
        {f"head.head.{k}": f"scratch.output_conv.{k}" for k in (0, 1, 2, 4)},
        lambda level: (
            f"pretrained.act_postprocess{level + 1}.3",
            f"pretrained.act_postprocess{level + 1}.4",
            f"pretrained.act_postprocess{level + 1}.0.project.0",
        ),
    )
    return {
        **{f"pretrained.model.{n}": t for n, t in encoder.items()},
        **head,
        "pretrained.model.head.weight": torch.zeros(1000, 64),
        "auxlayer.0.weight": torch.zeros(1),
    }
