"""Pose tokens by the documented formulas, and weights files that are refused."""

import hashlib
import math
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from test.streams.pose_messages import pose_at
from vit_perception.tokens.tokenizer import make_tokenizer, pose_numbers
from vit_perception.wire.records import Pose

RNG = np.random.default_rng(0)
WIDTH, HIDDEN = 32, 20


def random_pose(seed: int = 0) -> Pose:
    rng = np.random.default_rng(seed)
    quaternion = rng.normal(size=4)
    return Pose(rng.uniform(-1, 1, 3), quaternion / np.linalg.norm(quaternion), 1, "base")


def tensors_of(kind: str) -> dict[str, np.ndarray]:
    shapes = {
        "linear": {"weight": (WIDTH, 9), "bias": (WIDTH,)},
        "mlp": {
            "fc1.weight": (HIDDEN, 9),
            "fc1.bias": (HIDDEN,),
            "fc2.weight": (WIDTH, HIDDEN),
            "fc2.bias": (WIDTH,),
        },
    }[kind]
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def written(tmp_path, tensors: dict[str, np.ndarray]) -> str:
    path = str(tmp_path / "tokenizer.safetensors")
    save_file(tensors, path)
    return path


def test_the_nine_numbers():
    assert pose_numbers(pose_at(1, 0.25, 90)).round(12).tolist() == [0.25, 0, 1, 0, 1, 0, -1, 0, 0]


@pytest.mark.parametrize("width", [1, 2, 17, 18, 19, 36, 64, 192, 384, 385, 1536])
def test_fourier_follows_the_documented_formula(width):
    """Written as another language would, number by number."""
    pose = random_pose(width)
    numbers = [*pose.position_m, *pose_numbers(pose)[3:]]
    pairs = math.ceil(width / 2)
    octaves = math.ceil(pairs / 9)
    expected = []
    for p in range(pairs):
        j, k = p % 9, p // 9
        wavelength = 8 * (0.02 / 8) ** (k / (octaves - 1)) if octaves > 1 else 8
        angle = 2 * math.pi * numbers[j] / wavelength
        expected += [math.sqrt(2) * math.cos(angle), math.sqrt(2) * math.sin(angle)]
    token = make_tokenizer("fourier", width).encode(pose_numbers(pose))
    assert token.shape == (1, width) and token.dtype == np.float32
    np.testing.assert_allclose(token[0], expected[:width], atol=1e-6)
    assert width % 2 or np.sqrt(np.mean(token**2)) == pytest.approx(1, abs=1e-6)


def test_fourier_pins_its_values():
    """A policy is trained on these numbers: a change of the formula is a break of the wire
    format.
    """
    token = make_tokenizer("fourier", 36).encode(pose_numbers(pose_at(1, 0.5, 90)))[0]
    # x = 0.5 m at the wavelength 8 m: sqrt(2) * (cos, sin)(pi / 8); and 25 whole turns at 2 cm.
    np.testing.assert_allclose(token[:2], [1.3065630, 0.5411961], atol=1e-6)
    np.testing.assert_allclose(token[18:20], [1.4142135, 0], atol=1e-5)
    # z = 1 m: (cos, sin)(pi / 4).
    np.testing.assert_allclose(token[4:6], [1, 1], atol=1e-6)


@pytest.mark.parametrize("width", [1, 3, 18, 64])
def test_a_fourier_token_is_never_all_zero(width):
    """An all-zero row is a missing token on the wire; at the origin every sine is zero."""
    tokenizer = make_tokenizer("fourier", width)
    for seed in range(50):
        assert tokenizer.encode(pose_numbers(random_pose(seed))).any()
    assert tokenizer.encode(
        pose_numbers(Pose(np.array([2.0, 2.0, 2.0]), np.array([0.0, 0, 0, 1]), 1, "base"))
    ).any()
    assert tokenizer.encode(
        pose_numbers(Pose(np.zeros(3), np.array([0.0, 0, 0, 1]), 1, "base"))
    ).any()


def test_fourier_tokens_tell_poses_apart():
    """1 mm and 0.1 degree move the token, and the further away the pose, the further the token."""
    tokenizer = make_tokenizer("fourier", 384)
    origin = tokenizer.encode(pose_numbers(pose_at(1, 0.3, 20)))
    near, turned, far = (
        tokenizer.encode(pose_numbers(pose_at(1, *at)))
        for at in ((0.301, 20), (0.3, 20.1), (0.4, 20))
    )
    assert 0.1 < np.linalg.norm(near - origin) < np.linalg.norm(far - origin)
    assert np.linalg.norm(turned - origin) > 0.1
    assert (tokenizer.kind, tokenizer.width, tokenizer.weights_sha256) == ("fourier", 384, "")


