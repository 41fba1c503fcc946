"""Which faults there are, what each of them must lead to, and when they come."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial

from tools.soak import hostile_faults, node_faults, sensor_faults
from tools.soak.processes import resident_mb
from tools.soak.robot import Robot, Unexpected

CYCLES = 100
# Between two faults: cameras stand still until the books do, about three diagnostics long.
PAUSE_S = 3.5


@dataclass(frozen=True)
class Fault:
    """``needs_s`` is about how long it takes, without the ``opens`` times that an engine is
    opened.
    """

    name: str
    expected: str
    inject: Callable[[Robot], sensor_faults.Seen]
    needs_s: float
    opens: int = 0


@dataclass(frozen=True)
class Outcome:
    """A row of the table. ``recovery_s`` None: there was nothing to recover. ``node_mb``: resident
    once it was over.
    """

    fault: str
    passed: bool
    expected: str
    seen: str
    recovery_s: float | None
    at_s: float
    took_s: float
    node_mb: float = 0.0


def all_faults(cycles: int = CYCLES) -> list[Fault]:
    """In the order of injection. The node's ends come first, so that its last life is a long one to
    weigh.

    Then the attacks: a flood fills every queue to its bound, which raises the memory once, before
    it is weighed.
    """
    back = "comes back by itself"
    return [
        Fault("node: SIGINT, restart", "exit status 0 within 5 s", node_faults.node_sigint, 4, 1),
        Fault("node: SIGTERM, restart", "exit status 0 within 5 s", node_faults.node_sigterm, 4, 1),
        Fault(
            "node: kill -9, restart",
            "the next one, 4 s later, starts unhindered",
            node_faults.node_kill,
            8,
            1,
        ),
        Fault(
            "crash pictures", "refused by reason; never 'error'", hostile_faults.crash_pictures, 6
        ),
        Fault("slow pictures", "refused by reason; never 'error'", hostile_faults.slow_pictures, 6),
        Fault("floods", "refused by reason; frames afterwards", hostile_faults.floods, 8),
        Fault(
            "hostile parameters",
            "each refused in a short text",
            hostile_faults.hostile_parameters,
            4,
        ),
        Fault(
            "camera killed, sync.policy mask",
            f"ERROR; the others go on without it; {back}",
            sensor_faults.camera_killed_mask,
            6,
        ),
        Fault(
            "camera killed, sync.policy wait",
            f"ERROR; no frame; {back}",
            sensor_faults.camera_killed_wait,
            6,
        ),
        Fault(
            "arm killed, poses.policy mask",
            f"WARN; its token masked; {back}",
            sensor_faults.pose_killed_mask,
            6,
        ),
        Fault(
            "arm killed, poses.policy require",
            f"WARN; no frame, pose_missing; {back}",
            sensor_faults.pose_killed_require,
            6,
        ),
        Fault("NaN poses", f"refused.nan; its token masked; {back}", sensor_faults.nan_poses, 3),
        Fault("time 100 s back", "frames go on, hardly any late", sensor_faults.time_back, 3),
        Fault("time 100 s forward", "frames go on, hardly any late", sensor_faults.time_forward, 3),
        Fault("resolution changes", "a new layout each time", sensor_faults.resolution_change, 2),
        Fault(
            "1 in 50 images damaged",
            "refused by reason; never 'error'",
            sensor_faults.damaged_images,
            8,
        ),
        Fault(
            "a reader that never reads",
            "frames at half their rate and more",
            node_faults.stopped_reader,
            8,
        ),
        Fault(
            "disk full in embed",
            "exit status 1, a clear line; then whole",
            node_faults.disk_full,
            25,
            3,
        ),
        Fault(
            f"lifecycle, {cycles} cycles",
            "each with a last account, 0 pending",
            partial(node_faults.lifecycle_cycles, cycles),
            0.25 * cycles,
            1,
        ),
        Fault(
            "the engine fails",
            "inactive, ERROR; activate opens it anew",
            node_faults.engine_error,
            3,
            1,
        ),
    ]


def fitting(faults: Iterable[Fault], seconds: float, open_s: float) -> list[Fault]:
    """Those of ``faults`` that fit into ``seconds``, preferred in the order given."""
    chosen = []
    for fault in faults:
        needs_s = fault.needs_s + PAUSE_S + fault.opens * open_s
        if needs_s <= seconds:
            chosen.append(fault)
            seconds -= needs_s
    return chosen


def run(
    robot: Robot, faults: list[Fault], seconds: float, say: Callable[[str], None]
) -> list[Outcome]:
    """Inject ``faults`` one after the other, spread evenly over ``seconds``, and go on under load
    until these end.
    """
    begin_s = time.monotonic()
    robot.checkpoint()
    outcomes = []
    for number, fault in enumerate(faults):
        due_s = begin_s + seconds * (number + 0.5) / (len(faults) + 0.5)
        if (wait_s := due_s - time.monotonic()) > 0:
            time.sleep(wait_s)
            robot.checkpoint()
        one = _inject(robot, fault, begin_s)
        robot.make_whole()
        robot.checkpoint()
        outcomes.append(replace(one, node_mb=resident_mb(robot.node.pid)))
        say(
            f"{one.at_s:6.1f} s  {'pass' if one.passed else 'FAIL'}  {one.fault}: {one.seen}; then "
            f"{outcomes[-1].node_mb:.0f} MB"
        )
    time.sleep(max(0.0, begin_s + seconds - time.monotonic()))
    robot.checkpoint()
    return outcomes


def _inject(robot: Robot, fault: Fault, begin_s: float) -> Outcome:
    at_s = time.monotonic() - begin_s
    try:
        (seen, recovery_s), passed = fault.inject(robot), True
    except Unexpected as error:
        seen, recovery_s, passed = str(error), None, False
    if robot.node.returncode is not None:
        seen, passed = f"{seen}; the node is gone: {robot.node.tail(5)}", False
    return Outcome(
        fault.name,
        passed,
        fault.expected,
        seen,
        recovery_s,
        at_s,
        time.monotonic() - begin_s - at_s,
    )


def rows(outcomes: list[Outcome]) -> list[dict]:
    """For a JSON file."""
    return [
        {
            key: round(value, 3) if isinstance(value, float) else value
            for key, value in asdict(one).items()
        }
        for one in outcomes
    ]
