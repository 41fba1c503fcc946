"""Deadline and liveliness of inputs: bounds, TF, and that features do not depend on them."""

from dataclasses import asdict

import pytest

from vit_perception.config.input_qos import asked_of, forget_live_only
from vit_perception.config.settings import BadSetting, CameraSettings, PoseSettings, StateSettings
from vit_perception.tokens.wrench import WrenchSettings

ARM = {"name": "arm", "topic": "/pose", "frame_id": "base"}
MADE = [
    lambda **qos: CameraSettings(name="wrist", topic="/image", **qos),
    lambda **qos: PoseSettings(**ARM, **qos),
    lambda **qos: StateSettings(name="hand", topic="/joints", joints=("a",), **qos),
    lambda **qos: WrenchSettings(name="force", topic="/wrench", frame_id="hand", **qos),
]


@pytest.mark.parametrize("make", MADE)
def test_every_input_has_both_and_they_are_off_at_first(make):
    assert asked_of(make()) == (0.0, 0.0)
    assert asked_of(make(deadline_s=0.001, liveliness_s=3600.0)) == (0.001, 3600.0)


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("name", ["deadline_s", "liveliness_s"])
@pytest.mark.parametrize("value", [-1.0, 0.0005, 3601.0, float("nan"), float("inf")])
def test_one_that_is_out_of_bounds_is_refused(make, name, value):
    with pytest.raises(BadSetting, match=rf"\.{name}.*0 for none, or 0.001 to 3600 s"):
        make(**{name: value})


def test_an_arm_from_tf_has_none():
    through_tf = {"source": "tf", "base_frame": "base", "ee_frame": "hand", "topic": "/tf"}
    with pytest.raises(BadSetting, match=r"poses\.arm\.deadline_s.*0 with source tf"):
        PoseSettings(**(ARM | through_tf), deadline_s=0.1)


def test_what_features_do_not_depend_on_is_taken_out_wherever_it_is():
    settings = {
        "cameras": [asdict(MADE[0](deadline_s=0.5))],
        "extra": {"wrenches": (asdict(MADE[3](liveliness_s=0.5)),)},
        "top_k": 5,
    }
    forget_live_only(settings)
    (camera,) = settings["cameras"]
    (wrench,) = settings["extra"]["wrenches"]
    assert not {"deadline_s", "liveliness_s"} & {*camera, *wrench}
    assert camera["topic"] == "/image" and settings["top_k"] == 5
