import hashlib
import json
import tracemalloc
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from vit_perception.wire.layout import (
    Layout,
    LayoutCamera,
    LayoutConnector,
    LayoutDense,
    LayoutGroup,
    LayoutState,
)
from vit_perception.wire.records import TokenGroup, TokenSequence
from vit_perception.wire.tensors import (
    decode_tensor,
    encode_labels,
    encode_mask,
    encode_tensor,
    mask_of,
)

LAYOUT = Layout(
    groups=(
        LayoutGroup("wrist/cls", "cls", "wrist", 0, 1),
        LayoutGroup("wrist/patch", "patch", "wrist", 1, 5, (2, 2)),
        LayoutGroup("arm/pose", "pose", "arm", 5, 6),
    ),
    cameras=(
        LayoutCamera(
            "wrist",
            "optical",
            "crop",
            (28, 28),
            14,
            (480, 640),
            (0.5, 0.5),
            (0.0, -2.0),
            ("a", "b"),
        ),
    ),
    width=3,
    dtype="float32",
    model="tiny",
    weights_sha256="00",
    encoder_sha256="11",
    block=11,
    runtime="torch 2",
    precision="float32",
    min_cosine=1.0,
    fusion="concat",
    embedding_width=6,
    states=(LayoutState("body", ("elbow", "gripper"), ("position",)),),
)


APART = {"name": "a/b", "kind": "b", "source": "a", "rows": 1, "width": 5}


def message(fields, **changes):
    return SimpleNamespace(**(fields._asdict() | changes))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_tensor_survives_the_wire(dtype):
    tensor = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
    fields = encode_tensor(tensor, dtype)
    assert (fields.height, fields.width, fields.step) == (4, 3, 3 * np.dtype(dtype).itemsize)
    np.testing.assert_array_equal(decode_tensor(message(fields)), tensor.astype(dtype))


def test_the_bytes_are_little_endian_row_major_float32():
    """By hand: 1.0 is 00 00 80 3f, 2.0 is 00 00 00 40 (IEEE 754, little-endian)."""
    assert encode_tensor(np.array([[1.0], [2.0]])).data.tobytes() == bytes.fromhex(
        "0000803f00000040"
    )


def test_encoding_copies_once():
    """What a frame's tokens take on their way out is their own size, once."""
    tokens = np.ones((257, 384), np.float32)
    encode_tensor(tokens)
    tracemalloc.start()
    try:
        fields = encode_tensor(tokens[1:])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(fields.data) == tokens[1:].nbytes
    assert peak_bytes < 1.2 * tokens.nbytes


def test_decoding_does_not_copy():
    fields = encode_tensor(np.ones((4, 3), np.float32))
    decoded = decode_tensor(message(fields))
    fields.data[3] = 0xBF  # the sign bit of the first number
    assert decoded[0, 0] == -1.0


