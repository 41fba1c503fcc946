"""Rotary positions by complex numbers, and what does not turn."""

import cmath
import math

import torch

from vit_perception.model.rope import places_of, rotate, rotation_of


def test_pairs_of_channels_turn_by_the_angle_of_their_patch():
    rotation = rotation_of(places_of((2, 3)), first_patch=1, head_width=8, theta=100.0)
    x = torch.randn(1, 1, 7, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotation)
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    row, column = 1, 2
    place = (2 * (row + 0.5) / 2 - 1, 2 * (column + 0.5) / 3 - 1)
    for channel in range(4):  # two for y, two for x; each with the one half a head behind it
        angle = 2 * math.pi * place[channel // 2] / 100 ** (channel % 2 * 4 / 8)
        before = complex(x[0, 0, 6, channel], x[0, 0, 6, channel + 4])
        after = before * cmath.exp(1j * angle)
        assert abs(complex(turned[0, 0, 6, channel], turned[0, 0, 6, channel + 4]) - after) < 1e-5


def test_it_keeps_the_dtype_and_the_length():
    rotation = rotation_of(places_of((4, 4)), first_patch=0, head_width=8, theta=100.0)
    x = torch.randn(1, 2, 16, 8)
    assert rotate(x.to(torch.bfloat16), rotation).dtype == torch.bfloat16
    assert torch.allclose(rotate(x, rotation).norm(dim=-1), x.norm(dim=-1), atol=1e-5)


def test_indices_start_behind_the_cls_token_and_spread_over_another_grid():
    assert places_of((2, 2), "indices").tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert places_of((1, 2), "indices", first_index=1).tolist() == [[1, 1], [1, 2]]
    spread = places_of((2, 4), "indices", 1, spread=(4, 2))
    assert spread[0].tolist() == [2, 0.5] and spread[-1].tolist() == [4, 2]
