"""All processes of the robot, and what can be asked of them."""

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from tools.soak.board import ORDERS, Board
from tools.soak.observer import Frame, Observer
from tools.soak.sensors import CAMERA_HZ, tick_of
from vit_perception.cli.processes import Child

ROOT = Path(__file__).resolve().parents[2]
NODE = "soak_encoder"
# They only end a wait for what never comes: computers differ in speed by far.
ANSWER_S, COME_BACK_S = 120.0, 120.0


class Unexpected(AssertionError):
    """A fault had another outcome than the one that was promised."""


class Sensor:
    """A camera, an arm, or joints: its process and its board."""

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        topic: str,
        variant: str,
        number: int,
        slower: int,
        board: Path,
    ):
        self.kind, self.name, self._folder, self.lives = kind, name, board.parent, 0
        self.board = Board(board)
        self._arguments = [kind, topic, variant, str(number), str(slower), str(board)]
        self.child: Child | None = None

    def start(self) -> None:
        self.lives += 1
        self.child = start_module(
            "tools.soak.sensors",
            *self._arguments,
            log=self._folder / f"{self.name}{self.lives}.log",
        )


def start_module(name: str, *arguments: str, log: Path) -> Child:
    """``python -m name arguments``, from wherever the harness runs."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return Child.module(name, *arguments, log=log, environment={"PYTHONPATH": path})


class Robot:
    """Three cameras, two arms, their grippers and the node. ``parameters`` are the node's own. The
    sensors' rates are divided by ``slower``.
    """

    def __init__(self, parameters: dict[str, Any], folder: Path, slower: int = 1):
        self.parameters, self.folder = parameters, folder
        self._camera_hz = CAMERA_HZ // slower
        names = {"camera": parameters["camera_names"], "arm": parameters["pose_names"]}
        self.sensors: dict[str, Sensor] = {}

        def add(kind: str, name: str, number: int, group: str, variant: str) -> None:
            self.sensors[name] = Sensor(
                kind=kind,
                name=name,
                topic=parameters[f"{group}.{name}.topic"],
                variant=variant,
                number=number,
                slower=slower,
                board=folder / f"{name}.board",
            )

        for number, name in enumerate(names["camera"]):
            transport = parameters.get(f"cameras.{name}.transport", "raw")
            add("camera", name, number, "cameras", transport)
        for number, name in enumerate(names["arm"]):
            add("arm", name, number, "poses", parameters[f"poses.{name}.frame_id"])
        for number, name in enumerate(parameters.get("state_names", [])):
            add("joints", name, number, "states", ",".join(parameters[f"states.{name}.joints"]))
        self.cameras, self.arms = names["camera"], names["arm"]
        self.all = frozenset(self.sensors)
        self.observer = Observer(NODE, parameters["sync.slop_s"])
        self._clients = {
            kind: self.observer.node.create_client(kind, f"/{NODE}/{name}")
            for kind, name in (
                (ChangeState, "change_state"),
                (GetState, "get_state"),
                (SetParameters, "set_parameters"),
            )
        }
        self._params_file = folder / "params.yaml"
        self._params_file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        self.node: Child | None = None
        self._lives = 0
        self.epoch = 0
        self._baseline: dict[str, tuple[tuple[int, int], int, int]] = {}
        self.sent_measured, self.lost = Counter(), Counter()

    # -- waiting -----------------------------------------------------------------------------------

    def until(self, done: Callable[[], Any], what: str, timeout_s: float = ANSWER_S) -> Any:
        """What ``done`` gives once it is something true. Raises Unexpected after ``timeout_s``."""
        deadline_s = time.monotonic() + timeout_s
        while not (result := done()):
            if time.monotonic() > deadline_s:
                raise Unexpected(f"{what} did not come within {timeout_s:g} s")
            time.sleep(0.02)
        return result

    def frames_for(self, seconds: float) -> list[Frame]:
        """The frames of the next ``seconds`` whose images were taken in that time."""
        begin_ns, first = time.time_ns(), len(self.observer.frames)
        time.sleep(seconds)
        return [f for f in self.observer.frames[first:] if f.taken_ns >= begin_ns]

    def next_frames(self, count: int) -> list[Frame]:
        """The next ``count`` frames whose images are taken from now on, however long they take to
        come.
        """
        begin_ns, first = time.time_ns(), len(self.observer.frames)

        def found():
            return [f for f in self.observer.frames[first:] if f.taken_ns >= begin_ns]

        return self.until(lambda: len(found()) >= count and found()[:count], f"{count} frames")

    def whole_after(self, wall_ns: int, timeout_s: float = COME_BACK_S) -> float:
        """Seconds from ``wall_ns`` to the first frame with every camera and arm that was taken
        after it.
        """

        def found():
            return next(
                (
                    f
                    for f in self.observer.frames[-300:]
                    if f.taken_ns >= wall_ns and f.valid == self.all
                ),
                None,
            )

        try:
            frame = self.until(found, "a frame of all cameras and arms", timeout_s)
        except Unexpected as error:
            since = [f for f in self.observer.frames[-300:] if f.taken_ns >= wall_ns]
            lacking = sorted(self.all - since[-1].valid) if since else "everything: none came"
            levels = {
                name: text
                for name, (level, text, _) in self.observer.statuses.items()
                if level != b"\0"
            }
            raise Unexpected(
                f"{error}; the last one lacks {lacking}; diagnostics: {levels}"
            ) from None
        return (frame.wall_ns - wall_ns) / 1e9

    # -- sensors -----------------------------------------------------------------------------------

    def order(self, name: str, value: int, kind: str = "") -> None:
        """Give every sensor (of ``kind``) that order of its board."""
        for sensor in self.sensors.values():
            if kind in ("", sensor.kind):
                sensor.board[name] = value

    def restart(self, name: str) -> float:
        """Start a sensor that was killed; seconds from its first message to the first whole
        frame.
        """
        sensor = self.sensors[name]
        sensor.board["begun_ns"] = 0
        sensor.start()
        begun_ns = self.until(lambda: sensor.board["begun_ns"], f"the first message of {name}")
        return self.whole_after(begun_ns)

    # -- the node ----------------------------------------------------------------------------------

    def start_node(self) -> None:
        self._lives += 1
        self.epoch += 1
        self.node = start_module(
            "tools.soak.node",
            "--ros-args",
            "--params-file",
            str(self._params_file),
            "-r",
            f"__node:={NODE}",
            log=self.folder / f"node{self._lives}.log",
        )
        self.observer.node_pid = self.node.pid

    def end_node(self, sent: int, within_s: float) -> tuple[int, float]:
        """Exit status after the signal ``sent``, and the seconds that it took."""
        begin_s = time.monotonic()
        os.kill(self.node.pid, sent)
        status = self.until(
            lambda: self.node.returncode is not None and (self.node.returncode,),
            "the end of the node",
            within_s,
        )[0]
        ended_s = time.monotonic() - begin_s
        self.node.stop()
        time.sleep(0.2)  # what it sent last may still be on its way
        self.observer.books.close()
        return status, ended_s

    def call(self, kind: type, request: Any) -> Any:
        """The node's answer. Raises Unexpected where none comes."""
        client = self._clients[kind]
        if not client.wait_for_service(ANSWER_S):
            raise Unexpected(f"the node has no service {client.srv_name}")
        future = client.call_async(request)
        return self.until(
            lambda: future.done() and future.result(), f"an answer of {client.srv_name}"
        )

    def set(self, name: str, value: Any) -> None:
        """Change a parameter while the node is active."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        result = self.call(SetParameters, request).results[0]
        if not result.successful:
            raise Unexpected(f"{name} could not be set to {value}: {result.reason}")

    def state(self) -> int:
        return self.call(GetState, GetState.Request()).current_state.id

    def transit(self, transition: int) -> None:
        """Through the lifecycle service. Raises Unexpected where it fails."""
        asked_ns = time.time_ns()
        if not self.call(
            ChangeState, ChangeState.Request(transition=Transition(id=transition))
        ).success:
            raise Unexpected(f"the lifecycle transition {transition} failed")
        if transition == Transition.TRANSITION_DEACTIVATE:
            self.until(
                lambda: self.observer.status_ns > asked_ns and not self.is_running(),
                "its last account",
            )
            self.observer.books.close()
        elif transition == Transition.TRANSITION_ACTIVATE:
            self.epoch += 1

    def is_running(self) -> bool:
        """Whether the engine's status is that of an active node."""
        return self.observer.statuses.get("engine", (b"", ""))[1] == "running"

    # -- between two faults ------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Stop the cameras until the books stand still, so that sent and received can be compared
        to the frame.
        """
        paused_ns = time.time_ns()
        self.order("paused", tick_of(paused_ns, self._camera_hz) + 3, "camera")
        seen: list[tuple[int, dict[str, int]]] = [(0, {})]

        def still():
            status_ns, books = self.observer.status_ns, self.observer.books.current
            received = {camera: books[camera]["received"] for camera in books}
            if status_ns > max(paused_ns + 300_000_000, seen[-1][0]):
                seen.append((status_ns, received))
            return len(seen) > 2 and seen[-1][1] == seen[-2][1]

        self.until(still, "books that stand still")
        received, sent = seen[-1][1], {c: self.sensors[c].board["sent"] for c in self.cameras}
        for camera in self.cameras:
            # What a publisher sends before it and the node have found each other is no loss.
            lives = self.epoch, self.sensors[camera].lives
            before = self._baseline.get(camera)
            if before and before[0] == lives:
                self.sent_measured[camera] += sent[camera] - before[1]
                self.lost[camera] += sent[camera] - before[1] - received[camera] + before[2]
            self._baseline[camera] = (lives, sent[camera], received[camera])
        self.order("paused", 0, "camera")
        self.whole_after(time.time_ns())

    def make_whole(self) -> None:
        """After a fault, however it ended: every process runs, as at the beginning."""
        for name in ORDERS:
            self.order(name, 0)
        for sensor in self.sensors.values():
            if sensor.child.returncode is not None:
                sensor.start()
        if self.node.returncode is not None:
            self.observer.books.close()
            self.start_node()
            self.whole_after(time.time_ns())
        for name in ("sync.policy", "poses.policy"):
            self.set(name, self.parameters[name])
        if self.state() == State.PRIMARY_STATE_UNCONFIGURED:
            self.transit(Transition.TRANSITION_CONFIGURE)
        if self.state() == State.PRIMARY_STATE_INACTIVE:
            self.observer.books.close()
            self.transit(Transition.TRANSITION_ACTIVATE)
        self.whole_after(time.time_ns())

    def close(self) -> None:
        """End everything that was started."""
        for child in [self.node, *(s.child for s in self.sensors.values())]:
            if child is not None:
                child.kill()
        self.observer.close()
