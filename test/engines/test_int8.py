"""int8 on the CPU: calibrated, cached, and left in floating point where the gate asks for it."""

from dataclasses import replace

import pytest

from test.conftest import TRAIN_BAG
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.int8 import LEFT_OUT, int8_model, layer_groups
from vit_perception.engines.openvino_engine import OpenvinoEngine, linear_layer_types
from vit_perception.engines.select import open_engine, open_verified
from vit_perception.engines.source import EngineSource
from vit_perception.settings import BadSetting, EngineSettings

openvino = pytest.importorskip("openvino", reason="openvino is not installed")
pytest.importorskip("nncf", reason="nncf is not installed")
if "int8" not in OpenvinoEngine().status().precisions:
    pytest.skip("openvino has no int8 on this CPU", allow_module_level=True)
SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="int8")
BLOCKS = 3
SETTINGS = EngineSettings("openvino", "int8", calibration=str(TRAIN_BAG))


def test_the_layer_groups_are_complete(source):
    model = openvino.Core().read_model(source.onnx_file())
    groups = layer_groups(model)
    products = [op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"]
    attention, embedding, head, ends, mlp = (groups[name] for name in LEFT_OUT[-1])
    assert (len(attention), len(embedding), head, len(mlp)) == (2 * BLOCKS + 1, 1, [], BLOCKS)
    # Query, key, value, output, up, down, two in attention; the CLS row is the last block's, too.
    assert set(ends) < set(products) and {products[0], mlp[0], mlp[-1]} < set(ends) and mlp[1] not in ends
    assert len(ends) == 2 * 8 + 1


def test_the_head_is_a_group_of_its_own(tiny_classifier, tmp_path):
    from vit_perception.checkpoints.sources import load_checkpoint
    from vit_perception.export.reference import graph_of
    source = EngineSource(graph_of(load_checkpoint(str(tiny_classifier))), 1, folder=tmp_path)
    groups = layer_groups(openvino.Core().read_model(source.onnx_file()))
    assert len(groups["classification head"]) == 1 and len(groups["MLP output layers"]) == 2


def test_every_attempt_leaves_out_more_than_the_one_before():
    attempts = OpenvinoEngine().attempts(SPEC)
    assert [set(a.left_out) for a in attempts] == [set(groups) for groups in LEFT_OUT]
    assert all(set(a.left_out) < set(b.left_out) for a, b in zip(attempts, attempts[1:]))
    assert OpenvinoEngine().attempts(replace(SPEC, precision="bfloat16")) == (replace(SPEC, precision="bfloat16"),)
    assert str(attempts[0]) == "int8" and str(attempts[1]).startswith("int8 without attention products, patch")


def layer_types(engine):
    return linear_layer_types(engine._request.get_compiled_model())


def test_its_linear_layers_run_in_int8_and_those_left_out_do_not(source, pictures):
    engine, report = open_verified(OpenvinoEngine(), source, SPEC, pictures)
    types = layer_types(engine)
    assert engine.precision == "int8" and report.min_cosine >= 0.99
    assert types["i8"] + types["u8"] == types.total() == 6 * BLOCKS, types
    engine.close()
    fewer = replace(SPEC, left_out=("MLP output layers",))
    engine, _ = open_verified(OpenvinoEngine(), source, fewer, pictures)
    left = layer_types(engine)
    assert types.total() - left["i8"] - left["u8"] == BLOCKS, left
    engine.close()


def test_the_model_is_made_once_and_again_for_other_images_or_layers(source, tmp_path):
    log, images = [], source.calibration()
    make = lambda images: EngineSource(source.graph, 2, log.append, tmp_path, lambda: images)  # noqa: E731
    first = int8_model(make(images), SPEC)
    made = [line for line in log if "calibration images, once" in line]
    assert len(made) == 1 and "int8 model from 16 calibration images" in made[0]
    assert int8_model(make(images), SPEC) == first and len(log) == len(set(log))
    others = {int8_model(make(images[:8]), SPEC), int8_model(make(images), replace(SPEC, left_out=LEFT_OUT[1]))}
    assert len(others | {first}) == 3
    key = (first.parent / "key.json").read_text()
    assert all(word in key for word in ("calibration_sha256", "nncf", "left_out", "weights_sha256"))


def test_the_last_images_fill_up_a_batch(source, tmp_path):
    log = []
    three = EngineSource(source.graph, 2, log.append, tmp_path, lambda: source.calibration()[:3])
    assert int8_model(three, SPEC).exists() and any("3 calibration images" in line for line in log)


@pytest.fixture
def attempts(loaded):
    """What open_engine tries, calibrated on a recording, for a bound of the cosine: (opened or the error, log)."""
    def try_with(min_cosine):
        log = []
        try:
            opened = open_engine(replace(SETTINGS, min_cosine=min_cosine), loaded, batch=1, log=log.append)
            opened.engine.close()
            return opened, log
        except EngineError as error:
            return error, log
    return try_with


def test_layers_are_left_out_until_the_gate_passes_and_each_attempt_is_logged(attempts):
    """The tiny model reaches 0.989 with everything in int8, and 0.9945 without its first and last block."""
    opened, log = attempts(0.992)
    assert opened.engine.precision == "int8" and opened.report.min_cosine >= 0.992
    assert [label for label, _ in opened.tried] == [
        "openvino int8", "openvino int8 without attention products, patch embedding, classification head"]
    assert all("CLS cosine 0.98" in why_not for _, why_not in opened.tried)
    assert sum("is not used: openvino" in line for line in log) == 2
    assert any("from 64 calibration images" in line for line in log)
    assert "classification head, first and last block on" in log[-1] and "mean patch 0.99" in log[-1]
    again, log = attempts(0.992)
    assert again.report == opened.report and not any("once" in line for line in log)


def test_when_no_attempt_passes_it_is_refused_with_the_figures_of_each(attempts):
    error, _ = attempts(0.9999)
    text = str(error)
    assert isinstance(error, EngineError) and all(name in text for name in LEFT_OUT[-1])
    assert text.count("; relative L2 of tokens 0.") == len(LEFT_OUT), text


def test_without_calibration_the_error_names_the_parameter(loaded):
    with pytest.raises(EngineError, match="int8 has to be calibrated, and engine.calibration is ''; accepted: a rosb"):
        open_engine(EngineSettings("openvino", "int8"), loaded, batch=1)


def test_a_calibration_that_is_not_there_is_named(loaded):
    with pytest.raises(BadSetting, match="^parameter 'engine.calibration' is '/nowhere'; accepted: a rosbag2 folder"):
        open_engine(EngineSettings("openvino", "int8", calibration="/nowhere"), loaded, batch=1)
