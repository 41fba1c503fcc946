"""CameraSync under any order of arrival: the books add up to the frame, and a group is one moment
of each camera.

Every image carries its camera, stamp and number, so that a mixed-up one is seen.
"""

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from test.amount import examples
from vit_perception.streams.camera_sync import JUMP_BACK_NS, MAX_PENDING, CameraSync

MS = 1_000_000
CAMERAS = ("overhead", "left", "right")
SLOP_NS, SILENT_NS = 10 * MS, 100 * MS
START_NS = 10_000_000_000
EXAMPLES = examples(1000)

events = st.lists(
    st.one_of(
        # Camera, stamp as ms after the image before (late, out of order, steps of the clock), ms
        # until it is received.
        st.tuples(
            st.just("image"),
            st.sampled_from(CAMERAS),
            st.one_of(st.integers(-40, 80), st.sampled_from([-5000, -1001, -999, 3000, 3_600_000])),
            st.integers(0, 60),
        ),
        st.tuples(
            st.just("refuse"),
            st.sampled_from(CAMERAS),
            st.sampled_from(["stamp", "size"]),
            st.just(0),
        ),
        st.tuples(st.just("take"), st.just(""), st.just(0), st.integers(0, 150)),
        st.tuples(
            st.just("finish"), st.sampled_from(CAMERAS), st.sampled_from(["", "decode"]), st.just(0)
        ),
        st.tuples(st.just("configure"), st.sampled_from(["wait", "mask"]), st.just(0), st.just(0)),
        st.tuples(st.just("clear"), st.just("deactivated"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


class Watched:
    """A CameraSync with what must hold after each step."""

    def __init__(self, count: int, policy: str):
        self.cameras, self.policy, self.now_ns, self.stamp_ns, self.number = (
            CAMERAS[:count],
            policy,
            0,
            START_NS,
            0,
        )
        self.sync = CameraSync(self.cameras, SLOP_NS, policy, SILENT_NS, 0)
        self.flying: dict[str, list] = {camera: [] for camera in self.cameras}
        self.last_taken: dict[str, int] = {}
        self.taken_numbers: set[int] = set()

    def image(self, camera, step_ms, later_ms):
        if camera not in self.cameras:
            return
        self.now_ns += later_ms * MS
        self.stamp_ns = max(1, self.stamp_ns + step_ms * MS)
        self.number += 1
        jumped = self.sync.add(
            camera, self.stamp_ns, (camera, self.stamp_ns, self.number), self.now_ns
        )
        if jumped:
            self.last_taken.clear()
            assert all(
                self.sync.pending(c) == len(self.flying[c]) for c in self.cameras if c != camera
            )

    def take(self, later_ms):
        self.now_ns += later_ms * MS
        group = self.sync.take(self.now_ns)
        if group is None:
            return
        stamps = [stamp for _, stamp, _ in group.values()]
        assert all(camera == tag for camera, (tag, _, _) in group.items()), (
            "an output would mix two cameras"
        )
        assert max(stamps) - min(stamps) <= SLOP_NS
        missing = set(self.cameras) - set(group)
        assert not missing or self.policy == "mask"
        assert all(self.sync.is_silent(camera, self.now_ns) for camera in missing)
        for camera, (_, stamp_ns, number) in group.items():
            assert stamp_ns > self.last_taken.get(camera, 0) and number not in self.taken_numbers
            self.taken_numbers.add(number)
            self.last_taken[camera] = stamp_ns
            self.flying[camera].append(number)

    def finish(self, camera, reason):
        if self.flying.get(camera):
            self.flying[camera].pop()
            self.sync.finish(camera, reason)

    def configure(self, policy):
        self.policy = policy
        self.sync.configure(SLOP_NS, policy, SILENT_NS)

    def check(self):
        for camera, account in self.sync.accounts.items():
            waiting = self.sync.pending(camera) - len(self.flying[camera])
            assert 0 <= waiting <= (1 if len(self.cameras) == 1 else MAX_PENDING)
            assert account.received == account.published + sum(
                account.dropped.values()
            ) + self.sync.pending(camera)
            assert (
                account.in_flight == len(self.flying[camera])
                and min(account.dropped.values(), default=1) > 0
            )


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
@given(events, st.integers(1, 3), st.sampled_from(["wait", "mask"]))
def test_whatever_comes_the_books_add_up_and_no_group_mixes_cameras(events, count, policy):
    watched = Watched(count, policy)
    for kind, first, second, later_ms in events:
        if kind == "image":
            watched.image(first, second, later_ms)
        elif kind == "refuse" and first in watched.cameras:
            watched.sync.refuse(first, second)
        elif kind == "take":
            watched.take(later_ms)
        elif kind == "finish":
            watched.finish(first, second)
        elif kind == "configure":
            watched.configure(first)
        elif kind == "clear":
            watched.sync.clear(first)
            watched.last_taken.clear()
        watched.check()


class Oracle:
    """What could be grouped, by brute force over the images sent: no code of the package."""

    def __init__(self):
        self.images: dict[str, list[int]] = {camera: [] for camera in CAMERAS}
        self.taken: dict[str, int] = dict.fromkeys(CAMERAS, 0)

    def possible(self, cameras) -> bool:
        """Whether each of ``cameras`` has an image, none used or passed over, all within the slop
        of each other.
        """
        waiting = [[s for s in self.images[c][-MAX_PENDING:] if s > self.taken[c]] for c in cameras]
        return any(
            all(any(last - SLOP_NS <= stamp <= last for stamp in stamps) for stamps in waiting)
            for last in itertools.chain(*waiting)
        )

    def use(self, group: dict[str, int]) -> None:
        """Take a group's images, after checking that they are images that were sent, newer than the
        last ones taken.
        """
        for camera, stamp_ns in group.items():
            assert stamp_ns in self.images[camera] and stamp_ns > self.taken[camera]
            self.taken[camera] = stamp_ns
        assert max(group.values()) - min(group.values()) <= SLOP_NS


@settings(max_examples=EXAMPLES // 4, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.integers(-8, 8), min_size=30, max_size=30),
    st.lists(st.integers(20, 60), min_size=2, max_size=2),
    st.sampled_from(["wait", "mask"]),
)
@example([0] * 30, [56, 58], "wait")  # no two of their images lie within the slop for a second
@example([0] * 30, [56, 58], "mask")
def test_cameras_of_other_rates_are_grouped_whenever_they_can_be(jitter, periods, policy):
    """The first camera at 10 ms; another one stops from 1 s to 2 s. Taken at each image, as by a
    node without load.
    """
    sync, oracle = CameraSync(CAMERAS, SLOP_NS, policy, SILENT_NS, 0), Oracle()
    sent = sorted(
        (k * period + jitter[k % 30] / 10, camera)
        for camera, period in zip(CAMERAS, (10, *periods))
        for k in range(1, 3000 // period)
        if not (camera == "right" and 1000 <= k * period < 2000)
    )
    heard_ns, put_off_ns, without_right = dict.fromkeys(CAMERAS, 0), None, 0
    for at_ms, camera in sent:
        now_ns = round(at_ms * MS)
        heard_ns[camera] = now_ns
        oracle.images[camera].append(START_NS + now_ns)
        sync.add(camera, START_NS + now_ns, START_NS + now_ns, now_ns)
        needed = [c for c in CAMERAS if policy == "wait" or now_ns - heard_ns[c] <= SILENT_NS]
        possible, group = oracle.possible(needed), sync.take(now_ns)
        if group is None:
            put_off_ns = (put_off_ns or now_ns) if possible else None
            assert put_off_ns is None or now_ns - put_off_ns < SLOP_NS, (
                "a group that could be had was not given"
            )
            continue
        put_off_ns = None
        assert possible and set(needed) <= set(group)
        oracle.use(group)
        without_right += "right" not in group
        for taken in group:
            sync.finish(taken)
    assert bool(without_right) == (policy == "mask")
    for camera, account in sync.accounts.items():
        assert account.received == len(oracle.images[camera])
        assert account.received == account.published + sum(account.dropped.values()) + sync.pending(
            camera
        )


def test_a_clock_that_steps_back_less_than_a_jump_drops_late_images_only_until_it_has_caught_up():
    sync = CameraSync(("a",), SLOP_NS, "wait", SILENT_NS, 0)
    sync.add("a", START_NS, "before", 0)
    assert sync.take(0) == {"a": "before"}
    sync.finish("a")
    for ms in (-900, -500, -100, 100):
        assert not sync.add("a", START_NS + ms * MS, ms, 0)
    assert sync.take(0) == {"a": 100} and sync.accounts["a"].dropped == {"late": 3}
    assert sync.add("a", START_NS - JUMP_BACK_NS, "after", 0)  # a jump: it starts anew
    assert sync.take(0) == {"a": "after"}


def test_one_image_from_the_far_future_does_not_stop_the_rest():
    sync = CameraSync(("a",), SLOP_NS, "wait", SILENT_NS, 0)
    for stamp_ns, name in (
        (START_NS, "now"),
        (START_NS + 10**18, "future"),
        (START_NS + 33 * MS, "next"),
    ):
        sync.add("a", stamp_ns, name, 0)
        assert sync.take(0) == {"a": name}
