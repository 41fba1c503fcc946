"""The image towers of Qwen2.5-VL and Qwen3-VL of transformers: windows, rows and columns as rotary
positions, a learned table, frames of a still picture, and their processor's size.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from test.checkpoints.huggingface.models import LIMIT, largest_difference, randomised, saved
from test.checkpoints.huggingface.processors import pictures
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.building.build import with_network_size
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import RgbImage

SIDE, MERGE = 8, 2
SIZES = {
    "hidden_size": 32,
    "num_heads": 4,
    "intermediate_size": 48,
    "out_hidden_size": 16,
    "patch_size": SIDE,
}
CASES = {
    # Windows of 4 x 4 patches.
    "2.5": (
        Qwen2_5_VisionTransformerPretrainedModel,
        Qwen2_5_VLVisionConfig(**SIZES, depth=3, window_size=32, fullatt_block_indexes=[1]),
    ),
    "3": (
        Qwen3VLVisionModel,
        Qwen3VLVisionConfig(
            **SIZES, depth=3, num_position_embeddings=36, deepstack_visual_indexes=[0, 1]
        ),
    ),
}
# Qwen/Qwen3-VL-4B-Instruct's processor, with smaller patches.
PUBLISHED = {
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "image_std": [0.5, 0.5, 0.5],
    "merge_size": MERGE,
    "patch_size": SIDE,
    "size": {"longest_edge": 9216, "shortest_edge": 256},
    "temporal_patch_size": 2,
}


def merged_order(grid):
    """For each patch in the processor's order, its index row by row."""
    index = torch.arange(grid[0] * grid[1]).reshape(grid[0] // MERGE, MERGE, grid[1] // MERGE, -1)
    return index.permute(0, 2, 1, 3).flatten()


def windowed_order(grid, window):
    """For each token of Qwen2.5-VL, its index row by row: windows of merged patches."""
    index = merged_order(grid).reshape(grid[0] // MERGE, grid[1] // MERGE, MERGE * MERGE)
    rows = [part for row in index.split(window) for part in row.split(window, dim=1)]
    return torch.cat([part.flatten() for part in rows])


def given(images):
    """Images (1, 3, H, W) as the towers take them: patches, each for two frames, and the grid."""
    rows, columns = (side // SIDE for side in images.shape[2:])
    patches = images.reshape(3, rows, SIDE, columns, SIDE).permute(1, 3, 0, 2, 4).flatten(0, 1)
    frames = patches[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1)
    return frames[merged_order((rows, columns))], torch.tensor([[1, rows, columns]])


def tokens_of(case, theirs, images):
    """Their tokens, row by row."""
    patches, grid = given(images)
    held = theirs(patches, grid_thw=grid).last_hidden_state
    size = tuple(grid[0, 1:].tolist())
    order = windowed_order(size, 2) if case == "2.5" else merged_order(size)
    tokens = torch.empty_like(held)
    tokens[order] = held
    return tokens[None]


@pytest.mark.parametrize("case", CASES)
def test_parity(case, tmp_path):
    theirs = randomised(*CASES[case])
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=PUBLISHED))
    for size in ((64, 64), (48, 80), (32, 112)):
        images = torch.randn(1, 3, *size)
        tokens = tokens_of(case, theirs, images)
        assert tokens.std(dim=1).mean() > 0.1
        assert largest_difference(loaded.model(images).patch_tokens, tokens) <= LIMIT
    assert bool(loaded.unused) == (case == "3")
    assert all(name.startswith("deepstack_merger_list.") for name in loaded.unused)


@pytest.mark.parametrize("case", CASES)
def test_merged_tokens_are_the_language_models(case, tmp_path):
    """Row by row of squares, also where windows do not divide the grid."""
    theirs = randomised(*CASES[case])
    loaded = load_checkpoint(saved(theirs, tmp_path, preprocessor=PUBLISHED))
    for size in ((64, 64), (48, 80), (32, 112)):
        images = torch.randn(1, 3, *size)
        patches, grid = given(images)
        merged = theirs(patches, grid_thw=grid).pooler_output[None]
        tokens = loaded.model(images).patch_tokens
        ours = loaded.connector(tokens, tuple(side // SIDE for side in size))
        assert merged.std(dim=1).mean() > 0.05
        assert largest_difference(ours, merged) <= LIMIT
    assert loaded.connector.spec.as_json() == {
        "widths": [128, 128, 16],
        "shuffle": 2,
        "bias": True,
        "scale": 1.0,
        "norm": "rms" if case == "2.5" else "layer",
        "norm_place": "patch",
        "norm_eps": 1e-6,
        **({"left_out": [0, 1]} if case == "3" else {}),
    }


def test_a_tower_without_its_merger(tmp_path):
    """Alone it has no connector; a whole model is refused, and so is half a merger."""
    folder = saved(randomised(*CASES["3"]), tmp_path, preprocessor=PUBLISHED)
    weights = tmp_path / "model.safetensors"
    held = load_file(weights)
    without = {name: tensor for name, tensor in held.items() if not name.startswith("merger.")}
    save_file(without, weights)
    assert load_checkpoint(folder).connector is None
    vision = json.loads((tmp_path / "config.json").read_text())
    whole = {"model_type": "qwen3_vl", "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    with pytest.raises(
        CheckpointError, match=r"no merger\.\*, the connector .*accepted: the complete"
    ):
        load_checkpoint(folder)
    save_file({**without, "merger.norm.weight": held["merger.norm.weight"]}, weights)
    with pytest.raises(CheckpointError, match=r"no merger.linear_fc2.weight, a part of the merger"):
        load_checkpoint(folder)
    save_file({n: t for n, t in held.items() if n != "merger.norm.bias"}, weights)
    with pytest.raises(CheckpointError, match=r"(?s)connector.*1 missing.*norm.bias"):
        load_checkpoint(folder)


def test_an_adapter_beside_the_model_is_refused(tmp_path):
    folder = saved(randomised(*CASES["3"]), tmp_path, preprocessor=PUBLISHED)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"LoRA adapter \(adapter_config.json\).*merge"):
        load_checkpoint(folder)


def test_windows_matter_and_are_kept_for_one_grid(tmp_path):
    loaded = load_checkpoint(
        saved(randomised(*CASES["2.5"]), tmp_path, preprocessor=PUBLISHED)
    ).model
    images = torch.randn(1, 3, 48, 80)
    tokens = loaded(images).patch_tokens
    loaded.fix_grid((6, 10))
    assert torch.equal(loaded(images).patch_tokens, tokens)
    loaded.windows = torch.zeros(60, 60)
    assert (loaded(images).patch_tokens - tokens).abs().max() > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_in_a_whole_model(case, tmp_path):
    theirs = randomised(*CASES[case])
    saved(theirs, tmp_path, preprocessor=PUBLISHED)
    held = load_file(tmp_path / "model.safetensors")
    whole = {f"visual.{name}": tensor for name, tensor in held.items()}
    save_file(
        {**whole, "model.norm.weight": torch.zeros(2), "lm_head.weight": torch.zeros(2)},
        tmp_path / "model.safetensors",
    )
    vision = json.loads((tmp_path / "config.json").read_text())
    del vision["rope_parameters"]
    config = {
        "model_type": vision["model_type"].removesuffix("_vision"),
        "rope_scaling": {"mrope_section": [16, 24, 24], "type": "mrope"},
        "vision_config": vision,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    images = torch.randn(1, 3, 48, 80)
    ours = load_checkpoint(str(tmp_path)).model(images).patch_tokens
    assert largest_difference(ours, tokens_of(case, theirs, images)) <= LIMIT


@pytest.mark.parametrize("bounds", [{}, {"min_pixels": 4096}, {"max_pixels": 1 << 20}])
def test_pixels_are_their_processors(bounds, tmp_path):
    fields = {**PUBLISHED, **bounds}
    folder = saved(randomised(*CASES["3"]), tmp_path, preprocessor=fields)
    loaded = load_checkpoint(folder)
    factor = SIDE * MERGE
    size = {"min_pixels": 256, "max_pixels": 9216, **bounds}
    assert loaded.card.rule.network_size_px == smart_resize(480, 640, factor, **size)
    processor = Qwen2VLImageProcessorPil(
        **{name: value for name, value in fields.items() if name != "image_processor_type"}
    )
    for pixels in pictures():
        held = processor(pixels, return_tensors="pt")
        rows, columns = held["image_grid_thw"][0, 1:].tolist()
        patches = torch.empty(rows * columns, 3, 2, SIDE, SIDE)
        patches[merged_order((rows, columns))] = held["pixel_values"].reshape(patches.shape)
        images = patches[:, :, 0].reshape(rows, columns, 3, SIDE, SIDE).permute(2, 0, 3, 1, 4)
        fitted = with_network_size(loaded, (rows * SIDE, columns * SIDE))
        ours = Preprocessor(fitted.card.rule)(RgbImage(pixels, 1, "camera")).float() / 127.5 - 1
        assert (ours - images.reshape(ours.shape)).abs().mean() / 2 <= 1 / 255


@pytest.mark.parametrize(
    "case, file, changes, message",
    [
        ("2.5", "config.json", {"hidden_act": "gelu"}, "hidden_act is 'gelu'; accepted: silu"),
        ("2.5", "config.json", {"fullatt_block_indexes": [9]}, "full_blocks of the model is"),
        ("2.5", "config.json", {"fullatt_block_indexes": 1}, "fullatt_block_indexes is 1"),
        ("2.5", "config.json", {"window_size": 8}, "window_size is 8"),
        ("3", "config.json", {"num_position_embeddings": 35}, "num_position_embeddings is 35"),
        ("3", "config.json", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type axial"),
        ("3", "config.json", {"in_channels": 1}, "in_channels is 1"),
        ("3", "config.json", {"deepstack_visual_indexes": [3]}, "indices of blocks, 0 to 2"),
        ("3", "config.json", {"deepstack_visual_indexes": 3}, "deepstack_visual_indexes is 3"),
        ("3", "config.json", {"out_hidden_size": 24}, "mis-shaped"),
        ("2.5", "config.json", {"spatial_merge_size": "2"}, "spatial_merge_size is '2'"),
        ("3", "preprocessor_config.json", {"merge_size": 1}, "merge_size is 1; accepted: 2"),
        ("3", "config.json", {"quantization_config": {"bits": 4}}, "quantization_config is"),
        ("3", "preprocessor_config.json", {"patch_size": 16}, "patch_size is 16; accepted: 8"),
        ("3", "preprocessor_config.json", {"max_pixels": "9"}, "max_pixels is '9'"),
        ("3", "preprocessor_config.json", {"do_pad": 3}, "do_pad is 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(case, file, changes, message, tmp_path):
    folder = saved(randomised(*CASES[case]), tmp_path, preprocessor=PUBLISHED)
    fields = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**fields, **changes}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
