"""The policies of the table: what they learn, what they leave out, and their files."""

import numpy as np
import pytest
import torch

from tools.closed_loop import interface, policies  # puts examples/ on the path
from tools.closed_loop.policies.baselines import (
    AUGMENTATIONS,
    PICTURE_PX,
    PixelPolicy,
    PosePolicy,
    jittered,
    permuted,
    shifted,
)
from tools.closed_loop.policies.on_tokens import ClsPolicy, NeighbourPolicy, NoPosePolicy

assert policies.__doc__
import chunk_node  # noqa: E402
from chunk_policy import ChunkExamples, fit, load, save  # noqa: E402
from spatial_policy import SpatialPolicy  # noqa: E402
from transformer_chunk_policy import TransformerChunkPolicy  # noqa: E402

WIDTH, SIDE, STEPS, COUNT = 8, 4, 3, 256
PATCHES = [(0, 16, SIDE, SIDE), (16, 32, SIDE, SIDE)]
ARGUMENTS = {"patches": PATCHES, "token_width": WIDTH, "body_count": 4, "steps": STEPS}


@pytest.fixture(scope="module")
def examples() -> ChunkExamples:
    """The hand should go to where the first camera has the one special patch."""
    random = np.random.default_rng(0)
    tokens = random.normal(0, 0.1, (COUNT, 32, WIDTH)).astype(np.float16)
    place = random.integers(16, size=COUNT)
    tokens[np.arange(COUNT), place] = np.arange(1, WIDTH + 1) / WIDTH
    row, column = np.divmod(place, SIDE)
    move_m = 0.01 * np.stack([column, row, 0 * row], axis=1)
    moves_m = np.repeat(move_m[:, None], STEPS, axis=1).astype(np.float32)
    body = random.normal(size=(COUNT, 4)).astype(np.float32)
    return ChunkExamples(
        inputs={"tokens": tokens, "mask": np.ones((COUNT, 32), bool), "body": body},
        moves_m=moves_m,
        closed=np.repeat(row[:, None] > 1, STEPS, axis=1),
        quaternion=np.array([0.0, 1.0, 0.0, 0.0], np.float32),
    )


@pytest.fixture(scope="module")
def learnt(examples) -> SpatialPolicy:
    torch.manual_seed(0)
    policy = SpatialPolicy(**ARGUMENTS)
    fit(policy, examples, iterations=300, say=lambda text: None)
    return policy


def error_m(policy, examples, names) -> float:
    errors = []
    for index in range(40):
        inputs = {name: examples.inputs[name][index] for name in names}
        targets_m, _ = policy.act(inputs)
        wanted_m = examples.inputs["body"][index, :3] + examples.moves_m[index]
        errors.append(np.abs(targets_m - wanted_m)[:, :2].mean())
    return float(np.mean(errors))


def test_the_spatial_policy_finds_where_and_the_blind_one_cannot(learnt, examples):
    torch.manual_seed(0)
    blind = PosePolicy(body_count=4, steps=STEPS)
    fit(blind, examples, iterations=300, say=lambda text: None)
    seeing_m = error_m(learnt, examples, ("tokens", "mask", "body"))
    assert seeing_m < 0.3 * error_m(blind, examples, ("body",))
    _, closed = learnt.act({name: values[0] for name, values in examples.inputs.items()})
    assert (closed == examples.closed[0]).all()


def test_without_a_pose_only_the_answer_depends_on_it(examples):
    torch.manual_seed(0)
    policy = NoPosePolicy(**ARGUMENTS)
    fit(policy, examples, iterations=2, say=lambda text: None)
    inputs = {name: values[0] for name, values in examples.inputs.items()}
    moved = inputs | {"body": inputs["body"] + np.array([0.5, 0.2, 0.1, 0.0], np.float32)}
    one, other = policy.act(inputs)[0], policy.act(moved)[0]
    np.testing.assert_allclose(other - one, [[0.5, 0.2, 0.1]] * STEPS, atol=1e-5)
    turned = inputs | {"body": inputs["body"] + np.array([0.0, 0.0, 0.0, 1.0], np.float32)}
    assert not np.array_equal(policy.act(turned)[0], one)


def test_neighbours_do_what_was_done_in_the_same_moment(examples, tmp_path):
    """Row 0 stands for a CLS token: it is different in every moment."""
    random = np.random.default_rng(1)
    tokens = random.normal(size=(COUNT, 4, WIDTH)).astype(np.float32)
    moments = ChunkExamples(
        inputs={**examples.inputs, "tokens": tokens, "mask": np.ones((COUNT, 4), bool)},
        moves_m=examples.moves_m,
        closed=examples.closed,
        quaternion=examples.quaternion,
    )
    arguments = {"rows": [0, 2], "token_width": WIDTH, "body_count": 4, "steps": STEPS}
    policy = NeighbourPolicy(**arguments, moments=COUNT)
    policy.remember(moments)
    path = tmp_path / "neighbours.safetensors"
    save(policy, path, "neighbours", arguments | {"moments": COUNT})
    again, _ = load(path, {"neighbours": NeighbourPolicy})
    chosen = {name: values[7] for name, values in moments.inputs.items()}
    targets_m, closed = again.act(chosen)
    # Four others share the answer, with little weight.
    wanted_m = examples.inputs["body"][7, :3] + examples.moves_m[7]
    np.testing.assert_allclose(targets_m, wanted_m, atol=0.01)
    assert (closed == examples.closed[7]).all()