def reference_module(kind: str, tensors: dict[str, np.ndarray]) -> torch.nn.Module:
    if kind == "linear":
        module = torch.nn.Linear(9, WIDTH)
    else:
        module = torch.nn.Sequential()
        module.fc1, module.gelu = torch.nn.Linear(9, HIDDEN), torch.nn.GELU()
        module.fc2 = torch.nn.Linear(HIDDEN, WIDTH)
    module.load_state_dict(
        {name: torch.from_numpy(t) for name, t in tensors.items() if name not in ("mean", "std")}
    )
    return module


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_learned_tokens_are_those_of_torch_modules(kind, normalised, tmp_path):
    tensors = tensors_of(kind)
    if normalised:
        tensors.update(
            mean=RNG.normal(size=9).astype(np.float32),
            std=RNG.uniform(0.1, 2, 9).astype(np.float32),
        )
    path = written(tmp_path, tensors)
    tokenizer = make_tokenizer(kind, WIDTH, path)
    for seed in range(5):
        pose = random_pose(seed)
        numbers = pose_numbers(pose)
        if normalised:
            numbers = (numbers - tensors["mean"]) / tensors["std"]
        with torch.no_grad():
            expected = reference_module(kind, tensors)(
                torch.tensor(numbers, dtype=torch.float32)[None]
            ).numpy()
        token = tokenizer.encode(pose_numbers(pose))
        assert token.shape == (1, WIDTH) and token.dtype == np.float32
        np.testing.assert_allclose(token, expected, atol=2e-5)
    assert (tokenizer.kind, tokenizer.width) == (kind, WIDTH)
    with open(path, "rb") as file:
        assert tokenizer.weights_sha256 == hashlib.sha256(file.read()).hexdigest()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_there_is_no_untrained_default(kind):
    with pytest.raises(ValueError, match=f"safetensors file with trained {kind} weights"):
        make_tokenizer(kind, WIDTH)


def damage(name: str, value) -> dict[str, np.ndarray]:
    return {**tensors_of("mlp"), name: value}


@pytest.mark.parametrize(
    "tensors, words",
    [
        (
            {k: v for k, v in tensors_of("mlp").items() if k != "fc2.bias"},
            ["missing fc2.bias (D,)"],
        ),
        (damage("fc3.weight", np.zeros((2, 2), np.float32)), ["unexpected fc3.weight (2, 2)"]),
        (
            damage("fc1.weight", np.zeros((HIDDEN, 7), np.float32)),
            ["fc1.weight is (20, 7)", "(H, 9)"],
        ),
        (damage("fc1.bias", np.zeros(HIDDEN + 1, np.float32)), ["fc1.bias is (21,)", "(20,)"]),
        (damage("fc2.bias", np.zeros((WIDTH, 1), np.float32)), ["fc2.bias is (32, 1)", "(32,)"]),
        (damage("fc1.bias", np.full(HIDDEN, np.nan, np.float32)), ["fc1.bias holds nan", "finite"]),
        (damage("fc2.weight", np.zeros((WIDTH, HIDDEN), np.int32)), ["fc2.weight is I32", "F32"]),
        (damage("mean", np.zeros(9, np.float32)), ["mean alone", "mean and std together"]),
        (
            {**damage("mean", np.zeros(9, np.float32)), "std": np.zeros(9, np.float32)},
            ["std holds 0", "above zero"],
        ),
        ({}, ["missing fc1.weight (H, 9)", "missing fc2.bias"]),
        (tensors_of("linear"), ["missing fc1.weight", "unexpected weight (32, 9)"]),
    ],
)
def test_a_file_that_is_not_as_documented_is_refused(tensors, words, tmp_path):
    with pytest.raises(ValueError) as caught:
        make_tokenizer("mlp", WIDTH, written(tmp_path, tensors))
    assert "tokenizer.safetensors" in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_file_of_another_width_is_refused(tmp_path):
    with pytest.raises(ValueError, match="width 32; accepted: 384"):
        make_tokenizer("linear", 384, written(tmp_path, tensors_of("linear")))


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 64])
def test_a_damaged_file_is_refused(content, tmp_path):
    (tmp_path / "damaged.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="damaged.safetensors is no whole safetensors file"):
        make_tokenizer("linear", WIDTH, str(tmp_path / "damaged.safetensors"))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a file"):
        make_tokenizer("linear", WIDTH, str(tmp_path / "absent.safetensors"))


@pytest.mark.parametrize(
    "kind, width, words", [("cubic", 8, "fourier, linear, mlp"), ("fourier", 0, "1 or more")]
)
def test_unknown_kinds_and_widths_are_refused(kind, width, words):
    with pytest.raises(ValueError, match=words):
        make_tokenizer(kind, width)


@pytest.mark.parametrize("kind", ["fourier", "linear", "mlp"])
def test_a_token_costs_little(kind, tmp_path):
    path = written(tmp_path, tensors_of(kind)) if kind != "fourier" else ""
    tokenizer, pose, module = (
        make_tokenizer(kind, WIDTH, path),
        random_pose(),
        torch.nn.Linear(9, WIDTH),
    )
    times_s, module_times_s = [], []
    for _ in range(200):
        start_s = time.perf_counter()
        tokenizer.encode(pose_numbers(pose))
        times_s.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        module(torch.tensor(pose_numbers(pose), dtype=torch.float32)[None])
        module_times_s.append(time.perf_counter() - start_s)
    # About as long as one layer of torch; the bound only catches a change of kind.
    assert np.median(times_s) < 20 * np.median(module_times_s)
