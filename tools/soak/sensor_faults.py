"""What sensors do to a node. Each function injects one fault, checks what it leads to, and puts the
sensor right again.

They return (what was seen, recovery in s): from the first good message to the first frame with all
sources. Raise Unexpected.
"""

import time

from tools.soak.observer import JUMP_NS, Frame
from tools.soak.robot import Robot, Unexpected

Seen = tuple[str, float | None]
# How many frames are looked at where some must come, and for how long nothing may come where none
# must.
WATCHED_FRAMES, SILENCE_S = 8, 2.0
MOST_LATE = 5
# What a truncated, a garbled and a mis-stepped image can be refused for.
DAMAGE_REASONS = ("short_data", "layout", "decode", "size")


def _killed(robot: Robot, name: str) -> None:
    robot.sensors[name].child.kill()


def _only_without(robot: Robot, name: str) -> str:
    """What was seen of the next frames: none of them has ``name``, and one at least has all the
    others.

    Not each: on a computer that is too slow for the arms, one of theirs may be masked at any time.
    """
    first = len(robot.observer.frames)
    frames = robot.next_frames(WATCHED_FRAMES)
    if other := [f for f in frames if name in f.valid]:
        raise Unexpected(f"{len(other)} of {len(frames)} frames hold {sorted(other[0].valid)}")
    robot.until(
        lambda: any(f.valid == robot.all - {name} for f in robot.observer.frames[first:]),
        f"a frame with everything but {name}",
    )
    return f"{len(frames)} frames without it"


def _none(robot: Robot) -> str:
    if frames := robot.frames_for(SILENCE_S):
        raise Unexpected(f"{len(frames)} frames came")
    return f"no frame in {SILENCE_S:g} s"


def camera_killed_mask(robot: Robot) -> Seen:
    name = robot.cameras[1]
    _killed(robot, name)
    robot.until(lambda: robot.observer.level(f"camera {name}") == 2, "ERROR of the camera")
    seen = _only_without(robot, name)
    return f"ERROR, {seen}", robot.restart(name)


def camera_killed_wait(robot: Robot) -> Seen:
    name = robot.cameras[2]
    robot.set("sync.policy", "wait")
    _killed(robot, name)
    robot.until(lambda: robot.observer.level(f"camera {name}") == 2, "ERROR of the camera")
    seen = _none(robot)
    recovery_s = robot.restart(name)
    robot.set("sync.policy", robot.parameters["sync.policy"])
    return f"ERROR, {seen}", recovery_s


def pose_killed_mask(robot: Robot) -> Seen:
    name = robot.arms[0]
    _killed(robot, name)
    robot.until(lambda: robot.observer.level(f"arm {name}") == 1, "WARN of the arm")
    seen = _only_without(robot, name)
    return f"WARN, {seen}", robot.restart(name)


def pose_killed_require(robot: Robot) -> Seen:
    name, before = robot.arms[1], robot.observer.books.dropped("pose_missing")
    robot.set("poses.policy", "require")
    _killed(robot, name)
    robot.until(lambda: robot.observer.level(f"arm {name}") == 1, "WARN of the arm")
    seen = _none(robot)
    dropped = robot.until(
        lambda: robot.observer.books.dropped("pose_missing") - before, "images dropped for it"
    )
    recovery_s = robot.restart(name)
    robot.set("poses.policy", robot.parameters["poses.policy"])
    return f"WARN, {seen}, pose_missing +{dropped}", recovery_s


def nan_poses(robot: Robot) -> Seen:
    name = robot.arms[0]

    def refused() -> int:
        return int(robot.observer.value(f"arm {name}", "refused.nan") or 0)

    before, board = refused(), robot.sensors[name].board
    board["not_a_number"] = 1
    robot.until(lambda: refused() > before, "refused.nan")
    seen = _only_without(robot, name)
    board["not_a_number"] = 0
    recovery_s = robot.whole_after(time.time_ns())
    return f"refused.nan +{refused() - before}, {seen}", recovery_s


def _jump(robot: Robot, by_ns: int) -> Seen:
    usual = _whole_share(robot.next_frames(WATCHED_FRAMES), robot)
    before = robot.observer.books.dropped("time_jump"), robot.observer.books.dropped("late")
    robot.order("offset_ns", by_ns)
    begin_ns = time.time_ns()
    recovery_s = robot.whole_after(begin_ns + 50_000_000) + 0.05
    # A computer that is too slow for the arms masks some of their tokens at any time: compared with
    # before the jump.
    share = _whole_share(robot.next_frames(WATCHED_FRAMES), robot)
    if share < usual / 2:
        raise Unexpected(f"{share:.0%} of the frames have all sources; {usual:.0%} before the jump")
    jumped = robot.observer.books.dropped("time_jump") - before[0]
    late = robot.observer.books.dropped("late") - before[1]
    if late > MOST_LATE:
        raise Unexpected(f"{late} images were dropped as late")
    return f"{share:.0%} of the frames whole, time_jump +{jumped}, late +{late}", recovery_s


def _whole_share(frames: list[Frame], robot: Robot) -> float:
    """How many of ``frames`` have all sources, 0 to 1."""
    return sum(f.valid == robot.all for f in frames) / len(frames)


def time_back(robot: Robot) -> Seen:
    return _jump(robot, -JUMP_NS)


def time_forward(robot: Robot) -> Seen:
    return _jump(robot, JUMP_NS)


def resolution_change(robot: Robot) -> Seen:
    name = robot.cameras[0]
    seen = []
    for half, size_px in ((1, (240, 320)), (0, (480, 640))):
        robot.sensors[name].board["half_size"] = half
        begin_ns = time.time_ns()

        def announced(size_px=size_px):
            cameras = {c.name: c.source_size_px for c in robot.observer.layout.cameras}
            return cameras[name] == size_px

        robot.until(announced, f"a layout with {size_px}")
        seen.append("x".join(map(str, reversed(size_px))))
        recovery_s = robot.whole_after(begin_ns)
    return f"layouts with {', '.join(seen)}", recovery_s


def damaged_images(robot: Robot) -> Seen:
    def refused() -> int:
        return sum(robot.observer.books.dropped(reason) for reason in DAMAGE_REASONS)

    before, crashed = refused(), robot.observer.books.dropped("error")
    sent_before = sum(robot.sensors[c].board["damaged"] for c in robot.cameras)
    robot.order("damage_every", 50, "camera")
    robot.until(lambda: refused() - before >= 3, "three refused images")
    robot.next_frames(WATCHED_FRAMES)
    robot.order("damage_every", 0, "camera")
    begin_ns = time.time_ns()
    recovery_s = robot.whole_after(begin_ns)
    asked_ns = time.time_ns()
    robot.until(lambda: robot.observer.status_ns > asked_ns, "diagnostics")
    sent = sum(robot.sensors[c].board["damaged"] for c in robot.cameras) - sent_before
    if robot.observer.books.dropped("error") > crashed:
        raise Unexpected("images were dropped as error: something raised what it should not")
    if refused() - before > sent:
        raise Unexpected(f"{refused() - before} refused of {sent} that were damaged")
    return (
        f"{sent} sent, {refused() - before} refused, the others passed over undecoded",
        recovery_s,
    )
