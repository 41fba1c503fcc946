"""Of a policy of 8 GB, little more than the tower is read: pages that the system read are counted.

The files are sparse: they take no more room on the disk than the tower.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from test.checkpoints.policies.policy_folders import PI0, paligemma, pi0_tensors
from test.checkpoints.policies.sparse_files import (
    GB,
    bytes_in_memory,
    file_bytes_in_this_process,
    write_sparse,
)
from vit_perception.checkpoints.sources import load_checkpoint

SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
OURS = ("vision_tower", "multi_modal_projector", "state_proj")


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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the list of mappings is Linux's")
def test_a_file_of_bfloat16_does_not_stay_in_memory_beside_its_float32_copy(tensors, tmp_path):
    halves = {
        name: t.to(torch.bfloat16)
        for name, t in tensors.items()
        if any(part in name for part in OURS)
    }
    write_sparse(tmp_path / "model.safetensors", halves)
    (tmp_path / "config.json").write_text(json.dumps({**PI0, "input_features": {}}))
    digest = load_checkpoint(str(tmp_path)).card.weights_sha256  # imports what is needed
    before = file_bytes_in_this_process()
    loaded = load_checkpoint(str(tmp_path))
    assert loaded.card.weights_sha256 == digest
    size = sum(t.nbytes for t in halves.values())
    assert size > 45e6 and file_bytes_in_this_process() - before < size / 2
    name = next(name for name in halves if name.endswith("layers.1.mlp.fc2.weight"))
    weight = loaded.model.state_dict()["blocks.1.mlp.down.weight"]
    assert torch.equal(weight, halves[name].float())
    # What is asked for again is still what the file holds.
    assert torch.equal(loaded.files.tensors[name], halves[name])
