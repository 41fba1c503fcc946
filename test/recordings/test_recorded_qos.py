"""Quality of service as recordings state it: names or numbers, and whatever a hostile one holds."""

import pytest
from rosbags.interfaces import QosHistory, QosReliability
from rosbags.rosbag2.metadata import dump_qos_v8, dump_qos_v9

from vit_perception.datasets.output_messages import offered_qos
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.recorded_qos import DEEPEST, RecordedQos, recorded_profiles

LATCHED = RecordedQos("reliable", "transient_local", "keep_last", 1)


def test_texts_lists_and_the_librarys_own_are_read_alike():
    given = [
        offered_qos(True),
        offered_qos(False)._replace(
            reliability=QosReliability.UNKNOWN, depth=0, history=QosHistory.UNKNOWN
        ),
    ]
    expected = [LATCHED, RecordedQos("unknown", "volatile", "unknown", 0)]
    for form in (given, dump_qos_v8(given), dump_qos_v9(given), str(dump_qos_v9(given))):
        assert recorded_profiles(form) == expected
    assert recorded_profiles([{"depth": 5}]) == [RecordedQos("unknown", "unknown", "unknown", 5)]


@pytest.mark.parametrize("nothing", ["", None, [], "[]", "# nothing", "''"])
def test_a_recording_need_not_say(nothing):
    assert recorded_profiles(nothing) == []


ENDLESS = 10**400


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[{depth: -1}]", "depth is -1; accepted: 0 to"),
        ([{"depth": DEEPEST + 1}], "depth is 10001"),
        (f"[{{depth: {'9' * 399}}}]", "depth is an integer beyond 64 bits"),
        ([{"depth": ENDLESS}], "beyond 64 bits"),
        (f"[{{depth: 1{'0' * 400}}}]", "depth is '1000"),
        ("[{depth: 1.5}]", "depth is 1.5"),
        ("[{depth: true}]", "depth is True"),
        ("[{depth: 1e400}]", "depth is inf"),
        ("[{depth: [1]}]", "depth is list"),
        ("[{depth: }]", "depth is None"),
        (
            "[{reliability: perhaps}]",
            "reliability is 'perhaps'; accepted: system_default, reliable",
        ),
        ("[{durability: 17}]", "durability is 17"),
        ("[{durability: -1}]", "durability is -1"),
        ("[{history: {}}]", "history is dict"),
        ([{"reliability": ENDLESS}], "reliability is an integer beyond"),
        ("[{history: .nan}]", "history is nan"),
        ("[{history: true}]", "history is True"),
        ("5", "offered_qos_profiles is 5; accepted: a list"),
        ("[5]", "a profile is 5"),
        ("[[]]", "a profile is list"),
        ("hello", "is 'hello'"),
        ("{depth: 1}", "is dict"),
        ("[", "no YAML"),
        ("\0", "no YAML"),
        ("a: &a [*a]", "inside of what it stands for"),
        (5.5, "is 5.5"),
        (b"x", "is bytes"),
        ([None], "a profile is None"),
        ("- depth: 1\n" * 2_000_000, "characters; accepted: YAML of at most"),
        ("x" * 10_000_000, "accepted: YAML of at most"),
        ("[{reliability: '" + "\x1b[31m" * 100 + "'}]", "no YAML"),
        ("!!python/object/apply:os.system [ls]", "no YAML"),
        ('[{reliability: "\\e[31m"}]', r"reliability is '.x1b\[31m'"),
    ],
)
def test_what_no_publisher_offers_is_named_in_one_short_line(given, said):
    with pytest.raises(InvalidValue, match=said) as caught:
        recorded_profiles(given)
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_durations_are_not_looked_at():
    for duration in ("{sec: -1, nsec: 9}", "9" * 399, "forever", "[]"):
        text = (
            f"[{{reliability: 1, durability: 1, history: 1, depth: 1, deadline: {duration}, "
            f"lifespan: {duration}}}]"
        )
        assert recorded_profiles(text) == [LATCHED]
