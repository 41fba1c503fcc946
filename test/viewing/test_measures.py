import numpy as np
import pytest
import torch

from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig
from vit_perception.viewing.measures import mean_attention_distance_px, position_similarity

SIZES = {"width": 32, "depth": 1, "heads": 4, "mlp_width": 48, "patch_size_px": 8}


def test_learned_positions_are_compared_without_the_cls_tokens():
    model = VisionTransformer(ViTConfig(**SIZES, image_size_px=(8, 24)))
    with torch.no_grad():
        model.position_embedding.zero_()
        model.position_embedding[0, 0] = 9.0
        model.position_embedding[0, 1, 0], model.position_embedding[0, 2, :2] = 2.0, 3.0
    found = position_similarity(model, (5, 5))
    half = 2**-0.5
    # The third is zero, as a position that a file lacks, and is like none.
    assert found.values == pytest.approx(
        np.array([[1, half, 0], [half, 1, 0], [0, 0, 0]]), abs=1e-6
    )
    assert found.kind == "learned" and found.grid == (1, 3)


def test_rotary_positions_are_the_mean_cosine_of_the_angles():
    model = VisionTransformer(
        ViTConfig(**SIZES, image_size_px=(16, 16), position_embedding="none", rope_theta=100.0)
    )
    found = position_similarity(model, (1, 2))
    # Heads of 8: 2 periods, 1 and 10, in each of y and x. Places (0, -0.5) and (0, 0.5): angles
    # differ in x alone.
    expected = (1 + 1 + np.cos(2 * np.pi) + np.cos(2 * np.pi / 10)) / 4
    assert found.values == pytest.approx(np.array([[1, expected], [expected, 1]]), abs=1e-6)
    assert found.kind == "rotary" and found.grid == (1, 2)


def test_a_model_without_positions_has_none():
    assert (
        position_similarity(
            VisionTransformer(ViTConfig(**SIZES, position_embedding="none")), (2, 2)
        )
        is None
    )


def test_distance_by_hand():
    # Two patches side by side, 8 px apart. Head 0 looks at itself; head 1 away; head 2 half of
    # each, beside a register that took 60 % and has no place.
    weights = torch.tensor([[[1.0, 0], [0, 1]], [[0, 1], [1, 0]], [[0.2, 0.2], [0.2, 0.2]]])
    assert mean_attention_distance_px(weights, (1, 2), 8) == pytest.approx([0, 8, 4])
    diagonal = torch.zeros(1, 4, 4)
    diagonal[0, :, :] = torch.eye(4).flip(0)
    assert mean_attention_distance_px(diagonal, (2, 2), 3) == pytest.approx([3 * 2**0.5])
