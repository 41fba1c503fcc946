"""A map over the network's input, back on the pixels of the camera."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.dense_map import DenseMap, best_class, seen_by_network, to_source
from vit_perception.image.patch_geometry import ResizeRule, plan_resize
from vit_perception.wire.records import Roi


def plan(fit: str, source_px=(60, 100), roi=None, **fields):
    return plan_resize(ResizeRule((40, 40), fit, **fields), source_px, roi)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_stretch_is_resized_as_transformers_does(mode):
    values = torch.randn(3, 20, 20)
    theirs = functional.interpolate(values[None], (60, 100), mode=mode, align_corners=False)[0]
    assert torch.equal(to_source(values, plan("stretch"), mode), theirs)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_two_ways_to_resize_agree(mode):
    """A crop that takes nothing away is a stretch: the same picture by grid_sample and by
    interpolate.
    """
    values, whole = torch.randn(2, 20, 20), plan("crop", (50, 50))
    assert whole == replace(plan("stretch", (50, 50)), rule=whole.rule)
    identity = functional.affine_grid(torch.eye(2, 3)[None], (1, 2, 50, 50), align_corners=False)
    sampled = functional.grid_sample(
        values[None], identity, mode=mode, padding_mode="border", align_corners=False
    )[0]
    torch.testing.assert_close(to_source(values, whole, mode), sampled, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "fit, fields",
    [
        ("crop", {}),
        ("crop", {"resize_shortest_edge_px": 50}),
        ("pad", {}),
        ("stretch", {}),
        ("crop", {"roi": Roi(20, 5, 70, 50)}),
        ("pad", {"roi": Roi(20, 5, 70, 50)}),
        ("stretch", {"roi": Roi(20, 5, 70, 50)}),
    ],
)
def test_a_pixel_keeps_its_place(fit, fields):
    """A map that holds its own network coordinates: in the source it has to hold the coordinates
    that the plan says.
    """
    made = plan(fit, **fields)
    y, x = torch.meshgrid(
        (torch.arange(20.0) + 0.5) * 2, (torch.arange(20.0) + 0.5) * 2, indexing="ij"
    )
    back = to_source(torch.stack([y, x]), made, "bilinear")
    seen = seen_by_network(made)
    for axis in (0, 1):
        length = made.source_size_px[axis]
        wanted = (np.arange(length) + 0.5) * made.scale[axis] + made.offset_px[axis]
        wanted = np.broadcast_to(
            wanted[:, None] if axis == 0 else wanted[None], made.source_size_px
        )
        inside = seen & (wanted >= 1) & (wanted <= 39)  # the edge is continued, not extrapolated
        np.testing.assert_allclose(back[axis].numpy()[inside], wanted[inside], atol=1e-3)
    assert inside.any()


def test_a_crop_leaves_a_border_unseen_and_the_others_do_not():
    seen = seen_by_network(plan("crop"))
    assert seen[:, 20:80].all() and not seen[:, :20].any() and not seen[:, 80:].any()
    assert seen_by_network(plan("pad")).all() and seen_by_network(plan("stretch")).all()
    # Resized to 50 x 83, of which the middle 40 x 40 is cut out: 0.83 px of the network for one of
    # the source.
    assert seen_by_network(plan("crop", resize_shortest_edge_px=50)).sum() == 48 * 48


def test_the_best_class_in_parts_is_the_best_class():
    scores = torch.randn(37, 20, 20)
    scores[20] = scores[3]  # a tie goes to the first, as argmax has it
    whole = functional.interpolate(scores[None], (60, 100), mode="bilinear", align_corners=False)[
        0
    ].argmax(0)
    assert torch.equal(best_class(scores, plan("stretch")), whole)


class Sum(torch.nn.Module):
    """A head that gives the mean of the patches' channels, one pixel a patch."""

    def __init__(self, classes: int = 0):
        super().__init__()
        self.classes = classes

    def forward(self, tokens, grid):
        picture = sum(tokens)[:, 1:].mean(2).unflatten(1, grid)
        return (
            torch.stack([picture * k for k in range(self.classes)], 1) if self.classes else picture
        )


def test_depth_is_nan_where_the_network_saw_nothing():
    maps = DenseMap(
        DenseHeadSpec(kind="depth", blocks=(0, 1), module=Sum(), quantity="depth"), (5, 5)
    )
    tokens = np.ones((2, 26, 4), np.float32)
    depth = maps(tokens, plan("crop"))
    assert depth.dtype == np.float32 and depth.shape == (60, 100)
    np.testing.assert_allclose(depth[:, 20:80], 2.0, atol=1e-5)
    assert np.isnan(depth[:, :20]).all() and np.isnan(depth[:, 80:]).all()


@pytest.mark.parametrize(
    "classes, dtype, no_label", [(3, np.uint8, 255), (255, np.uint8, 255), (256, np.uint16, 65535)]
)
def test_labels_are_of_the_type_that_holds_them(classes, dtype, no_label):
    labels = tuple(map(str, range(classes)))
    maps = DenseMap(
        DenseHeadSpec(
            kind="segmentation", blocks=(0,), module=Sum(classes), quantity="class", labels=labels
        ),
        (5, 5),
    )
    found = maps(np.ones((1, 26, 4), np.float32), plan("crop"))
    assert found.dtype == dtype and set(np.unique(found)) == {classes - 1, no_label}
    assert maps.no_label == no_label and (found[:, 20:80] == classes - 1).all()


@pytest.mark.parametrize("fit, columns", [("stretch", (20, 90)), ("pad", (20, 90))])
def test_only_the_region_of_interest_was_seen(fit, columns):
    """With padding, too, whose places in the source are other pixels of the image."""
    seen = seen_by_network(plan(fit, roi=Roi(x=20, y=5, width=70, height=50)))
    wanted = np.zeros((60, 100), bool)
    wanted[5:55, columns[0] : columns[1]] = True
    np.testing.assert_array_equal(seen, wanted)
