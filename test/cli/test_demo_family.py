"""The demo with another family's checkpoint: one line of its parameter file."""

import json

import transformers

from test.checkpoints.huggingface.models import STRETCH, WITH_MLP, randomised, saved
from test.cli.test_cli import run
from test.conftest import DEMO_BAG, ROOT
from test.recordings.lossless import heard_whole, lossless
from test.recordings.mcap_tools import decoded
from vit_perception.cli.demo import CAMERAS
from vit_perception.recordings.reader import BagReader
from vit_perception.wire.layout import Layout


def test_one_line_switches_the_demo_to_another_family(tmp_path):
    model = randomised(transformers.CLIPVisionModel, transformers.CLIPVisionConfig(**WITH_MLP))
    checkpoint = saved(model, tmp_path / "tiny_clip", preprocessor=STRETCH)
    ours = (ROOT / "config/demo.yaml").read_text()
    whole = "".join(
        f"    {name}: {value}\n"
        for name, value in heard_whole(
            "/ee_pose", *(f"/{c}/image/compressed" for c in CAMERAS)
        ).items()
    )
    line = "model.checkpoint: demo"
    assert ours.count(line) == 1
    (tmp_path / "params.yaml").write_text(
        ours.replace(line, f"model.checkpoint: {checkpoint}") + whole
    )
    bag = lossless(DEMO_BAG, tmp_path / "bag")
    done = run(
        "demo",
        "--params",
        tmp_path / "params.yaml",
        "--bag",
        bag,
        "--rate",
        3,
        "--out",
        tmp_path / "out",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    # Random weights classify the stages of the task as well as they can: that alone may fail.
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert all("stage accuracy" in line for line in failed) and done.returncode == bool(failed), (
        done.stdout + done.stderr
    )
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["frames_received"] == summary["frames_sent"] == 300
    assert summary["groups_published"] >= 1 and summary["frames_published"] <= 300
    assert (
        summary["engine"]["min_cosine"] > 0.99
        and (tmp_path / "out/contact_sheet.png").stat().st_size > 10_000
    )
    page = tmp_path / "out/report.html"
    assert done.stdout.rstrip().endswith(f"The page with all of it: {page}")
    assert "data:image/png;base64," in page.read_text()
    (file,) = (tmp_path / "out/outputs").glob("*.mcap")
    counts = {topic: len(messages) for topic, messages in decoded(file).items()}
    assert counts["/vit_encoder/tokens"] == summary["groups_published"]
    with BagReader(tmp_path / "out/outputs") as outputs:
        _, _, message = next(outputs.messages(["/vit_encoder/layout"]))
    layout = Layout.from_json(message.data)
    assert (layout.model, layout.width) == ("tiny_clip", WITH_MLP["hidden_size"])
