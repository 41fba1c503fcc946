"""int8 on the CPU: calibrated, cached, and left in floating point where the gate asks for it."""

import itertools
from dataclasses import replace
from functools import partial

import pytest

from test.conftest import TRAIN_BAG
from test.log_lines import LogLines
from vit_perception.config.settings import BadSetting, EngineSettings
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.openvino.core import core
from vit_perception.engines.openvino.engine import OpenvinoEngine, linear_layer_types
from vit_perception.engines.openvino.int8 import LEFT_OUT, int8_model, layer_groups
from vit_perception.engines.parity_gate import measure, parity_batch, run_batches
from vit_perception.engines.reference import graph_of
from vit_perception.engines.select import open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.verified import open_verified
from vit_perception.image.calibration import calibration_images
from vit_perception.image.preprocess import Preprocessor

openvino = pytest.importorskip("openvino", reason="openvino is not installed")
pytest.importorskip("nncf", reason="nncf is not installed")
if "int8" not in OpenvinoEngine().status().precisions:
    pytest.skip("openvino has no int8 on this CPU", allow_module_level=True)
SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="int8")
BLOCKS = 3
SETTINGS = EngineSettings("openvino", "int8", calibration=str(TRAIN_BAG))


def test_the_layer_groups_are_complete(source):
    model = core().read_model(source.onnx_file().path)
    groups = layer_groups(model)
    products = [
        op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"
    ]
    attention, embedding, head, ends, mlp = (groups[name] for name in LEFT_OUT[-1])
    assert (len(attention), len(embedding), head, len(mlp)) == (2 * BLOCKS + 1, 1, [], BLOCKS)
    # Query, key, value, output, up, down, two in attention; the CLS row is the last block's, too.
    assert (
        set(ends) < set(products)
        and {products[0], mlp[0], mlp[-1]} < set(ends)
        and mlp[1] not in ends
    )
    assert len(ends) == 2 * 8 + 1


def test_the_head_is_a_group_of_its_own(tiny_classifier, tmp_path):
    from vit_perception.checkpoints.sources import load_checkpoint

    source = EngineSource(graph_of(load_checkpoint(str(tiny_classifier))), 1, folder=tmp_path)
    groups = layer_groups(core().read_model(source.onnx_file().path))
    assert len(groups["classification head"]) == 1 and len(groups["MLP output layers"]) == 2


def test_every_attempt_leaves_out_more_than_the_one_before():
    attempts = OpenvinoEngine().attempts(SPEC)
    assert [set(a.left_out) for a in attempts] == [set(groups) for groups in LEFT_OUT]
    assert all(set(a.left_out) < set(b.left_out) for a, b in itertools.pairwise(attempts))
    assert OpenvinoEngine().attempts(replace(SPEC, precision="bfloat16")) == (
        replace(SPEC, precision="bfloat16"),
    )
    assert str(attempts[0]) == "int8" and str(attempts[1]).startswith(
        "int8 without attention products, patch"
    )


def layer_types(engine):
    return linear_layer_types(engine._request.get_compiled_model())


def test_its_linear_layers_run_in_int8_and_those_left_out_do_not(source, pictures):
    engine, report, _ = open_verified(OpenvinoEngine(), source, SPEC, pictures)
    types = layer_types(engine)
    assert engine.precision == "int8" and report.min_cosine >= 0.99
    assert types["i8"] + types["u8"] == types.total() == 6 * BLOCKS, types
    engine.close()
    fewer = replace(SPEC, left_out=("MLP output layers",))
    engine, *_ = open_verified(OpenvinoEngine(), source, fewer, pictures)
    left = layer_types(engine)
    assert types.total() - left["i8"] - left["u8"] == BLOCKS, left
    engine.close()


def test_the_model_is_made_once_and_again_for_other_images_or_layers(source, tmp_path):
    log, images = LogLines(), source.calibration()

    def make(images):
        return EngineSource(source.graph, 2, log, tmp_path, lambda: images)

    first, was_cached = int8_model(make(images), SPEC)
    assert not was_cached
    made = [line for line in log if "calibration images, once" in line]
    assert len(made) == 1 and "int8 model from 16 calibration images" in made[0]
    assert int8_model(make(images), SPEC) == (first, True) and len(log) == len(set(log))
    others = {
        int8_model(make(images[:8]), SPEC).path,
        int8_model(make(images), replace(SPEC, left_out=LEFT_OUT[1])).path,
    }
    assert len(others | {first}) == 3
    key = (first.parent / "key.json").read_text()
    assert all(word in key for word in ("calibration_sha256", "nncf", "left_out", "weights_sha256"))


