"""A policy that is trained on the coefficients of a basis themselves: what it reads of the data set
is what it gets live.
"""

from dataclasses import replace

import numpy as np
import pytest

from test.ros.test_embed_equals_live import (
    FRAMES,
    basis_file,  # noqa: F401 - a fixture
    settings_of,
    slice_of_the_demo,  # noqa: F401 - a fixture
)
from tools.closed_loop import forms, plan, policies
from tools.closed_loop.__main__ import parse
from vit_perception.config.column_settings import column_settings
from vit_perception.config.settings import OutputSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.recorded_columns import recorded_columns
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.live import LayoutMismatch, LiveDecoder
from vit_perception.recordings.reader import BagReader

assert policies.__doc__  # puts examples/ on the path
import spatial_policy  # noqa: E402
from chunk_node import inputs_of  # noqa: E402
from chunk_policy import load, load_examples  # noqa: E402

GROUPS = ["agentview/patch", "wrist/patch"]
DIRECTIONS = 12
# The pose stands for a chunk of one step, and its x for the gripper.
COLUMNS = ("target=/ee_pose:pose", "fingers=/ee_pose:pose.position")


@pytest.fixture(scope="module")
def features(basis_file, slice_of_the_demo, tiny_checkpoint, tmp_path_factory):
    """Features by their form: coefficients for training and as topics, and rows."""
    folder = tmp_path_factory.mktemp("features")
    chunks = tuple(recorded_columns([slice_of_the_demo], column_settings(COLUMNS)))
    settings = settings_of(tiny_checkpoint)
    coefficients = OutputSettings(basis=str(basis_file))
    for name, kind, output, columns in (
        ("coefficients", "safetensors", coefficients, chunks),
        ("topics", "mcap", coefficients, ()),
        ("rows", "safetensors", OutputSettings(), chunks),
    ):
        pipeline = Pipeline.open(replace(settings, output=output))
        source = BagSource(slice_of_the_demo, "/wrist/image/compressed", columns)
        embed(pipeline, [source], folder / name, EmbedOptions(kind, columns=columns))
        pipeline.close()
    return folder


@pytest.fixture(scope="module")
def trained(features, tmp_path_factory):
    out = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    loss = spatial_policy.train(
        features / "coefficients", out, iterations=5, seed=0, coefficients=True
    )
    assert np.isfinite(loss)
    return load(out, spatial_policy.KINDS)


def test_live_inputs_are_those_of_the_data_set(features, trained):
    policy, layouts = trained
    assert not policy.expand and policy.look[0].in_features == DIRECTIONS
    examples = load_examples(features / "coefficients", "target", "fingers", expand=False)
    decoder = LiveDecoder(expected=layouts, expand=policy.expand)
    with BagReader(features / "topics") as bag:
        messages = [(topic, message) for topic, _, message in bag.messages(list(bag.topics))]
    live = [inputs_of(o) for topic, message in messages if (o := decoder.add(topic, message))]
    assert "/vit_encoder/basis" not in decoder.topics
    assert len(live) == len(examples.moves_m) == FRAMES
    for index, inputs in enumerate(live):
        assert set(inputs) == set(examples.inputs) == {"tokens", "mask", "body", *GROUPS}
        for name, values in inputs.items():
            np.testing.assert_array_equal(values, examples.inputs[name][index])
        targets_m, closed = policy.act(inputs)
        assert targets_m.shape == (1, 3) and closed.shape == (1,)
        stored = {name: values[index] for name, values in examples.inputs.items()}
        np.testing.assert_array_equal(policy.act(stored)[0], targets_m)


def test_a_missing_camera_has_no_influence(features, trained):
    policy, layouts = trained
    examples = load_examples(features / "coefficients", "target", "fingers", expand=False)
    inputs = {name: values[0].copy() for name, values in examples.inputs.items()}
    group = layouts[0].group("wrist/patch")
    present, _ = policy.act(inputs)
    inputs["mask"][group.start : group.stop] = False
    missing, _ = policy.act(inputs)
    assert not np.array_equal(missing, present)
    inputs["wrist/patch"] += 3.0
    np.testing.assert_array_equal(policy.act(inputs)[0], missing)


def test_coefficients_of_another_basis_and_rows_are_refused(features, trained, tmp_path):
    """A policy that learnt from coefficients cannot do with others, whatever engine made them."""
    _, layouts = trained
    basis = replace(layouts[0].basis, sha256="0" * 64)
    for other in (replace(layouts[0], basis=basis), replace(layouts[0], basis=None)):
        decoder = LiveDecoder(expected=(other,), expand=False)
        with BagReader(features / "topics") as bag:
            (layout,) = [m for _, _, m in bag.messages([decoder.layout_topic])]
        with pytest.raises(LayoutMismatch, match="basis"):
            decoder.add(decoder.layout_topic, layout)
    with pytest.raises(SystemExit, match=r"rows has no coefficients; accepted: .*--store basis"):
        spatial_policy.train(features / "rows", tmp_path / "p", 1, 0, coefficients=True)


def test_rows_and_restored_coefficients_still_train(features, tmp_path):
    for name in ("rows", "coefficients"):
        path = tmp_path / f"{name}.safetensors"
        spatial_policy.train(features / name, path, iterations=2, seed=0)
        policy, layouts = load(path, spatial_policy.KINDS)
        assert policy.expand and policy.look[0].in_features == layouts[0].width
        assert policy.takes == ("tokens", "mask")


def test_its_cell_has_the_form_that_it_is_trained_on():
    name = "spatial, coefficients"
    arguments = ["--policies", "spatial", name, "--tasks", "lift", "--conditions"]
    args = parse([*arguments, "as demonstrated", "--troubles", "none"])
    cells = plan.cells_of(args)
    assert [cell.form for cell in cells if cell.policy == name] == [forms.TRAINED_ON[name]]
    assert len(cells) == len(forms.FORMS) + 1
    args.forms = [forms.USUAL]
    assert [cell.policy for cell in plan.cells_of(args)] == ["spatial"]
