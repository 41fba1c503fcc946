"""The policy's state token: its value, where it goes, what is masked, and what is refused."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from test.checkpoints.policies.policy_folders import (
    SMOLVLA,
    STATISTICS,
    TOKEN_WIDTH,
    WIDTH,
    lerobot_config,
    pi0_tensors,
    smolvla_tensors,
    write,
    write_pi0,
    write_smolvla,
)
from test.plain_messages import image_message
from test.tokens.fusion_weights import cross_attention_tensors, write_cross_attention
from test.tokens.policy_states import (
    FINGER_M,
    NUMBERS,
    PARTS,
    POSITION_M,
    QUATERNION_XYZW,
    settings_of,
    token_of,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import (
    BadSetting,
    EncoderSettings,
    FusionSettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed, run_of
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.output_messages import cdr_of
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.policy_state import StateSpec
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import LiveDecoder, ObservationWindow
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.streams.rotation import rotation_matrix, rotation_vector
from vit_perception.tokens.components import parts_of
from vit_perception.tokens.kinds import sources_of
from vit_perception.tokens.policy_state import check_parts
from vit_perception.tokens.source import sampled
from vit_perception.tokens.wrench import WrenchSettings
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import MISSING, BadInput, Pose, Sample, SampleAtImage
from vit_perception.wire.stamps import header_fields
from vit_perception.wire.tensors import encode_tensor, encode_view
from vit_perception.wire.topics import IMAGE_TYPE, image_fields

STAMP_NS = 7_000_000_000
MS = 1_000_000
POSE = Pose(np.array(POSITION_M), np.array(QUATERNION_XYZW), STAMP_NS, "base_link")
THERE = {
    "arm": SampleAtImage(POSE, "interpolated", 0),
    "gripper": SampleAtImage(Sample(np.array([FINGER_M]), STAMP_NS, ""), "interpolated", 0),
}


@pytest.fixture(scope="module")
def smolvla(tmp_path_factory):
    return write_smolvla(tmp_path_factory.mktemp("smolvla"))


@pytest.fixture(scope="module")
def pi0(tmp_path_factory):
    return write_pi0(tmp_path_factory.mktemp("pi0"))


def result_of(settings: EncoderSettings, samples=THERE):
    """(frame, layout) of one image."""
    pipeline = Pipeline.open(settings)
    try:
        prepared = pipeline.prepare({"wrist": image_message(STAMP_NS)})
        result = pipeline.assemble(prepared, pipeline.encode(prepared), samples)
        return result, pipeline.layout()
    finally:
        pipeline.close()


@pytest.mark.parametrize("kind", ["MEAN_STD", "MIN_MAX", "IDENTITY"])
def test_the_token_is_that_of_the_policys_own_formula(kind, tmp_path):
    mapping = {**SMOLVLA["normalization_mapping"], "STATE": kind}
    config = {**SMOLVLA, "normalization_mapping": mapping}
    folder = write(tmp_path, config, smolvla_tensors())
    result, layout = result_of(settings_of(folder))
    group = layout.groups[-1]
    assert (group.name, group.kind) == ("policy/policy_state", "policy_state")
    assert [g.kind for g in layout.groups] == ["cls", "patch", "pose", "state", "policy_state"]
    token = layout.split(result.sequence.tokens)[group.name]
    wanted = token_of(NUMBERS, TOKEN_WIDTH, kind)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(token[0], wanted, atol=1e-5)
    # The projection of the loaded checkpoint computes it with torch.
    np.testing.assert_allclose(token, load_checkpoint(str(folder)).state.encode(NUMBERS), atol=1e-5)
    assert result.sequence.mask.all() and not layout.apart and not result.apart
    assert len(result.embedding) == layout.embedding_width == 4 * TOKEN_WIDTH
    np.testing.assert_array_equal(result.embedding[-TOKEN_WIDTH:], token[0])
    said = layout.policy_state
    assert (said.parts, said.normalisation) == (PARTS, kind.lower())
    assert said.numbers == (
        *(f"arm.rpy.{angle}" for angle in ("roll", "pitch", "yaw")),
        *(f"arm.position.{axis}" for axis in "xyz"),
        "gripper.finger",
    )
    assert said.units == ("rad", "rad", "rad", *"mmm", "rad or m")
    assert Layout.from_json(layout.to_json()) == layout


def test_the_order_is_that_of_the_parameter(smolvla):
    result, _ = result_of(settings_of(smolvla, ("gripper.position", "arm.rpy", "arm.position")))
    numbers = np.array([FINGER_M, 0, 0, 0.6, *POSITION_M])
    np.testing.assert_allclose(
        result.sequence.tokens[-1], token_of(numbers, TOKEN_WIDTH), atol=1e-5
    )


@pytest.mark.parametrize("missing", ["arm", "gripper"])
def test_without_one_of_its_samples_the_token_is_masked(missing, smolvla):
    result, layout = result_of(settings_of(smolvla), THERE | {missing: MISSING})
    there = {g.name: bool(result.sequence.mask[g.start]) for g in layout.groups}
    assert not there["policy/policy_state"] and not result.sequence.tokens[-1].any()
    assert there == {
        "wrist/cls": True,
        "wrist/patch": True,
        "arm/pose": missing != "arm",
        "gripper/state": missing != "gripper",
        "policy/policy_state": False,
    }


def test_pi0s_token_is_wider_and_not_in_the_sequence(pi0):
    result, layout = result_of(settings_of(pi0))
    assert [g.kind for g in layout.groups] == ["cls", "patch", "pose", "state"]
    (apart,) = layout.apart
    assert (apart.topic, apart.source, apart.rows, apart.width) == ("policy_state", "policy", 1, 64)
    (group,) = result.apart
    assert group.valid
    np.testing.assert_allclose(group.tokens[0], token_of(NUMBERS, 64), atol=1e-5)
    assert layout.embedding_width == len(result.embedding) == 3 * TOKEN_WIDTH
    assert Layout.from_json(layout.to_json()) == layout
    result, _ = result_of(settings_of(pi0), THERE | {"arm": MISSING})
    assert not result.apart[0].valid and result.apart[0].tokens.tolist() == [[0.0] * 64]


def test_without_the_connector_smolvlas_token_is_not_in_the_sequence(smolvla):
    result, layout = result_of(settings_of(smolvla, connector="none"))
    assert (layout.width, layout.apart[0].width) == (WIDTH, TOKEN_WIDTH)
    np.testing.assert_allclose(result.apart[0].tokens[0], token_of(NUMBERS, TOKEN_WIDTH), atol=1e-5)


def test_without_the_parameter_nothing_is_there(smolvla):
    result, layout = result_of(settings_of(smolvla, ()))
    assert "policy" not in layout.to_json().replace("policy_preprocessor", "")
    assert not result.apart and layout.groups[-1].name == "gripper/state"


def parts(texts, **named):
    given = settings_of("x", (), **named)
    return parts_of(texts, sampled(sources_of(given)))


def test_every_form_of_a_part():
    turn = np.array([0.1, -0.2, 0.3, 0.9])
    pose = Pose(np.array([1.0, 2.0, 3.0]), turn / np.linalg.norm(turn), STAMP_NS, "")
    matrix = rotation_matrix(pose.quaternion_xyzw)
    body = Sample(np.array([0.1, 0.2, 3.0, 4.0]), STAMP_NS, "")
    force = Sample(np.arange(6.0), STAMP_NS, "")
    settings = {
        "states": (StateSettings("body", "/j", ("a", "b"), ("position", "velocity")),),
        "extra": {"wrenches": (WrenchSettings("hand", "/w", "tool"),)},
    }
    roll, pitch, yaw = parts(("arm.rpy",))[0].component.of(pose)
    about_x = np.array([np.sin(roll / 2), 0, 0, np.cos(roll / 2)])
    about_y = np.array([0, np.sin(pitch / 2), 0, np.cos(pitch / 2)])
    about_z = np.array([0, 0, np.sin(yaw / 2), np.cos(yaw / 2)])
    made = rotation_matrix(about_z) @ rotation_matrix(about_y) @ rotation_matrix(about_x)
    np.testing.assert_allclose(made, matrix, atol=1e-12)
    for text, value, wanted in (
        ("arm.position", pose, [1, 2, 3]),
        ("arm.quaternion", pose, pose.quaternion_xyzw),
        ("arm.rotation6d", pose, [*matrix[:, 0], *matrix[:, 1]]),
        ("arm.rotation_vector", pose, rotation_vector(pose.quaternion_xyzw)),
        ("arm.rpy_deg", pose, np.degrees([roll, pitch, yaw])),
        ("body", body, [0.1, 0.2]),
        ("body.position", body, [0.1, 0.2]),
        ("body.position_deg", body, np.degrees([0.1, 0.2])),
        ("body.velocity", body, [3, 4]),
        ("hand.force", force, [0, 1, 2]),
        ("hand.torque", force, [3, 4, 5]),
    ):
        (part,) = parts((text,), **settings)
        np.testing.assert_allclose(part.component.of(value), wanted, atol=1e-12, err_msg=text)
        assert len(part.names) == len(wanted)


@pytest.mark.parametrize(
    "texts, said",
    [
        (("arm.position", "arm.quaternion", "gripper"), "7 numbers, with which the policy .* was "
         "trained; these are 8: arm.position 3, arm.quaternion 4, gripper 1"),
        (("arm.position",), "these are 3: arm.position 3"),
        # The deviation of the fourth number is 1.05.
        (("arm.position", "arm.quaternion"), "arm.quaternion.qx is at most 1, and the mean_std "
         "of that number are .* and 1.05"),
        (("arm",), "arm.position, arm.quaternion, arm.rotation6d, arm.rotation_vector, "
         "arm.rpy, arm.rpy_deg in the place of 'arm'"),
        (("arm.pose",), "in the place of 'arm.pose'"),
        (("gripper.velocity",), "gripper.position, gripper, gripper.position_deg in the place"),
        (("wrist.position",), "parts of arm, gripper; 'wrist.position' is of none of them"),
        (("",), "parts of arm, gripper; '' is of none"),
    ],
)  # fmt: skip
def test_what_the_policy_was_not_trained_with_is_refused(texts, said, smolvla):
    with pytest.raises(BadSetting, match=f"parameter 'policy.state' is .*accepted: .*{said}"):
        Pipeline.open(settings_of(smolvla, texts))


def test_a_checkpoint_without_the_state_is_refused(tmp_path, tiny_checkpoint):
    pi05 = lerobot_config("pi05", image_resolution=[64, 64])
    tensors = {name: t for name, t in pi0_tensors().items() if "state_proj" not in name}
    for checkpoint in (tiny_checkpoint, write(tmp_path, pi05, tensors)):
        with pytest.raises(BadSetting, match="none with .*: only a policy with a projection"):
            Pipeline.open(settings_of(checkpoint))
    with pytest.raises(BadSetting, match="parts of arms or joint states, and there are none"):
        Pipeline.open(settings_of(tiny_checkpoint, poses=(), states=()))


def test_the_name_of_its_source_is_taken():
    with pytest.raises(BadSetting, match="'pose_names' is .*another name than policy"):
        settings_of("x", ("policy.position",), poses=(PoseSettings("policy", "/p", "base"),))
    settings_of("x", (), poses=(PoseSettings("policy", "/p", "base"),))


def named(*names: str) -> StateSpec:
    return StateSpec(count=len(names), inputs=8, width=4, names=names)


@pytest.mark.parametrize(
    "names, wrong",
    [
        (("x", "y", "z", "finger.pos"), None),
        (("EE.X", "ee.y", "ee.z", "gripper.pos"), None),
        (("finger.pos", "x", "y", "z"), "arm.position.x is number 1 here and number 2 there"),
        (("x", "z", "y", "other"), "arm.position.y is number 2 here and number 3 there"),
        (("arm.x", "arm.y", "finger", "arm.z"), "arm.position.z is number 3 here and number 4"),
        # Said twice, a name is no place.
        (("a", "x", "x", "b"), None),
    ],
)
def test_the_order_is_held_against_declared_names(names, wrong):
    chosen = parts(("arm.position", "gripper"))
    if wrong is None:
        check_parts(chosen, named(*names), "p")
        return
    with pytest.raises(BadSetting, match=f"the policy's order {re.escape(names[0])}.*{wrong}"):
        check_parts(chosen, named(*names), "p")


def test_declared_names_are_read_and_kept_by_an_extract(tmp_path):
    names = ["x", "y", "z", "roll", "pitch", "yaw", "finger"]
    for given in (names, {"motors": names}):
        feature = {"type": "STATE", "shape": [7], "names": given}
        config = {**SMOLVLA, "input_features": {"observation.state": feature}}
        folder = write(tmp_path / type(given).__name__, config, smolvla_tensors())
        spec = load_checkpoint(str(folder)).state.spec
        assert spec.names == tuple(names) and "names" in spec.as_json()
    with pytest.raises(BadSetting, match="the policy's order x, y, z"):
        Pipeline.open(settings_of(folder, ("gripper", "arm.position", "arm.rpy")))
    for wrong in (names[:6], [1] * 7, "abcdefg", 5):
        feature["names"] = wrong
        with pytest.raises(CheckpointError, match="names of the policy's state"):
            load_checkpoint(str(write(tmp_path / "wrong", config, smolvla_tensors())))


@pytest.mark.parametrize("kind, at", [("min_max", "-3 and 93"), ("quantiles", "-3 and 93")])
def test_angles_of_another_unit_are_found_by_the_statistics(kind, at):
    spec = StateSpec(
        count=4, inputs=8, width=4, normalisation=kind, first=(-3,) * 4, second=(3, 93, 3, 3)
    )
    with pytest.raises(BadSetting, match=f"arm.rpy.pitch is at most 3.142 rad.*{at}"):
        check_parts(parts(("arm.rpy", "gripper")), spec, "p")
    check_parts(parts(("arm.rpy_deg", "gripper")), spec, "p")
    # Of joints nothing is known: they may turn further, or slide.
    check_parts(parts(("gripper",) * 4), spec, "p")


def test_numbers_that_statistics_blow_up_drop_the_frame(tmp_path, monkeypatch):
    monkeypatch.setitem(STATISTICS, "max", STATISTICS["min"] + 1e-45)
    monkeypatch.setitem(STATISTICS, "min", STATISTICS["min"] * 0)
    monkeypatch.setitem(STATISTICS, "max", STATISTICS["min"] + 1e-45)
    mapping = {**SMOLVLA["normalization_mapping"], "STATE": "MIN_MAX"}
    folder = write(tmp_path, {**SMOLVLA, "normalization_mapping": mapping}, smolvla_tensors())
    with pytest.raises(BadInput, match="state token of .*is not finite") as error:
        result_of(settings_of(folder))
    assert error.value.reason == "not_finite"


def test_statistics_are_in_the_digest(tmp_path, monkeypatch):
    digests = []
    for name in ("one", "other"):
        pipeline = Pipeline.open(settings_of(write_smolvla(tmp_path / name)))
        digests.append((pipeline.layout().policy_state.sha256, pipeline.layout().layout_id))
        run = run_of(pipeline, [], EmbedOptions("mcap"))
        assert run["policy_state_sha256"] == digests[-1][0]
        pipeline.close()
        monkeypatch.setitem(STATISTICS, "mean", STATISTICS["mean"] + 0.5)
    assert digests[0][0] != digests[1][0] and digests[0][1] != digests[1][1]
    pipeline = Pipeline.open(settings_of(tmp_path / "one", ()))
    run = run_of(pipeline, [], EmbedOptions("mcap"))
    assert "policy" not in run["settings"] and "policy_state_sha256" not in run
    pipeline.close()


def test_cross_attention_sees_it(smolvla, tmp_path):
    tensors = cross_attention_tensors(TOKEN_WIDTH)
    fusion = FusionSettings(
        "cross_attention", write_cross_attention(tmp_path / "fusion.safetensors", tensors)
    )
    with_it, _ = result_of(settings_of(smolvla, fusion=fusion))
    without, _ = result_of(settings_of(smolvla, (), fusion=fusion))
    assert with_it.embedding.shape == without.embedding.shape
    assert np.abs(with_it.embedding - without.embedding).max() > 1e-4


def bag_of(folder):
    """A bag of two images; pose and finger are there for the first one alone."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    x, y, z, w = QUATERNION_XYZW
    position = dict(zip("xyz", POSITION_M))
    orientation = {"x": x, "y": y, "z": z, "w": w}
    with BagWriter(folder / "bag") as bag:
        for after_ms in (-10, 0, 10, 500):
            stamp_ns = STAMP_NS + after_ms * MS
            header = header_fields(stamp_ns, "base_link")
            pose = {"header": header, "pose": {"position": position, "orientation": orientation}}
            finger = {"header": header, "name": ["finger"], "position": np.array([FINGER_M])}
            picture = image_fields(header, encode_view(pixels))
            messages = (
                [("/wrist/image", IMAGE_TYPE, picture)]
                if after_ms in (0, 500)
                else [
                    ("/ee_pose", "geometry_msgs/msg/PoseStamped", pose),
                    ("/joint_states", "sensor_msgs/msg/JointState", finger),
                ]
            )
            for topic, kind, fields in messages:
                bag.write(topic, kind, cdr_of(kind, fields), stamp_ns)
    return folder / "bag"


