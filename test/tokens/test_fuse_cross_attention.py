"""Cross-attention against torch's own modules with the same weights, and files that are refused."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from test.tokens.fusion_weights import cross_attention_tensors, write_cross_attention
from vit_perception.config.settings import FusionSettings
from vit_perception.tokens.fuse import make_fusion
from vit_perception.tokens.fuse_cross_attention import CrossAttention
from vit_perception.wire.records import TokenGroup, TokenSequence

WIDTH, QUERIES, LAYERS, HEADS = 16, 3, 2, 4


class Layer(torch.nn.Module):
    """As a policy's training code would write it; its names are the file's."""

    def __init__(self, hidden: int):
        super().__init__()
        self.norm_queries, self.norm_tokens, self.norm_mlp = (
            torch.nn.LayerNorm(WIDTH) for _ in range(3)
        )
        self.attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = torch.nn.Sequential()
        self.mlp.fc1, self.mlp.fc2 = torch.nn.Linear(WIDTH, hidden), torch.nn.Linear(hidden, WIDTH)

    def forward(self, queries, tokens, missing):
        tokens = self.norm_tokens(tokens)
        queries = (
            queries
            + self.attention(self.norm_queries(queries), tokens, tokens, key_padding_mask=missing)[
                0
            ]
        )
        return queries + self.mlp.fc2(
            torch.nn.functional.gelu(self.mlp.fc1(self.norm_mlp(queries)))
        )


class Reference(torch.nn.Module):
    def __init__(self, hidden: list[int]):
        super().__init__()
        self.queries = torch.nn.Parameter(torch.zeros(QUERIES, WIDTH))
        self.layers = torch.nn.ModuleList(Layer(h) for h in hidden)
        self.norm = torch.nn.LayerNorm(WIDTH)

    def forward(self, tokens, mask):
        queries = self.queries[None]
        for layer in self.layers:
            queries = layer(queries, tokens[None], ~mask[None])
        return self.norm(queries)[0].reshape(-1)


def sequence(seed: int = 0, wrist: bool = True, left: bool = True) -> TokenSequence:
    rng = np.random.default_rng(seed)

    def tokens(count: int) -> np.ndarray:
        return rng.normal(size=(count, WIDTH)).astype(np.float32)

    return TokenSequence.of(
        [
            TokenGroup("cls", "wrist", tokens(1), wrist),
            TokenGroup("patch", "wrist", tokens(9), wrist),
            TokenGroup("cls", "scene", tokens(1)),
            TokenGroup("pose", "left", tokens(1), left),
        ]
    )


@pytest.fixture(name="tensors")
def tensors_fixture():
    return cross_attention_tensors(WIDTH, QUERIES, LAYERS)


@pytest.fixture(name="fusion")
def fusion_fixture(tensors, tmp_path):
    return CrossAttention(write_cross_attention(tmp_path / "fusion.safetensors", tensors), WIDTH)


@pytest.mark.parametrize(
    "seed, wrist, left",
    [(0, True, True), (1, True, True), (2, False, True), (3, True, False), (4, False, False)],
)
def test_the_embedding_is_that_of_torchs_multihead_attention(fusion, tensors, seed, wrist, left):
    reference = Reference([24, 25])
    reference.load_state_dict(tensors)
    tokens = sequence(seed, wrist, left)
    with torch.no_grad():
        expected = reference.eval()(
            torch.from_numpy(tokens.tokens), torch.from_numpy(tokens.mask)
        ).numpy()
    embedding = fusion.embedding(tokens)
    assert embedding.shape == (QUERIES * WIDTH,) and embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


def by_formula(tensors: dict, tokens: np.ndarray) -> np.ndarray:
    """The module's docstring in numpy, float64; GELU by math.erf."""
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = weights["queries"]
    for index in range(LAYERS):
        at = f"layers.{index}."
        kinds = np.split(weights[at + "attention.in_proj_weight"], 3)
        biases = np.split(weights[at + "attention.in_proj_bias"], 3)
        inputs = [norm(at + "norm_queries", x), *[norm(at + "norm_tokens", tokens)] * 2]
        query, key, value = (
            (rows @ kind.T + bias).reshape(len(rows), HEADS, -1)
            for rows, kind, bias in zip(inputs, kinds, biases)
        )
        scores = np.exp(np.einsum("qhd,nhd->hqn", query, key) / np.sqrt(WIDTH / HEADS))
        scores /= scores.sum(-1, keepdims=True)
        attended = np.einsum("hqn,nhd->qhd", scores, value).reshape(x.shape)
        x = x + attended @ weights[at + "attention.out_proj.weight"].T
        x = x + weights[at + "attention.out_proj.bias"]
        hidden = norm(at + "norm_mlp", x) @ weights[at + "mlp.fc1.weight"].T
        hidden = hidden + weights[at + "mlp.fc1.bias"]
        hidden = hidden * (0.5 + 0.5 * np.vectorize(math.erf)(hidden / math.sqrt(2)))
        x = x + hidden @ weights[at + "mlp.fc2.weight"].T + weights[at + "mlp.fc2.bias"]
    return norm("norm", x).reshape(-1)


