"""The thin link itself, in the kernel: rate, delay, loss, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.waiting import wait_until
from tools.thin_link.link import ADDRESSES, PROGRAMS, Link, check_rights, two_computers
from tools.thin_link.relay import is_multicast
from vit_perception.files.errors import OperationFailed

try:
    check_rights()
    MISSING = ""
except OperationFailed as error:
    MISSING = str(error)
needs_namespaces = pytest.mark.skipif(bool(MISSING), reason=MISSING)

ECHO = """
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("10.99.0.2", 5000))
    print("listening", flush=True)
    while True:
        data, peer = s.recvfrom(9000)
        s.sendto(data, peer)
"""
# Numbered datagrams of 1,000 bytes, one after another: how many came back, and the shortest time.
ASK = """
    import socket, time
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.5)
    times = []
    for k in range(60):
        begun = time.monotonic()
        s.sendto(bytes(1000), ("10.99.0.2", 5000))
        try:
            s.recvfrom(9000)
            times.append(time.monotonic() - begun)
        except TimeoutError:
            pass
    print(len(times), min(times))
"""


def program(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


@needs_namespaces
def test_a_relayed_link_delays_each_packet_and_loses_some():
    with two_computers(Link(10.0, delay_ms=15.0, loss_percent=10.0)) as (robot, desk):
        echo = desk.start(program(ECHO), dict(os.environ))
        assert echo.stdout.readline() == "listening\n"
        back, shortest_s = robot.run(*program(ASK)).split()
        assert ADDRESSES[0] in robot.run("ip", "address")
    # Of 60 round trips about 49 come back. Packets of the kernel's own are among those counted.
    assert 30 <= int(back) < 60
    assert float(shortest_s) >= 0.030


@needs_namespaces
def test_the_link_takes_no_more_than_its_rate():
    """200 kB at 2 Mbit/s take at least 0.7 s, burst and queue aside; without a limit 0.01 s."""
    with two_computers(Link(2.0)) as (robot, desk):
        receive = desk.start(
            program("""
                import socket
                server = socket.create_server(("10.99.0.2", 5000))
                print("listening", flush=True)
                peer, _ = server.accept()
                while peer.recv(65536):
                    pass
                peer.sendall(b"all")
                peer.close()
            """),
            dict(os.environ),
        )
        assert receive.stdout.readline() == "listening\n"
        took_s = robot.run(
            *program("""
                import socket, time
                s = socket.create_connection(("10.99.0.2", 5000))
                begun = time.monotonic()
                s.sendall(bytes(200_000))
                s.shutdown(socket.SHUT_WR)
                s.recv(10)
                print(time.monotonic() - begun)
            """)
        )
        assert robot.sent_bytes() > 200_000
    assert float(took_s) > 0.6


@needs_namespaces
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_however_the_program_ends(sent):
    """SIGKILL cannot be caught: the kernel takes down what the program held."""
    command = program("""
        import subprocess, sys, time
        from tools.thin_link.link import Link, two_computers
        with two_computers(Link(10.0, delay_ms=1.0)) as sides:
            sleeper = sides[0].start(["sleep", "1000"], {})
            print(sides[0].pid, sides[1].pid, flush=True)
            time.sleep(1000)
    """)
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        pids = [int(pid) for pid in started.stdout.readline().split()]
        assert len(pids) == 2 and all(Path(f"/proc/{pid}").exists() for pid in pids)
        namespaces = {os.readlink(f"/proc/{pid}/ns/net") for pid in pids}
        assert len(namespaces) == 2
        started.send_signal(sent)
        started.wait(30)
        wait_until(lambda: not namespaces & _network_namespaces(), "the end of both namespaces")
    finally:
        started.kill()
        started.communicate()


def _network_namespaces() -> set[str]:
    """Those in which some process is."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(process))
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperationFailed, match="unshare, nsenter, ip, tc cannot be found"):
        check_rights()
    for name in PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\necho 'Operation not permitted' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(OperationFailed, match=r"not permitted.*accepted: root, or CAP_NET_ADMIN"):
        check_rights()


def test_multicast_is_told_from_other_packets():
    def ip4(*address):
        return bytes([0x45, *[0] * 15, *address])

    assert is_multicast(ip4(239, 255, 0, 1)) and is_multicast(ip4(224, 0, 0, 22))
    assert not is_multicast(ip4(10, 99, 0, 2)) and not is_multicast(ip4(240, 0, 0, 1))
    ip6 = bytes([0x60, *[0] * 23])
    assert is_multicast(ip6 + bytes([0xFF, 0x02])) and not is_multicast(ip6 + bytes([0xFE, 0x80]))


def test_links_are_named_by_what_they_do():
    assert Link(2.0).name == "2 Mbit/s" and not Link(2.0).relayed
    lossy = Link(10.0, delay_ms=20.0, loss_percent=1.0)
    assert lossy.name == "10 Mbit/s, 20 ms, 1 % lost" and lossy.relayed
    assert Link(10.0, multicast=False).name == "10 Mbit/s, no multicast"