def test_weights_use_half_of_their_range_where_products_overflow(source, tmp_path):
    """Regression: on a CPU without VNNI the sum of two products saturated, and CLS cosine was
    0.979.
    """
    made = {}
    for saturates in (True, False):
        log = LogLines()
        own = EngineSource(source.graph, 2, log, tmp_path, source.calibration)
        made[saturates] = int8_model(own, SPEC, saturates).path
        assert any("weights of 7 bits" in line for line in log) == saturates
    assert made[True] != made[False], (
        "an engine made for one kind of CPU would be taken from the cache on the other"
    )
    largest = {
        saturates: largest_weight(core().read_model(file)) for saturates, file in made.items()
    }
    assert largest[False] == 127 and largest[True] <= 64, largest


def largest_weight(model) -> int:
    """The largest int8 weight of the linear layers' constants."""
    return max(
        int(abs(op.get_data().astype(int)).max())
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type() == openvino.Type.i8
    )


def test_the_last_images_fill_up_a_batch(source, tmp_path):
    log = LogLines()
    three = EngineSource(source.graph, 2, log, tmp_path, lambda: source.calibration()[:3])
    assert int8_model(three, SPEC).path.exists() and any(
        "3 calibration images" in line for line in log
    )


@pytest.fixture
def attempts(loaded):
    """What open_engine tries, calibrated on a recording, for a bound of the cosine: (opened or the
    error, log).
    """

    def try_with(min_cosine):
        log = LogLines()
        try:
            opened = open_engine(replace(SETTINGS, min_cosine=min_cosine), loaded, batch=1, log=log)
            opened.engine.close()
            return opened, log
        except EngineError as error:
            return error, log

    return try_with


@pytest.fixture(scope="module")
def cosines(loaded, cache_home):
    """min_cosine of each attempt on this CPU, in their order: figures differ between instruction
    sets.
    """
    images = partial(calibration_images, str(TRAIN_BAG), Preprocessor(loaded.card.rule))
    source = EngineSource(
        graph_of(loaded), 1, folder=cache_home / "vit_perception" / "engines", calibration=images
    )
    pictures, found = parity_batch(Preprocessor(loaded.card.rule), 1), []
    for spec in OpenvinoEngine().attempts(replace(SPEC, batch=1)):
        engine = OpenvinoEngine()
        engine.open(source, spec)
        found.append(
            measure(run_batches(engine.infer, pictures, 1), source.reference(pictures)).min_cosine
        )
        engine.close()
    return found


def test_layers_are_left_out_until_the_gate_passes_and_each_attempt_is_logged(attempts, cosines):
    winner = next(i for i in range(1, len(cosines)) if cosines[i] > max(cosines[:i]))
    bound = (cosines[winner] + max(cosines[:winner])) / 2
    opened, log = attempts(bound)
    assert opened.engine.precision == "int8" and opened.report.min_cosine >= bound
    tried = [f"openvino {spec}" for spec in OpenvinoEngine().attempts(SPEC)[:winner]]
    assert [label for label, _ in opened.tried] == tried
    assert all("CLS cosine 0." in why_not for _, why_not in opened.tried)
    assert sum("is not used: openvino" in line for line in log) == winner
    assert (
        f"{', '.join(LEFT_OUT[winner])} on" in log[-2]
        and f"CLS cosine {opened.report.cls_cosine:.5f}" in log[-2]
    )
    assert "one run of the encoder for 1 images takes" in log[-1]
    again, log = attempts(bound)
    assert again.report == opened.report and not any("once" in line for line in log)


def test_when_no_attempt_passes_it_is_refused_with_the_figures_of_each(attempts):
    error, _ = attempts(0.9999)
    text = str(error)
    assert isinstance(error, EngineError) and all(name in text for name in LEFT_OUT[-1])
    assert text.count("; relative L2 of tokens 0.") == len(LEFT_OUT), text


def test_without_calibration_the_error_names_the_parameter(loaded):
    with pytest.raises(
        EngineError,
        match="int8 has to be calibrated, and engine.calibration is ''; accepted: a rosb",
    ):
        open_engine(EngineSettings("openvino", "int8"), loaded, batch=1)


def test_a_calibration_that_is_not_there_is_named(loaded):
    with pytest.raises(
        BadSetting,
        match="^parameter 'engine.calibration' is '/nowhere'; accepted: a rosbag2 folder",
    ):
        open_engine(EngineSettings("openvino", "int8", calibration="/nowhere"), loaded, batch=1)
