"""`vit-perception inspect` as a user types it; the .rrd is read back with Rerun's own reader."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from test.cli.test_cli import run
from test.conftest import DEMO_BAG, ROOT
from test.recordings.formats import OTHER_TOOL
from test.waiting import PROGRAM_S
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

SVG = "{http://www.w3.org/2000/svg}"
CURVE = "stroke-width: 1.2"


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory):
    """The first second of the demo bag."""
    path = tmp_path_factory.mktemp("short") / "short_bag"
    with BagReader(DEMO_BAG) as bag, BagWriter(path) as out:
        for message in bag.raw(list(bag.topics), stop_ns=bag.start_ns + 1_000_000_000):
            out.write(message.topic, message.type_name, message.data, message.stamp_ns)
    return path


def test_the_rrd_and_the_report_hold_every_frame(short_bag, tiny_classifier, tmp_path):
    pytest.importorskip("rerun.chunk", reason="no rerun-sdk of 0.40 or newer: no .rrd to read back")
    from rerun.chunk import RrdReader

    done = run(
        "inspect",
        short_bag,
        "--out",
        tmp_path / "out",
        "--params",
        ROOT / "config/demo.yaml",
        "--checkpoint",
        tiny_classifier,
        "--backend",
        "torch",
        "--precision",
        "float32",
        "--format",
        "both",
    )
    assert done.returncode == 0 and "20 frames; written:" in done.stdout, done.stdout + done.stderr
    counts: dict[str, int] = {}
    for chunk in RrdReader(str(tmp_path / "out/short_bag.rrd")).stream().to_chunks():
        path = str(chunk.entity_path).lstrip("/")
        counts[path] = counts.get(path, 0) + chunk.num_rows
        if path == "wrist/image":
            assert "stamp" in chunk.timeline_names
    scored = [n for path, n in counts.items() if path.startswith("wrist/score/")]
    assert sum(scored) == 4 * 20 and len(scored) >= 4  # the best four of five
    each = [f"{c}/{v}" for c in ("agentview", "wrist") for v in ("image", "pca", "attention")]
    each += ["arm/hand", "latency_ms/infer", "latency_ms/decode"]
    assert {counts[name] for name in each} == {20} and counts["arm/path"] == 1

    report = (tmp_path / "out/report.html").read_text()
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", report, re.S)]
    # Curves are 1.2 points wide, lines of the grid are not.
    paths = [[p for p in svg.iter(f"{SVG}path") if CURVE in p.get("style", "")] for svg in charts]
    points = [[len(re.findall("[ML]", curve.get("d"))) for curve in curves] for curves in paths]
    # The best four classes of two cameras; x y z, four stages here, and the lag of recording.
    assert sum(map(sum, points[:2])) == 2 * 4 * 20
    assert points[2:] == [[20] * 3, [20] * 4, [20]]
    assert "data:image/png;base64," in report
    # Nothing is loaded from elsewhere; SVG names its namespaces by addresses.
    assert not re.search(r"(src|href)=[\"']?http|url\([\"']?http|@import", report)
    sheet = Image.open(tmp_path / "out/contact_sheet.png")
    assert len(sheet.resize((40, 40)).getcolors(1600)) > 100


def test_without_rerun_there_is_a_report_and_a_line_that_says_so(tiny_checkpoint, tmp_path):
    program = (
        "import sys; sys.modules['rerun'] = None; import importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'rerun' else find(name, *a); "
        "from vit_perception.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    given = [
        OTHER_TOOL / "other_tool_lz4.mcap",
        "--checkpoint",
        tiny_checkpoint,
        "--backend",
        "torch",
    ]
    for wanted, status, said in (
        ("auto", 0, "no .rrd: rerun-sdk is not installed (pip install rerun-sdk)"),
        ("rrd", 1, "an .rrd file needs rerun-sdk: pip install rerun-sdk"),
    ):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                program,
                "inspect",
                *map(str, given),
                "--out",
                tmp_path / wanted,
                "--format",
                wanted,
            ],
            capture_output=True,
            text=True,
            timeout=PROGRAM_S,
            cwd=ROOT,
        )
        assert done.returncode == status and said in done.stderr, done.stderr
    assert (tmp_path / "auto/report.html").exists() and not list((tmp_path / "rrd").glob("*"))


def test_a_bag_without_images_is_named(tmp_path):
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "poses") as out:
        for message in bag.raw(["/ee_pose"], stop_ns=bag.start_ns + 100_000_000):
            out.write(message.topic, message.type_name, message.data, message.stamp_ns)
    done = run("inspect", tmp_path / "poses", "--out", tmp_path / "out")
    assert done.returncode == 1 and "has no image topic; there are: /ee_pose" in done.stderr


def test_a_checkpoint_that_is_none_leaves_nothing(tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: there is no .rrd to leave")
    done = run(
        "inspect",
        OTHER_TOOL / "other_tool_lz4.mcap",
        "--out",
        tmp_path / "out",
        "--checkpoint",
        "nope",
        "--format",
        "rrd",
    )
    assert done.returncode == 1 and "nope" in done.stderr and not list(tmp_path.rglob("*.rrd*"))
