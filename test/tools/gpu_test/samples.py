"""Steps for test_runner: each does one of the things that a step may come to."""

import os
import subprocess
import sys
import time

from tools.gpu_test.note import LeftOut


def passes(machine, note, argument=""):
    note.check(True, "it is well", argument)


def misses(machine, note):
    note.check(True, "one is well")
    note.check(False, "the other is not", "what was seen")


def raises(machine, note):
    note.figure("seen before", 7)
    raise ZeroDivisionError("of a step")


def dies(machine, note):
    note.figure("seen before", 7)
    os._exit(9)


def hangs(machine, note):
    """Starts a process that hangs, too, and writes down which."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
    note.figure("child", child.pid)
    time.sleep(900)


def nothing(machine, note):
    pass


def left_out(machine, note):
    raise LeftOut("it is not for this machine")
