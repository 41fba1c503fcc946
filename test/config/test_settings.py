import math

import pytest

from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    FusionSettings,
    HistorySettings,
    ModelSettings,
    OutputSettings,
    PoseSettings,
    StateSettings,
    SyncSettings,
)

CAMERA = CameraSettings("wrist", "/wrist/image")
ARM = PoseSettings("arm", "/pose", "base")
STATE = StateSettings("body", "/joint_states", ("elbow",))


@pytest.mark.parametrize(
    "make, parameter, value, accepted",
    [
        (lambda: CameraSettings("1st", "/a"), "camera_names", "1st", "letter"),
        (lambda: CameraSettings("a", ""), "cameras.a.topic", "", "name of an image topic"),
        (
            lambda: CameraSettings("a", "/a", "h264"),
            "cameras.a.transport",
            "h264",
            "raw, compressed",
        ),
        *(
            (
                lambda roi=roi: CameraSettings("a", "/a", roi=tuple(roi)),
                "cameras.a.roi",
                roi,
                "[x, y, width, height] in px: x and y from 0, width and height from 1",
            )
            for roi in ([0, 0, 10], [-1, 0, 10, 10], [0, 0, 0, 10], [0, 0, 10, 65536])
        ),
        (lambda: PoseSettings("arm", "/p"), "poses.arm.frame_id", "", "frame"),
        (
            lambda: PoseSettings("arm", "/p", "base", wait_s=2.0),
            "poses.arm.wait_s",
            2.0,
            "0 to 1 s",
        ),
        (
            lambda: PoseSettings("arm", "/p", "base", max_skew_s=math.nan),
            "poses.arm.max_skew_s",
            math.nan,
            "0 to 2 s",
        ),
        (lambda: ModelSettings(""), "model.checkpoint", "", "demo"),
        (lambda: ModelSettings(family=""), "model.family", "", "auto"),
        (
            lambda: ModelSettings(mean=(0.5, 0.5)),
            "model.mean",
            [0.5, 0.5],
            "list of 3 floats ([0.0, 0.5], not [0, 0.5]) from 0 to 1, or []",
        ),
        (lambda: ModelSettings(mean=(0.5, 0.5, 1.5)), "model.mean", [0.5, 0.5, 1.5], "from 0 to 1"),
        (
            lambda: ModelSettings(std=(0.5, 0.0, 0.5)),
            "model.std",
            [0.5, 0.0, 0.5],
            "list of 3 floats above 0, up to 1, or []",
        ),
        (
            lambda: ModelSettings(std=(math.nan,) * 3),
            "model.std",
            [math.nan] * 3,
            "from 0 to 1, or []",
        ),
        (
            lambda: ModelSettings(size=(0, 224)),
            "model.size",
            [0, 224],
            "list of 2 integers from 1 to 99999, or []",
        ),
        (lambda: EngineSettings("cuda"), "engine.backend", "cuda", "auto, tensorrt"),
        (lambda: EngineSettings(precision="int4"), "engine.precision", "int4", "bfloat16"),
        (lambda: EngineSettings(min_cosine=1.5), "engine.min_cosine", 1.5, "0 to 1"),
        (
            lambda: EngineSettings("onnxruntime", provider="rocm"),
            "engine.provider",
            "rocm",
            "one of cpu, cuda, tensorrt",
        ),
        (
            lambda: EngineSettings(provider="cuda"),
            "engine.provider",
            "cuda",
            "cpu with engine.backend auto",
        ),
        (lambda: EngineSettings(device=-1), "engine.device", -1, "0 to 63"),
        (lambda: EngineSettings(device=1 << 40), "engine.device", 1 << 40, "0 to 63"),
        (
            lambda: EngineSettings("openvino", device=1),
            "engine.device",
            1,
            "0 with engine.backend openvino, which runs",
        ),
        (
            lambda: EngineSettings("onnxruntime", device=1),
            "engine.device",
            1,
            "0 with engine.backend onnxruntime and",
        ),
        (lambda: FusionSettings("sum"), "fusion.kind", "sum", "concat, cross_attention"),
        (lambda: FusionSettings("cross_attention"), "fusion.weights", "", "safetensors"),
        (lambda: FusionSettings(tokenizer="mlp"), "poses.tokenizer_weights", "", "safetensors"),
        (lambda: SyncSettings(slop_s=-1), "sync.slop_s", -1, "0 to 1 s"),
        (lambda: HistorySettings(0), "history.frames", 0, "1 to 32"),
        (lambda: HistorySettings(2, 0.0), "history.stride_s", 0.0, "0.001 to 10 s"),
        (lambda: HistorySettings(2, -0.1), "history.stride_s", -0.1, "0.001 to 10 s"),
        (lambda: HistorySettings(2, math.nan), "history.stride_s", math.nan, "0.001 to 10 s"),
        (
            lambda: HistorySettings(9, 8.0),
            "history.frames",
            9,
            "1 to 8 with a stride of 8 s: they span 60 s",
        ),
        (
            lambda: HistorySettings(2, 0.2, 0.11),
            "history.tolerance_s",
            0.11,
            "up to 0.1 s, half of the stride",
        ),
        (lambda: HistorySettings(2, 0.2, math.nan), "history.tolerance_s", math.nan, "0 to 5 s"),
        (lambda: OutputSettings("int4"), "output_dtype", "int4", "float32, float16, int8"),
        (lambda: OutputSettings(top_k=0), "top_k", 0, "1 to 1000"),
        (lambda: OutputSettings(min_score=1.1), "min_score", 1.1, "0 to 1"),
        (
            lambda: PoseSettings("arm", "/p", "base", source="gps"),
            "poses.arm.source",
            "gps",
            "topic, tf",
        ),
        (
            lambda: PoseSettings("arm", "", source="tf", ee_frame="tool"),
            "poses.arm.base_frame",
            "",
            "TF frame",
        ),
        (
            lambda: PoseSettings("arm", "", source="tf", base_frame="a"),
            "poses.arm.ee_frame",
            "",
            "end effector",
        ),
        (
            lambda: PoseSettings("arm", "", source="tf", base_frame="a", ee_frame="a"),
            "poses.arm.ee_frame",
            "a",
            "another",
        ),
        (lambda: StateSettings("s s", "/j", ("a",)), "state_names", "s s", "letter"),
        (lambda: StateSettings("s", "", ("a",)), "states.s.topic", "", "JointState"),
        (lambda: StateSettings("s", "/j", ()), "states.s.joints", [], "names of joints"),
        (lambda: StateSettings("s", "/j", ("a", "a")), "states.s.joints", ["a", "a"], "each once"),
        (
            lambda: StateSettings("s", "/j", ("a",), ("effort",)),
            "states.s.fields",
            ["effort"],
            "position, velocity",
        ),
        (
            lambda: StateSettings("s", "/j", ("a",), continuous=("b",)),
            "states.s.continuous",
            ["b"],
            "some of states.s.joints",
        ),
        (lambda: StateSettings("s", "/j", ("a",), wait_s=-1), "states.s.wait_s", -1, "0 to 1 s"),
        (
            lambda: StateSettings("s", "/j", ("a",), max_skew_s=9),
            "states.s.max_skew_s",
            9,
            "0 to 2 s",
        ),
        (
            lambda: FusionSettings(state_tokenizer="sum"),
            "states.tokenizer",
            "sum",
            "fourier, linear, mlp",
        ),
        (
            lambda: EncoderSettings(
                (CAMERA,), fusion=FusionSettings(state_tokenizer="mlp"), states=(STATE,)
            ),
            "states.body.tokenizer_weights",
            "",
            "untrained mlp",
        ),
        (
            lambda: EncoderSettings(
                (CAMERA,), (ARM,), states=(StateSettings("arm", "/j", ("a",)),)
            ),
            "state_names",
            ["arm"],
            "differ",
        ),
        (
            lambda: EncoderSettings((CAMERA,), state_policy="drop"),
            "states.policy",
            "drop",
            "mask, require",
        ),
        (lambda: EncoderSettings(()), "camera_names", [], "at least one"),
        (lambda: EncoderSettings((CAMERA, CAMERA)), "camera_names", ["wrist"], "differ"),
        (
            lambda: EncoderSettings((CAMERA,), (PoseSettings("wrist", "/p", "b"),)),
            "pose_names",
            ["wrist"],
            "differ",
        ),
        (
            lambda: EncoderSettings((CAMERA,), (ARM,), pose_policy="drop"),
            "poses.policy",
            "drop",
            "mask, require",
        ),
    ],
)
def test_an_error_names_the_parameter_its_value_and_what_is_accepted(
    make, parameter, value, accepted
):
    with pytest.raises(BadSetting) as error:
        make()
    assert error.value.name == parameter
    assert f"'{parameter}' is {value!r}" in str(error.value) and accepted in str(error.value)


def test_the_defaults_are_valid():
    settings = EncoderSettings((CAMERA,), (ARM,))
    assert (settings.model.checkpoint, settings.model.family) == (
        "demo",
        "auto",
    ) and settings.engine.backend == "auto"


@pytest.mark.parametrize(
    "value", [1e-300, 1e-6, 5e-324, 0.00999, -0.5, 1e300, float("nan"), float("inf")]
)
def test_a_rate_that_would_stop_the_node_is_refused(value):
    with pytest.raises(
        BadSetting, match="max_rate_hz.*accepted: 0 for no bound, or 0.01 to 1000 Hz"
    ):
        OutputSettings(max_rate_hz=value)


def test_a_refused_value_of_megabytes_is_not_echoed_whole():
    with pytest.raises(BadSetting) as refused:
        OutputSettings(dtype="x" * 30_000_000)
    assert len(str(refused.value)) < 600
