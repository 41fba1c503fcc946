"""The policy's state token: its value, where it goes, what is masked, and what is refused."""

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
    write_smolvla,
)
from test.tokens.fusion_weights import cross_attention_tensors, write_cross_attention
from test.tokens.policy_states import (  # noqa: F401
    FINGER_M,
    NUMBERS,
    PARTS,
    POSITION_M,
    THERE,
    pi0,
    result_of,
    settings_of,
    smolvla,
    token_of,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import BadSetting, FusionSettings, PoseSettings
from vit_perception.datasets.embed import EmbedOptions, run_of
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import MISSING, BadInput


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
