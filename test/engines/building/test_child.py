"""Work in a process of its own: what it says arrives, how it ends is told, and it never outlives
who waits for it.
"""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.log_lines import LogLines
from test.waiting import PROGRAM_S, wait_until
from vit_perception.engines.building.child import _listen, call_in_child
from vit_perception.engines.engine import EngineError
from vit_perception.files.errors import InvalidValue
from vit_perception.files.log import SILENT, SilentLog


def call(function, *arguments, log=SILENT):
    return call_in_child(function, *arguments, doing="testing", log=log)


def lives(pid):
    """Whether the process is there, and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


# -- what children do ------------------------------------------------------------------------------


def tell(first, second, log):
    log.info(
        f"{first} {second} {os.getpid()} torch:{'torch' in sys.modules} "
        f"rclpy:{'rclpy' in sys.modules}"
    )
    log.warning("careful")
    log.progress("half of it", 0.5, "half")
    print("printed, not told")


def take(count, log):
    held = bytearray(count)
    held[::4096] = b"1" * len(held[::4096])


def tell_score(log):
    log.info(Path("/proc/self/oom_score_adj").read_text().strip())


def fail(kind, log):
    raise {
        "engine": EngineError("no engine"),
        "value": InvalidValue("no value"),
        "disk": OSError(28, "No space", "/x"),
        "mapping": OSError(12, "Cannot allocate memory"),
        "memory": MemoryError("too much"),
        "torch": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        "defect": KeyError("a name"),
    }[kind]


def die(how, log):
    log.info("begun")
    if how == "bad_alloc":
        print("terminate called after throwing an instance of 'std::bad_alloc'", flush=True)
        os.abort()
    if isinstance(how, int):
        print("the last words", flush=True)
        os._exit(how)
    os.kill(os.getpid(), getattr(signal, how))


def stay(log):
    log.info(str(os.getpid()))
    time.sleep(PROGRAM_S)


# -- tests -----------------------------------------------------------------------------------------


def test_what_it_says_reaches_the_thread_that_waits_and_it_imports_no_torch():
    class Watched(LogLines):
        def append(self, text):
            super().append(text)
            threads.add(threading.current_thread())

    heard, threads = Watched(), set()
    thread = threading.Thread(target=lambda: call(tell, "a", 2, log=heard))
    thread.start()
    thread.join(PROGRAM_S)
    text, warning, half = heard
    words = text.split()
    assert (
        words[:2] == ["a", "2"]
        and int(words[2]) != os.getpid()
        and words[3:] == ["torch:False", "rclpy:False"]
    )
    assert heard.warnings == [warning] == ["careful"] and half == "half"
    assert heard.steps == [("half of it", 0.5)] and threads == {thread}


def test_the_most_memory_that_it_took_is_its_own():
    mine = bytearray(300 << 20)  # of this process, which the child's figure must not have in it
    mine[::4096] = b"1" * len(mine[::4096])
    small, large = call(take, 1 << 20), call(take, 200 << 20)
    assert 5 << 20 < small < 200 << 20 and 190 << 20 < large - small < 210 << 20


@pytest.mark.parametrize(
    "kind, expected, words",
    [
        ("engine", EngineError, "^no engine$"),
        ("value", InvalidValue, "^no value$"),
        ("disk", OSError, "No space: /x"),
        ("memory", EngineError, r"memory runs out \(too much\): close what else"),
        ("torch", EngineError, "memory runs out"),
        ("mapping", EngineError, "memory runs out .*Cannot allocate memory"),
        ("defect", RuntimeError, "KeyError: 'a name'"),
    ],
)
def test_its_errors_are_raised_here(kind, expected, words):
    with pytest.raises(expected, match=words) as raised:
        call(fail, kind)
    if kind == "disk":
        assert raised.value.errno == 28
    if kind == "defect":
        assert type(raised.value) is RuntimeError and "in fail" in str(raised.value.__cause__)


def test_one_that_is_killed_is_told_with_signal_memory_and_cure():
    """As Linux does where memory runs out."""
    with pytest.raises(
        EngineError,
        match=r"^testing was ended by SIGKILL, as Linux does where memory runs out; it had "
        r"taken up to 0\.\d\d GiB by its last sign of life; \d.* GiB are free .*: close "
        r".*engine.file",
    ):
        call(die, "SIGKILL")


@pytest.mark.parametrize(
    "how, words",
    [
        ("SIGSEGV", "was ended by SIGSEGV"),
        ("SIGTERM", "was ended by SIGTERM"),
        ("bad_alloc", "was ended by SIGABRT.*std::bad_alloc.*where memory ran out: close"),
        (3, "failed: its process ended with status 3.*the last words"),
    ],
)
def test_one_that_crashes_is_told_with_its_last_words(how, words):
    with pytest.raises(EngineError, match=words):
        call(die, how)


def test_one_that_is_killed_while_it_speaks_is_heard_up_to_there():
    heard = LogLines()
    said = b'["info", "whole", 7]\n["progress", ["a", 0.5, ""], 9]\n["info", "half of wh'
    assert _listen(io.BytesIO(said), heard) == (None, 9)
    assert heard == ["whole"] and heard.steps == [("a", 0.5)]


def test_where_memory_runs_out_it_goes_before_the_robot():
    heard = LogLines()
    call(tell_score, log=heard)
    assert heard == ["1000"]


def test_where_no_process_can_be_started_it_is_not_the_cache_that_is_blamed(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(
        EngineError,
        match="^testing: no process can be started for it: .*No such file.*'/no/python'",
    ):
        call(tell, 1, 2)


def test_a_program_that_cannot_be_started_again_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(EngineError, match="no Python that can be started again"):
        call(tell, 1, 2)


def test_a_listener_that_raises_ends_it_at_once():
    """So a node that is shut down does not wait for the next percent of a build."""
    heard = []

    class Stop(SilentLog):
        def info(self, text):
            heard.append(int(text))
            raise ValueError("shut down")

    with pytest.raises(ValueError, match="shut down"):
        call(stay, log=Stop())
    assert not lives(heard[0])


PARENT = """
import sys
from test.engines.building.test_child import call, stay
from vit_perception.files.log import PrintedLog
call(stay, log=PrintedLog())
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_parent(sent):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    child = int(parent.stdout.readline())
    assert lives(child) and os.getpgid(child) != os.getpgid(
        parent.pid
    )  # a terminal's Ctrl-C is not for it
    parent.send_signal(sent)
    parent.communicate(timeout=PROGRAM_S)
    assert parent.returncode == -sent
    wait_until(lambda: not lives(child), "the child's end")
