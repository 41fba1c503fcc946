"""Frame ids: what is no name is refused, in a short text."""

import pytest

from vit_perception.wire.records import LONGEST_FRAME_ID, BadInput, check_frame_id


@pytest.mark.parametrize(
    "frame_id",
    [
        "a" * (LONGEST_FRAME_ID + 1),
        "a" * 1_000_000,
        "base\0link",
        "\x1b[2Jbase",
        "base\n",
        "\ud800",
        "\u202ebase",
    ],
)
def test_a_frame_id_that_is_no_name_is_refused_in_a_short_text(frame_id):
    with pytest.raises(
        BadInput, match="header.frame_id is .*; accepted: at most 256 characters"
    ) as caught:
        check_frame_id(frame_id)
    said = str(caught.value)
    assert caught.value.reason == "frame" and len(said) < 500 and said.isprintable()


@pytest.mark.parametrize(
    "frame_id", ["", "base_link", "robot1/base link", "kamera_ü", "a" * LONGEST_FRAME_ID]
)
def test_names_of_frames_are_taken(frame_id):
    check_frame_id(frame_id)