@pytest.mark.parametrize("policy", ["smolvla", "pi0"])
def test_embed_data_set_and_live_decoder_have_it(policy, request, tmp_path):
    pipeline = Pipeline.open(settings_of(request.getfixturevalue(policy)))
    bag = bag_of(tmp_path)
    for file_format in ("mcap", "safetensors", "parquet"):
        options = EmbedOptions(file_format)
        embed(pipeline, [BagSource(bag, "/wrist/image")], tmp_path / file_format, options)
    pipeline.close()
    data = FeatureDataset(tmp_path / "safetensors", history=2, max_gap_s=1.0)
    window = data[0]
    in_tokens = policy == "smolvla"
    stored = window["tokens"][:, -1:] if in_tokens else window["policy_state"]
    wanted = token_of(NUMBERS, TOKEN_WIDTH if in_tokens else 64)
    np.testing.assert_allclose(stored[0, 0].numpy(), wanted, atol=1e-5)
    assert not stored[1].any()
    of_parquet = FeatureDataset(tmp_path / "parquet", history=2, max_gap_s=1.0)[0]
    assert ("policy_state" in window) == ("policy_state" in of_parquet) == (not in_tokens)
    if not in_tokens:
        np.testing.assert_array_equal(of_parquet["policy_state"], window["policy_state"])
    decoder = LiveDecoder("/vit_encoder", data.layouts)
    windows = ObservationWindow(history=2, max_gap_s=1.0)
    made = None
    with BagReader(tmp_path / "mcap") as recording:
        for topic, _, message in recording.messages(list(recording.topics)):
            observation = decoder.add(topic, message)
            made = windows.add(observation) if observation else made
    assert ("/vit_encoder/policy_state" in decoder.topics) == (not in_tokens)
    live = made["tokens"][:, -1:] if in_tokens else made["policy_state"]
    np.testing.assert_array_equal(live, stored.numpy())


def test_a_decoder_refuses_a_token_of_another_shape(pi0):
    _, layout = result_of(settings_of(pi0))
    decoder = LiveDecoder("/vit_encoder")
    decoder.add("/vit_encoder/layout", SimpleNamespace(data=layout.to_json()))
    stamp = SimpleNamespace(sec=1, nanosec=0)
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=stamp), **encode_tensor(np.ones((1, 63)))._asdict()
    )
    with pytest.raises(InvalidValue, match="policy_state is 1 x 63; accepted: 1 x 64"):
        decoder.add("/vit_encoder/policy_state", message)
