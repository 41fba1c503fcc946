"""Windows of patches: who may attend to whom, also in a grid that they do not fill."""

import torch

from vit_perception.model.windows import window_mask


def test_patches_of_one_window_attend_to_each_other_alone():
    mask = window_mask((3, 5), 2, torch.zeros((), dtype=torch.float16))
    assert mask.dtype == torch.float16 and torch.isfinite(mask).all()
    for query in range(15):
        for key in range(15):
            places = [divmod(index, 5) for index in (query, key)]
            windows = {(row // 2, column // 2) for row, column in places}
            assert (mask[query, key] == 0) == (len(windows) == 1)


def test_a_score_apart_counts_nothing_in_a_softmax():
    mask = window_mask((1, 2), 1, torch.zeros(()))
    weights = torch.softmax(mask + torch.tensor([[0.0, 500.0], [0.0, 0.0]]), dim=-1)
    assert torch.equal(weights, torch.eye(2))