def test_a_missing_cls_token_has_no_influence(examples):
    torch.manual_seed(0)
    policy = ClsPolicy(rows=[0, 16], token_width=WIDTH, body_count=4, steps=STEPS)
    inputs = {name: values[0] for name, values in examples.inputs.items()}
    inputs["mask"] = np.repeat([True, False], 16)
    before, _ = policy.act(inputs)
    other = inputs["tokens"].copy()
    other[16:] = 3.0
    assert np.array_equal(policy.act(inputs | {"tokens": other})[0], before)
    other[0] = 3.0
    assert not np.array_equal(policy.act(inputs | {"tokens": other})[0], before)


def test_the_transformer_learns_and_does_not_leave_what_was_demonstrated(examples):
    torch.manual_seed(0)
    policy = TransformerChunkPolicy(32, WIDTH, body_count=4, steps=STEPS, width=32)
    fit(policy, examples, iterations=300, say=lambda text: None)
    torch.manual_seed(0)
    blind = PosePolicy(body_count=4, steps=STEPS)
    fit(blind, examples, iterations=300, say=lambda text: None)
    seeing_m = error_m(policy, examples, ("tokens", "mask", "body"))
    assert seeing_m < 0.7 * error_m(blind, examples, ("body",))
    targets_m = examples.inputs["body"][:, None, :3] + examples.moves_m
    far = {name: values[0] for name, values in examples.inputs.items()}
    far["body"] = np.array([50.0, -50.0, 0.0, 0.0], np.float32)
    answer_m, _ = policy.act(far)
    assert (answer_m >= targets_m.min((0, 1))).all() and (answer_m <= targets_m.max((0, 1))).all()


def test_a_missing_camera_has_no_influence(learnt, examples):
    inputs = {name: values[0] for name, values in examples.inputs.items()}
    inputs["mask"] = np.repeat([True, False], 16)
    before, _ = learnt.act(inputs)
    other = inputs["tokens"].copy()
    other[16:] = 3.0
    after, _ = learnt.act(inputs | {"tokens": other})
    assert np.array_equal(before, after)


def test_a_policy_is_the_same_from_its_file(learnt, examples, tmp_path):
    path = tmp_path / "policy.safetensors"
    save(learnt, path, "spatial", ARGUMENTS)
    again, layouts = load(path, {"spatial": SpatialPolicy})
    inputs = {name: values[3] for name, values in examples.inputs.items()}
    for one, other in zip(learnt.act(inputs), again.act(inputs)):
        assert np.array_equal(one, other)
    assert layouts == () and again.quaternion.tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_pixels_are_changed_only_in_training(augment):
    torch.manual_seed(0)
    policy = PixelPolicy(body_count=4, steps=STEPS, augment=augment)
    shape = (2, PICTURE_PX, PICTURE_PX, 3)
    inputs = {name: torch.randint(256, shape, dtype=torch.uint8) for name in interface.CAMERAS}
    inputs["body"] = torch.zeros(2, 4)
    policy.train()
    assert torch.equal(policy(inputs)[0], policy(inputs)[0]) == (augment == "none")
    policy.eval()
    assert torch.equal(policy(inputs)[0], policy(inputs)[0])


def test_augmentations_do_what_they_say():
    torch.manual_seed(0)
    pictures = [torch.rand(8, 3, 10, 10), torch.rand(8, 3, 10, 10)]
    for before, after in zip(pictures, permuted(pictures)):
        assert torch.equal(before.sort(dim=1).values, after.sort(dim=1).values)
        assert not torch.equal(before, after)
    for before, after in zip(pictures, jittered(pictures)):
        ratio = (after / before)[after < 1]
        assert ratio.min() > 0.29 and ratio.max() < 1.76 and after.max() <= 1
    wide = torch.arange(20.0).expand(4, 3, 20, 20).contiguous()
    moved = shifted(wide)
    assert moved.shape == wide.shape
    # Inside, each column is a neighbour's column.
    assert ((moved - wide)[:, :, :, 6:14].diff(dim=3) == 0).all()


def test_example_and_simulator_speak_of_the_same_topics():
    for name in ("TARGETS_TOPIC", "GRIPPER_TOPIC", "GRIPPER_JOINT", "OPEN", "CLOSED"):
        assert getattr(chunk_node, name) == getattr(interface, name)
    assert chunk_node.CONTROL_PERIOD_NS == interface.CONTROL_PERIOD_NS
