"""Connectors: what goes where in a pixel shuffle, and shapes that are refused."""

import pytest
import torch

from vit_perception.files.errors import InvalidValue
from vit_perception.heads.connectors import Connector, ConnectorSpec, make_connector


def selecting(spec: ConnectorSpec, channel: int) -> Connector:
    """A connector whose one output is one channel of its input."""
    connector = Connector(spec).requires_grad_(False)
    connector.layers[0].weight.zero_()
    connector.layers[0].weight[0, channel] = 1
    return connector


def test_a_token_is_a_square_of_patches_on_any_grid():
    rows, columns, width = 4, 6, 3
    spec = ConnectorSpec(widths=(4 * width, 1), shuffle=2, bias=False)
    patches = torch.arange(rows * columns * width).float().reshape(1, -1, width)
    picture = patches.reshape(rows, columns, width)
    for channel in range(4 * width):
        place, own = divmod(channel, width)
        down, right = divmod(place, 2)
        tokens = selecting(spec, channel)(patches, (rows, columns))
        assert torch.equal(tokens[0, :, 0], picture[down::2, right::2, own].flatten())


def test_attention_of_a_square_is_summed_and_cls_is_the_mean():
    spec = ConnectorSpec(widths=(8, 5), shuffle=2, scale=3.0)
    connector = Connector(spec)
    patches = torch.randn(2, 16, 2)
    attention = torch.softmax(torch.randn(2, 3, 16), dim=-1)
    out = connector.connect(patches, attention, (4, 4))
    assert out.patch_tokens.shape == (2, 4, 5)
    assert torch.equal(out.patch_tokens, connector(patches, (4, 4)))
    assert torch.equal(out.cls_token, out.patch_tokens.mean(dim=1))
    squares = attention.reshape(2, 3, 2, 2, 2, 2).sum(dim=(3, 5)).flatten(2)
    assert torch.allclose(out.cls_attention, squares, atol=1e-7)


def test_several_layers_have_gelu_between_them():
    connector = Connector(ConnectorSpec(widths=(6, 10, 7, 4)))
    patches = torch.randn(1, 9, 6)
    first, second, third = connector.layers
    gelu = torch.nn.GELU()
    wanted = third(gelu(second(gelu(first(patches)))))
    assert torch.allclose(connector(patches, (3, 3)), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"widths": (4,)}, "widths"),
        ({"widths": (4, 0)}, "widths"),
        ({"widths": (4, 1 << 40)}, "widths"),
        ({"shuffle": 0}, "shuffle"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"bias": 1}, "bias"),
        ({"norm": "batch"}, "norm"),
        ({"norm_place": "picture"}, "norm_place"),
        ({"norm_eps": 0}, "norm_eps"),
        ({"left_out": (-1,)}, "left_out"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(InvalidValue, match=f"{message} of the connector is .*accepted: "):
        ConnectorSpec(**{"widths": (4, 4), **fields})


def test_grids_and_towers_that_do_not_fit():
    spec = ConnectorSpec(widths=(12, 4), shuffle=2)
    with pytest.raises(InvalidValue, match="5 x 4 patches; accepted: multiples of 2"):
        spec.grid_of((5, 4))
    with pytest.raises(InvalidValue, match=r"tower gives 16 \(2 x 2 patches of 4\)"):
        spec.check_tower(4)
    assert all(parameter.is_meta for parameter in make_connector(spec).parameters())


@pytest.mark.parametrize("place, width", [("patch", 6), ("square", 24)])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_norm_is_of_each_patch_or_of_the_square(norm, place, width):
    spec = ConnectorSpec(
        widths=(24, 5), shuffle=2, norm=norm, norm_place=place, norm_eps=1e-3, left_out=[3]
    )
    connector = Connector(spec)
    torch.nn.init.normal_(connector.norm.weight)
    patches = torch.randn(1, 4, 6)  # one square
    kind = torch.nn.LayerNorm if norm == "layer" else torch.nn.RMSNorm
    wanted = kind(width, eps=1e-3)
    wanted.load_state_dict(connector.norm.state_dict())
    normed = wanted(patches.reshape(1, -1, width)).flatten(1)
    assert torch.allclose(connector(patches, (2, 2))[:, 0], connector.layers[0](normed), atol=1e-5)
    assert ConnectorSpec(**spec.as_json()) == spec
