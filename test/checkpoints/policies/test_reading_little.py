"""Of a policy of 8 GB, little more than the tower is read: pages that the system read are counted.

The files are sparse: they take no more room on the disk than the tower.
"""

import ctypes
import json
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from test.checkpoints.policies.policy_folders import PI0, paligemma, pi0_tensors
from vit_perception.checkpoints.sources import load_checkpoint

GB = 1 << 30
SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
OURS = ("vision_tower", "multi_modal_projector", "state_proj")


def write_sparse(path: Path, tensors: dict[str, Tensor | int]) -> None:
    """Write a safetensors file; a number stands for so many bytes of holes."""
    header = {}
    offset = 0
    for name, tensor in tensors.items():
        length = tensor if isinstance(tensor, int) else tensor.numel() * 4
        shape = [length] if isinstance(tensor, int) else list(tensor.shape)
        header[name] = {
            "dtype": "U8" if isinstance(tensor, int) else "F32",
            "shape": shape,
            "data_offsets": [offset, offset + length],
        }
        offset += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        for name, tensor in tensors.items():
            file.seek(start + header[name]["data_offsets"][0])
            if not isinstance(tensor, int):
                file.write(tensor.contiguous().numpy())
        file.truncate(start + offset)
        file.flush()
        os.fsync(file.fileno())
        # What was written is forgotten, so that only what is read is in memory.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_in_memory(path: Path) -> int:
    """How much of a file the system holds in memory: what was read of it, and ahead."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        view = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-len(view) // mmap.PAGESIZE), np.uint8)
        arguments = (view.ctypes.data, len(view), pages.ctypes.data)
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        assert mincore(*(ctypes.c_void_p(argument) for argument in arguments)) == 0
        del view
    return int((pages & 1).sum()) * mmap.PAGESIZE


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return pi0_tensors(paligemma(**SIZES))


def test_of_a_sharded_policy_only_the_tower_is_read(tensors, tmp_path):
    tower = {name: t for name, t in tensors.items() if any(part in name for part in OURS)}
    language = "model.paligemma_with_expert.paligemma.model.language_model.layers"
    shards = {
        "model-00001-of-00002.safetensors": {f"{language}.0.weight": 4 * GB},
        "model-00002-of-00002.safetensors": {
            f"{language}.1.weight": 2 * GB,
            **tower,
            f"{language}.2.weight": 2 * GB,
        },
    }
    for name, held in shards.items():
        write_sparse(tmp_path / name, held)
    weight_map = {tensor: name for name, held in shards.items() for tensor in held}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    # Without a feature of the state, its statistics need not be there.
    (tmp_path / "config.json").write_text(json.dumps({**PI0, "input_features": {}}))
    before = sum(bytes_in_memory(tmp_path / name) for name in shards)
    loaded = load_checkpoint(str(tmp_path))
    assert len(loaded.card.weights_sha256) == 64
    read = sum(bytes_in_memory(tmp_path / name) for name in shards) - before
    size = sum(t.numel() * 4 for name, t in tower.items() if "state_proj" not in name)
    assert size > 90e6
    # Pages that were still in memory need not be read; what is read ahead must be little.
    assert read <= 1.2 * size
    with torch.inference_mode():
        images = torch.randn(1, 3, 64, 64)
        tokens = loaded.connector(loaded.model(images).patch_tokens, (8, 8))
    assert tokens.isfinite().all() and tokens.std() > 0.1
