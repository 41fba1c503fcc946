"""A trial with the real node, of a tiny encoder, and what becomes of its processes."""

import json
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest
import yaml

from test.conftest import DEMO_BAG, ROOT
from test.tools.thin_link.test_link import needs_namespaces
from test.waiting import HANG_S, wait_until
from tools.thin_link import __main__ as main_module
from tools.thin_link.link import Link
from tools.thin_link.node_trial import (
    node_figures,
    parameters_of,
    run_node_trial,
    sent_frames,
    topics_of,
)
from tools.thin_link.plan import (
    ENCODED,
    IMAGE_TOPICS,
    LINKS,
    NODE_FORMS,
    THIN,
    Trial,
    dds_of,
    node_trials,
    trials,
)

DEMO = ROOT / "config/demo.yaml"
MARK = "THIN_LINK_TEST"


@pytest.fixture
def mark(monkeypatch):
    """A value in the environment of each process of this test's trials."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    return value


def marked(value: str) -> list[str]:
    """Return the command lines of the processes with ``value``, other than this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={value}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended meanwhile
            continue
    return found


@needs_namespaces
def test_a_node_encodes_what_is_replayed_and_a_policy_gets_it_over_the_link(
    tiny_checkpoint, tmp_path, mark
):
    parameters = parameters_of(DEMO, "int8", None)
    parameters["/**"]["ros__parameters"] |= {
        "model.checkpoint": str(tiny_checkpoint),
        "engine.backend": "torch",
    }
    row = run_node_trial(
        Link(10.0),
        "int8",
        dds_of(THIN, tmp_path),
        bag=DEMO_BAG,
        parameters=parameters,
        speed=0.2,
        rate_hz=4.0,
        seconds=2.0,
    )
    assert row["sent"] == 8 and row["errors"] == 0
    assert 0 < row["arrived"] <= row["published"] <= 8
    assert row["age_p50_ms"] > 0 and row["link_p50_ms"] is not None
    # 32 patch tokens of 64 channels, and more, each with a scale.
    assert row["link_kB_s"] * row["seconds"] > row["arrived"] * 32 * 68 / 1e3
    assert marked(mark) == []


@needs_namespaces
def test_ctrl_c_ends_the_node_as_well(tmp_path, mark):
    command = """
        from pathlib import Path
        from tools.thin_link.plan import ENCODED, LINKS, THIN, Trial, row_of
        row_of(Trial(LINKS[0], "int8", THIN, False, 1.0, ENCODED), Path("."), 10.0)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(command)]
    with (tmp_path / "said").open("w") as said:
        started = subprocess.Popen(arguments, cwd=ROOT, stderr=said)
    node = f"{sys.executable} -m vit_perception.ros.start"
    try:
        wait_until(lambda: any(each.startswith(node) for each in marked(mark)), "the node's start")
        started.send_signal(signal.SIGINT)
        started.wait(HANG_S)
        wait_until(lambda: not marked(mark), "the end of all processes")
    finally:
        started.kill()
        started.wait()


def test_the_parameters_are_those_of_the_file_and_the_form():
    recorded = yaml.safe_load(DEMO.read_text())["/**"]["ros__parameters"]
    given = parameters_of(DEMO, "int8", None)
    made = given["/**"]["ros__parameters"]
    assert made.items() >= recorded.items()
    assert made["output_dtype"] == "int8" and "tokens.basis" not in made
    assert made["qos_overrides./vit_encoder/tokens.publisher.reliability"] == "best_effort"
    assert topics_of(given, "cameras") == list(IMAGE_TOPICS)
    assert topics_of(given, "poses") == ["/ee_pose"]
    reduced = parameters_of(DEMO, "basis_64", Path("b.safetensors"))["/**"]["ros__parameters"]
    assert reduced["tokens.basis"] == "b.safetensors" and "output_dtype" not in reduced


def test_a_frame_was_sent_when_its_first_image_was():
    lines = [("/ee_pose", 5, 50), ("/one", 5, 60), ("/two", 5, 70), ("/two", 6, 80)]
    log = "\n".join(json.dumps(dict(zip(("topic", "stamp_ns", "sent_ns"), x))) for x in lines)
    assert sent_frames(log, ["/one", "/two"]) == {5: 60, 6: 80}


def test_the_age_is_told_apart_into_encoder_and_link():
    sent = {k: 1_000_000_000 * k for k in range(5)}
    published = [(k, sent[k] + 200_000_000) for k in range(4)]
    arrived = [(k, sent[k] + 260_000_000) for k in range(3)]
    assert node_figures(sent, published, arrived, seconds=5.0) == {
        "found": True,
        "sent": 5,
        "published": 4,
        "arrived": 3,
        "frames_s": 0.6,
        "age_p50_ms": 260,
        "age_p99_ms": 260,
        "encoded_p50_ms": 200,
        "link_p50_ms": 60,
        "link_p99_ms": 60,
    }
    nothing = node_figures(sent, [], [], seconds=5.0)
    assert nothing["published"] == 0 and nothing["link_p99_ms"] is None


def test_the_node_is_tried_with_each_form_beside_the_images():
    planned = node_trials()
    for link in LINKS[:2]:
        of_link = [(t.form, t.sender == ENCODED) for t in planned if t.link == link]
        assert of_link == [("images", False), *((form, True) for form in NODE_FORMS)]
    # No row of one table can be taken for one of another.
    rows = [vars(t) | {"link": t.link.name} for t in (*planned, *trials())]
    for number, trial in enumerate(planned):
        assert isinstance(trial, Trial)
        assert [k for k, row in enumerate(rows) if trial.is_of(row)] == [number]


def test_rows_of_the_other_trials_are_kept(tmp_path, monkeypatch):
    """`link --node` adds its rows to those of `link`, and measures its own anew."""
    recorded, node = trials()[0], node_trials()[1]

    def row(trial, sent):
        names = ("form", "dds", "reliable", "rate_hz", "sender")
        return {"link": trial.link.name, **{n: getattr(trial, n) for n in names}, "sent": sent}

    out = tmp_path / "out.json"
    main_module.write(out, {"date": "earlier", "rows": [row(recorded, 1), row(node, 2)]})
    monkeypatch.setattr(main_module, "row_of", lambda trial, work, seconds: row(trial, seconds))
    main_module.link(tmp_path, out, None, resume=False, node=True)
    report = json.loads(out.read_text())
    assert report["date"] == "earlier" and report["node"]["command"].endswith("link --node")
    assert [r["sent"] for r in report["rows"] if recorded.is_of(r)] == [1]
    assert [r["sent"] for r in report["rows"] if node.is_of(r)] == [main_module.NODE_SECONDS]
    assert len(report["rows"]) == 1 + len(node_trials())
