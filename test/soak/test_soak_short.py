"""The soak in its short form: real processes, a tiny model, and a few of the faults; and how it
judges.
"""

import json
from dataclasses import replace

import pytest

from test.waiting import status_of
from tools.soak import report, schedule
from tools.soak.__main__ import chosen_faults, parse
from tools.soak.hostile_pictures import crash_pictures, slow_pictures
from tools.soak.observer import JUMP_NS, Ages, age_ns_of
from tools.soak.robot import start_module
from vit_perception.image.compressed import checked_picture
from vit_perception.wire.records import BadInput

# On one core beside other work, 640 messages a second come faster than the node can receive them.
SLOWER = "5"
FAULTS = ("kill -9", "NaN poses", "camera killed, sync.policy mask", "the engine fails")


def test_the_node_holds_up_under_load_and_faults(tiny_checkpoint, tmp_path):
    soak = start_module(
        "tools.soak",
        "--seconds",
        "0",
        "--checkpoint",
        str(tiny_checkpoint),
        "-p",
        "engine.backend=torch",
        "-p",
        "engine.precision=float32",
        "-p",
        "engine.threads=1",
        "--faults",
        *FAULTS,
        "--age-limit",
        "none",
        "--slower",
        SLOWER,
        "--out",
        str(tmp_path / "soak.json"),
        log=tmp_path / "soak.log",
    )
    assert status_of(soak) == 0, soak.tail(60)
    result = json.loads((tmp_path / "soak.json").read_text())
    assert not result["failed"] and result["accounts_checked"] and not result["accounts_wrong"]
    assert len(result["faults"]) == len(FAULTS) and all(
        fault["passed"] for fault in result["faults"]
    )
    assert len(result["faults"]) + len(result["left_out"]) == len(schedule.all_faults())
    for figures in result["cameras"].values():
        assert (
            figures["received"]
            == figures["published"] + sum(figures["dropped"].values()) + figures["pending"]
        )
        assert figures["published"] and 0 <= figures["received"] <= figures["sent"]
    assert result["ages"]["frames"] and set(result["cpu_percent"]) >= {
        "node",
        "overhead",
        "left_arm",
    }


def test_what_fails_is_said_and_what_does_not_fit_is_left_out():
    faults = schedule.all_faults()
    chosen, left_out = chosen_faults(parse(["--seconds", "600"]), open_s=8.0)
    assert [f.name for f in chosen] == [f.name for f in faults] and not left_out
    chosen, left_out = chosen_faults(
        parse(["--seconds", "30", "--faults", "NaN", "SIGINT"]), open_s=20.0
    )
    assert [f.name for f in chosen] == ["NaN poses"] and len(left_out) == len(faults) - 1

    outcome = schedule.Outcome("a fault", True, "this", "this", 0.5, 1.0, 2.0)
    camera = {"received": 7, "published": 3, "dropped": {"superseded": 3}, "pending": 1}
    good = {
        "accounts_wrong": [],
        "cameras": {"wrist": camera},
        "ages": {"frames": 3, "over_two_engine_runs": 0},
        "memory": {"judged": True, "growth_percent": 0.4},
    }
    assert report.failures([outcome], good, "engine") == []
    bad = good | {
        "cameras": {"wrist": camera | {"pending": 0}},
        "memory": {"judged": True, "growth_percent": 1.2},
        "ages": {"frames": 3, "over_two_engine_runs": 1, "worst_over_two_engine_runs_ms": 9.5},
    }
    failed = report.failures([replace(outcome, passed=False)], bad, "engine")
    assert len(failed) == 4 and "received 7 is not published 3 + dropped 3 + pending 0" in failed[1]
    assert "1.2 %" in failed[2] and "1 of 3 frames were older" in failed[3]


def test_memory_is_weighed_over_the_longest_life():
    samples = [(float(t), 1, 100.0 + t) for t in range(50)]
    samples += [
        (float(t), 2, 200.0 if t < 90 else 300.0 if t < 200 else 303.0) for t in range(60, 360)
    ]
    figures = report.memory_figures(samples)
    assert (figures["first_mb"], figures["last_mb"], figures["growth_percent"]) == (
        300.0,
        303.0,
        1.0,
    )
    assert figures["judged"] and not report.memory_figures(samples[:50])["judged"]


def test_an_age_is_held_against_the_run_that_the_next_diagnostics_tell():
    assert age_ns_of(5 - JUMP_NS, 12) == age_ns_of(5, 12) == age_ns_of(5 + JUMP_NS, 12) == 7
    ages = Ages(20.0)
    for age_ms in (100.0, 130.0, 221.0):
        ages.add(age_ms)
    ages.judge({"infer": 50.0, "decode": 30.0, "publish": 20.0})
    assert (ages.over["engine"], ages.over["worker"], ages.worst["engine"]) == (2, 1, 101.0)
    assert [(age_ms, limit_ms) for _, age_ms, limit_ms in ages.too_old] == [
        (130.0, 120.0),
        (221.0, 120.0),
    ]


def test_hostile_pictures_floods_and_parameters_leave_the_accounts_exact(tiny_checkpoint, tmp_path):
    """About twenty seconds: each of the four attacks once, against a live node."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "page.jpg").write_bytes(b"<html>not a picture</html>")
    attack = start_module(
        "tools.soak.hostile",
        "--seconds",
        "0",
        "--slower",
        SLOWER,
        "--extra",
        str(tmp_path / "extra"),
        "--checkpoint",
        str(tiny_checkpoint),
        "-p",
        "engine.backend=torch",
        "-p",
        "engine.precision=float32",
        "-p",
        "engine.threads=1",
        log=tmp_path / "hostile.log",
    )
    assert status_of(attack) == 0, attack.tail(60)
    assert "4 rounds" in attack.tail(60) and "hostile_parameters: 6 values refused" in attack.tail(
        60
    )


def test_every_hostile_picture_is_refused_before_it_is_decoded():
    for data in (*crash_pictures(), *slow_pictures()):
        with pytest.raises(BadInput):
            checked_picture(data, "png" if data.startswith(b"\x89PNG") else "jpeg")