def test_the_embedding_is_that_of_the_documented_formula(fusion, tensors):
    tokens = sequence(left=False)
    expected = by_formula(tensors, tokens.tokens[tokens.mask].astype(np.float64))
    np.testing.assert_allclose(fusion.embedding(tokens), expected, atol=1e-5)


def test_a_saved_module_loads_as_it_is(tmp_path):
    torch.manual_seed(0)
    reference = Reference([8]).eval()
    torch.nn.init.normal_(reference.queries)
    path = write_cross_attention(tmp_path / "trained.safetensors", reference.state_dict())
    tokens = sequence()
    with torch.no_grad():
        expected = reference(torch.from_numpy(tokens.tokens), torch.from_numpy(tokens.mask)).numpy()
    fusion = make_fusion(FusionSettings(kind="cross_attention", weights=path), WIDTH)
    np.testing.assert_allclose(fusion.embedding(tokens), expected, atol=1e-5)
    assert fusion.kind == "cross_attention"
    assert fusion.weights_sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_what_a_missing_source_would_have_said_does_not_matter(fusion):
    tokens = sequence(left=False)
    disturbed = TokenSequence(tokens.groups, tokens.tokens.copy(), tokens.mask)
    disturbed.tokens[~tokens.mask] = 1e6
    np.testing.assert_array_equal(fusion.embedding(tokens), fusion.embedding(disturbed))
    assert np.abs(fusion.embedding(tokens) - fusion.embedding(sequence())).max() > 1e-3


def test_with_everything_missing_the_embedding_is_zeros(fusion):
    tokens = TokenSequence.of(
        [TokenGroup("cls", "wrist", np.ones((1, WIDTH), np.float32), valid=False)]
    )
    assert fusion.embedding(tokens).tolist() == [0.0] * (QUERIES * WIDTH)


def test_tokens_of_another_width_are_refused(fusion):
    with pytest.raises(ValueError, match="8 wide; accepted: 16"):
        fusion.embedding(
            TokenSequence.of([TokenGroup("cls", "wrist", np.ones((1, 8), np.float32))])
        )


def without(name: str):
    return lambda tensors: tensors.pop(name)


def replaced(name: str, value: torch.Tensor):
    return lambda tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    "change, words",
    [
        (without("queries"), ["missing queries (Q, 16)"]),
        (without("layers.0.mlp.fc1.bias"), ["missing layers.0.mlp.fc1.bias (M0,)"]),
        (without("norm.bias"), ["missing norm.bias (16,)"]),
        (replaced("extra", torch.zeros(3)), ["unexpected extra (3,)"]),
        (replaced("queries", torch.zeros(3, 8)), ["queries is (3, 8)", "(Q, 16)"]),
        (replaced("queries", torch.zeros(0, 16)), ["queries is (0, 16)", "empty"]),
        (
            replaced("layers.1.attention.in_proj_weight", torch.zeros(16, 16)),
            ["in_proj_weight is (16, 16)", "(48, 16)"],
        ),
        (
            replaced("layers.1.mlp.fc2.weight", torch.zeros(16, 24)),
            ["layers.1.mlp.fc2.weight is (16, 24)", "(16, 25)"],
        ),
        (
            replaced("norm.weight", torch.full((16,), float("inf"))),
            ["norm.weight holds inf", "finite"],
        ),
        (
            replaced("norm.weight", torch.ones(16, dtype=torch.bfloat16)),
            ["norm.weight is BF16", "F32"],
        ),
        (
            replaced("layers.3.norm_mlp.bias", torch.zeros(16)),
            ["missing layers.2.norm_queries.weight"],
        ),
        (
            replaced("layers.999999.norm_mlp.bias", torch.zeros(16)),
            ["highest layer is 999999", "without gaps"],
        ),
    ],
)
def test_a_file_that_is_not_as_documented_is_refused(tensors, tmp_path, change, words):
    change(tensors)
    with pytest.raises(ValueError) as caught:
        CrossAttention(write_cross_attention(tmp_path / "fusion.safetensors", tensors), WIDTH)
    assert all(word in str(caught.value) for word in ["fusion.safetensors", *words]), str(
        caught.value
    )


@pytest.mark.parametrize("heads", [None, "0", "3", "-4", "four", ""])
def test_heads_must_divide_the_width(tensors, tmp_path, heads):
    with pytest.raises(ValueError, match="metadata 'heads' is .*a divisor of the width, 16"):
        CrossAttention(
            write_cross_attention(tmp_path / "fusion.safetensors", tensors, heads), WIDTH
        )


def test_weights_of_another_width_are_refused(tensors, tmp_path):
    with pytest.raises(ValueError, match=r"queries is \(3, 16\), accepted: \(Q, 384\)"):
        CrossAttention(write_cross_attention(tmp_path / "fusion.safetensors", tensors), 384)


@pytest.mark.parametrize("path", ["", "/nowhere/fusion.safetensors"])
def test_there_are_no_untrained_weights(path):
    with pytest.raises(ValueError, match="accepted: a safetensors file"):
        CrossAttention(path, WIDTH)