def test_padded_and_big_endian_messages_decode():
    rows = np.arange(6, dtype=">f4").reshape(2, 3)
    padded = np.zeros((2, 5), ">f4")
    padded[:, :3] = rows
    fields = SimpleNamespace(
        height=2, width=3, encoding="32FC1", is_bigendian=1, step=20, data=padded.tobytes()
    )
    np.testing.assert_array_equal(decode_tensor(fields), rows)


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"encoding": "rgb8"}, "rgb8"),
        ({"step": 4}, "step 4"),
        ({"height": 9}, "9 x 3"),
        ({"step": 13}, "step 13"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        decode_tensor(message(encode_tensor(np.ones((4, 3))), **changes))


def test_only_matrices_of_known_types_are_sent():
    with pytest.raises(ValueError, match="float64"):
        encode_tensor(np.ones((1, 1)), "float64")
    with pytest.raises(ValueError, match=r"\(3,\)"):
        encode_tensor(np.ones(3))


def test_what_float16_cannot_hold_is_refused_instead_of_sent_as_infinity():
    with pytest.raises(ValueError, match="70000.*65504"):
        encode_tensor(np.array([[7e4]], np.float32), "float16")


def test_the_mask_travels_with_the_tokens():
    sequence = TokenSequence.of(
        [
            TokenGroup("cls", "a", np.ones((1, 3), np.float32)),
            TokenGroup("pose", "b", np.full((2, 3), 5, np.float32), valid=False),
        ]
    )
    assert sequence.mask.tolist() == [True, False, False]
    assert mask_of(sequence.tokens).tolist() == [True, False, False]
    fields = encode_mask(sequence.mask)
    assert fields.data.tobytes() == b"\xff\x00\x00" and (fields.height, fields.width) == (1, 3)


def test_the_layout_survives_json_and_splits():
    again = Layout.from_json(LAYOUT.to_json())
    assert again == LAYOUT and again.layout_id == LAYOUT.layout_id and again.token_count == 6
    tokens = np.arange(18).reshape(6, 3)
    groups = again.split(tokens)
    assert groups["wrist/patch"].tolist() == tokens[1:5].tolist() and np.shares_memory(
        groups["arm/pose"], tokens
    )


def test_two_layouts_that_differ_have_two_ids():
    fields = json.loads(LAYOUT.to_json())
    fields["fusion"] = "cross_attention"
    assert Layout.from_json(json.dumps(fields)).layout_id != LAYOUT.layout_id


def test_what_is_measured_is_no_part_of_the_id():
    """The same model on the same engine is measured a little differently at each start."""
    again = replace(LAYOUT, min_cosine=0.999991)
    assert (
        again.layout_id == LAYOUT.layout_id
        and json.loads(again.to_json())["min_cosine"] == 0.999991
    )


def test_another_schema_or_a_wrong_name_is_refused():
    with pytest.raises(ValueError, match="schema_version is 99"):
        Layout.from_json(json.dumps(json.loads(LAYOUT.to_json()) | {"schema_version": 99}))
    with pytest.raises(KeyError, match="wrist/cls, wrist/patch, arm/pose"):
        LAYOUT.group("nope")
    with pytest.raises(ValueError, match="5 rows"):
        LAYOUT.split(np.ones((5, 3)))


@pytest.mark.parametrize(
    "dtype, encoding, step", [(np.uint8, "mono8", 3), (np.uint16, "mono16", 6)]
)
def test_labels_survive_the_wire(dtype, encoding, step):
    labels = (np.arange(6).reshape(2, 3) * 40).astype(dtype)
    fields = encode_labels(labels)
    assert (fields.height, fields.width, fields.encoding, fields.step) == (2, 3, encoding, step)
    np.testing.assert_array_equal(decode_tensor(message(fields)), labels)
    with pytest.raises(ValueError, match="labels are int64 .2, 3.; accepted: uint8 or uint16"):
        encode_labels(labels.astype(np.int64))


def test_a_dense_head_is_in_the_layout_only_where_there_is_one():
    """A layout without one has the keys and the id that it had before there were any."""
    assert (
        "dense" not in json.loads(LAYOUT.to_json()) and Layout.from_json(LAYOUT.to_json()) == LAYOUT
    )
    dense = LayoutDense("segmentation", "class", "", (2, 5), ("wall", "floor"), 255)
    layout = replace(LAYOUT, dense=dense)
    back = Layout.from_json(layout.to_json())
    assert back == layout and back.dense == dense and back.layout_id != LAYOUT.layout_id
    before = {
        name: value
        for name, value in asdict(LAYOUT).items()
        if name
        not in (
            "dense",
            "connector",
            "sources",
            "encoders",
            "min_cosine",
            "apart",
            "policy_state",
            "basis",
            "history",
            "rays",
        )
    }
    del before["states"][0]["continuous"]
    del before["cameras"][0]["roi"], before["cameras"][0]["rectified"]
    for group in before["groups"]:
        del group["encoder"], group["step"]
    digest = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()[:16]
    assert LAYOUT.layout_id == digest


def test_blocks_left_out_of_a_connector_are_optional():
    """A connector without any has the keys that it had before there were any."""
    plain = replace(LAYOUT, connector=LayoutConnector((32, 8), shuffle=2))
    keys = json.loads(plain.to_json())["connector"]
    assert set(keys) == {"widths", "shuffle", "scale", "joined"}
    named = replace(LAYOUT, connector=LayoutConnector((32, 8), shuffle=2, left_out=(5, 11)))
    for layout in (plain, named):
        assert Layout.from_json(layout.to_json()) == layout
    assert json.loads(named.to_json())["connector"]["left_out"] == [5, 11]
    assert named.layout_id != plain.layout_id


@pytest.mark.parametrize(
    "change, said",
    [
        ({"width": "8"}, "layout.width is '8'"),
        ({"groups": None}, "layout.groups is None"),
        ({"dtype": "float64"}, "accepted: float32, float16, int8"),
        ({"min_cosine": float("nan")}, "layout.min_cosine is nan"),
        ({"cameras": [{"name": "wrist"}]}, "layout.cameras[0] lacks frame_id"),
        ({"block": True}, "layout.block is True"),
        (
            {"groups": [{"name": "a", "kind": "cls", "source": "a", "start": 1, "stop": 2}]},
            "accepted: start 0",
        ),
        (
            {
                "groups": [
                    {
                        "name": "a",
                        "kind": "patch",
                        "source": "a",
                        "start": 0,
                        "stop": 3,
                        "grid": [2, 2],
                    }
                ]
            },
            "as many",
        ),
        ({"apart": [APART | {"width": 0}]}, "accepted: rows and width from 1"),
        ({"apart": [APART | {"kind": "a/b"}]}, "accepted: rows and width from 1, and a kind of"),
        ({"apart": [APART, APART]}, "accepted: kinds that differ"),
        ({"policy_state": {"parts": []}}, "layout.policy_state lacks numbers, units"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused_by_key_and_value(change, said):
    with pytest.raises(ValueError, match="accepted") as caught:
        Layout.from_json(json.dumps(json.loads(LAYOUT.to_json()) | change))
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "[" * 20_000, '{"schema_version": true}'])
def test_a_text_that_is_no_layout_is_refused(text):
    with pytest.raises(ValueError, match="accepted"):
        Layout.from_json(text)


def test_keys_of_a_later_version_of_this_schema_are_passed_over():
    fields = json.loads(LAYOUT.to_json()) | {"something_new": [1]}
    fields["groups"][0]["colour"] = "red"
    assert Layout.from_json(json.dumps(fields)) == LAYOUT


def test_continuous_joints_are_in_the_layout_only_where_there_are_some():
    """What a position means must not change under a policy; and layouts of before keep their
    ids.
    """
    endless = replace(LAYOUT, states=(replace(LAYOUT.states[0], continuous=("elbow",)),))
    assert "continuous" not in LAYOUT.to_json() and endless.layout_id != LAYOUT.layout_id
    assert Layout.from_json(endless.to_json()) == endless


def test_a_region_of_interest_is_in_the_layout_only_of_a_camera_that_has_one():
    """Other cameras have the keys, and the layout the id, that they had before there were any."""
    assert "roi" not in json.loads(LAYOUT.to_json())["cameras"][0]
    camera = replace(LAYOUT.cameras[0], roi=(320, 240, 100, 80))
    layout = replace(LAYOUT, cameras=(*LAYOUT.cameras, replace(camera, name="hand")))
    written = json.loads(layout.to_json())["cameras"]
    assert "roi" not in written[0] and written[1]["roi"] == [320, 240, 100, 80]
    back = Layout.from_json(layout.to_json())
    assert back == layout and back.layout_id == layout.layout_id
    moved = replace(layout, cameras=(LAYOUT.cameras[0], replace(camera, roi=(321, 240, 100, 80))))
    assert len({each.layout_id for each in (LAYOUT, layout, moved)}) == 3
