"""Nothing is reported to anybody: tools and engines run with every network call watched, in a home
of their own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.text_models import clip_folder
from vit_perception.files.telemetry import SWITCHES

# Put before the C library: notes what leaves the machine or asks for an address. glibc's own
# resolver is behind getaddrinfo, and its calls cannot be seen from here. Fast DDS of Jazzy calls
# sendto, that of Kilted sendmsg.
WATCHER = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
static void note(const char *call, const char *what, int family) {
    char line[300];
    int length = snprintf(line, sizeof line, "%s %s family %d\n", call, what ? what : "", family);
    int file = open(getenv("WATCHED"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file >= 0) { if (write(file, line, length) < 0) abort(); close(file); }
}
static void note_address(const char *call, const struct sockaddr *to) {
    char text[INET6_ADDRSTRLEN] = "";
    if (to->sa_family == AF_INET) inet_ntop(AF_INET, &((const struct sockaddr_in *)to)->sin_addr, text, sizeof text);
    else inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)to)->sin6_addr, text, sizeof text);
    note(call, text, to->sa_family);
}
static int leaves(const struct sockaddr *to) { return to && (to->sa_family == AF_INET || to->sa_family == AF_INET6); }
int connect(int fd, const struct sockaddr *to, socklen_t size) {
    if (leaves(to)) note_address("connect", to);
    return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect"))(fd, to, size);
}
ssize_t sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *to, socklen_t size) {
    if (leaves(to)) note_address("sendto", to);
    return ((ssize_t (*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t))
            dlsym(RTLD_NEXT, "sendto"))(fd, data, n, flags, to, size);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (leaves(message->msg_name)) note_address("sendmsg", message->msg_name);
    return ((ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg"))(fd, message, flags);
}
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    note("getaddrinfo", name, 0);
    return ((int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))
            dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, result);
}
"""  # noqa: E501
ENGINES = """
import sys
from pathlib import Path
import numpy as np
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.engine import EngineSpec
from vit_perception.engines.openvino.int8 import int8_model
from vit_perception.engines.onnxruntime_engine import OnnxruntimeEngine
from vit_perception.engines.openvino.engine import OpenvinoEngine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.reference import graph_of

images = np.random.default_rng(0).integers(0, 256, (4, 3, 56, 56), np.uint8)
source = EngineSource(graph_of(load_checkpoint(sys.argv[1])), 1, calibration=lambda: images)
for engine in (OnnxruntimeEngine(), OpenvinoEngine()):
    spec = EngineSpec(1, (56, 56), "float32")
    engine.open(source, spec)
    engine.infer(images[:1])
    engine.close()
print("int8:", int8_model(source, spec).path)
"""
TOOLS = """
import sys
from pathlib import Path
from vit_perception.viewing.rerun_log import RerunLog
with RerunLog(Path(sys.argv[1]) / "x.rrd", "x") as log:
    log._recording.log("a", log._rerun.Scalars(1.0))
print("rrd:", (Path(sys.argv[1]) / "x.rrd").stat().st_size > 0)
from vit_perception.cli.main import main
main(["doctor"])
"""
ZERO_SHOT = """
import sys
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import CameraSettings, EncoderSettings, ModelSettings, ZeroShotSettings
from vit_perception.pipeline.zero_shot_heads import zero_shot_heads
settings = EncoderSettings((CameraSettings("a", "/a"),), model=ModelSettings(sys.argv[1]),
                           zero_shot=ZeroShotSettings(("a cup", "a can")))
print("labels:", zero_shot_heads(settings, load_checkpoint(sys.argv[1]))["a"].labels)
"""  # noqa: E501


DDS = r"send(to|msg) (127\.\d+\.\d+\.\d+|239\.255\.0\.1) family 2"


@pytest.fixture(scope="module")
def watcher(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: network calls cannot be watched")
    folder = tmp_path_factory.mktemp("watcher")
    (folder / "watcher.c").write_text(WATCHER)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "watcher.so", folder / "watcher.c", "-ldl"],
        check=True,
    )
    return folder / "watcher.so"


@pytest.fixture
def watched(watcher, tmp_path):
    """``watched(program, *arguments)``: what it printed, the network calls it made, the files it
    left in its home.
    """

    def run(program, *arguments):
        home, calls = tmp_path / "home", tmp_path / "calls"
        home.mkdir()
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in SWITCHES and not name.startswith(("XDG_", "PYTEST"))
        }
        environment |= {
            "HOME": str(home),
            "LD_PRELOAD": str(watcher),
            "WATCHED": str(calls),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env=environment,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        left = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
        return done.stdout, calls.read_text().splitlines() if calls.exists() else [], left

    return run


def test_the_watcher_sees_connections_and_lookups(watched):
    program = (
        "import socket\nopened = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(('localhost', opened.getsockname()[1]))\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))\n"
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('::1', 9))"
    )
    _, calls, _ = watched(program)
    assert "getaddrinfo localhost family 0" in calls
    assert "sendto 127.0.0.1 family 2" in calls and "sendmsg ::1 family 10" in calls
    assert {call.split()[0] for call in calls} == {"getaddrinfo", "connect", "sendto", "sendmsg"}


def test_engines_and_quantisation_reach_for_no_network_and_leave_no_ids(watched, tiny_checkpoint):
    for package in ("onnxruntime", "nncf", "openvino"):
        pytest.importorskip(package)
    said, calls, left = watched(ENGINES, tiny_checkpoint)
    assert "int8:" in said and calls == []
    assert left and {Path(name).parts[:3] for name in left} == {
        (".cache", "vit_perception", "engines")
    }


def test_doctor_and_a_recording_for_rerun_reach_for_no_network(watched, tmp_path):
    pytest.importorskip("rerun")
    said, calls, left = watched(TOOLS, tmp_path)
    assert "rrd: True" in said and "openvino" in said and left == set()
    # Doctor looks at the ROS graph: DDS asks on this machine's loopback, and by multicast, which
    # ROS_AUTOMATIC_DISCOVERY_RANGE keeps there.
    assert [call for call in calls if not re.fullmatch(DDS, call)] == []


def test_texts_by_transformers_reach_for_no_network(watched, tmp_path):
    clip_folder(tmp_path / "clip")
    said, calls, left = watched(ZERO_SHOT, tmp_path / "clip")
    assert "labels: ('a cup', 'a can')" in said and calls == []
    assert {Path(name).parts[:3] for name in left} == {(".cache", "vit_perception", "zero_shot")}
