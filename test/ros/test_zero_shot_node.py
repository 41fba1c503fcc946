"""The live node with labels: classifications of the pipeline's own, a refusal, and other labels
after it.
"""

import pytest
from rclpy.parameter import Parameter

from test.ros.conftest import image_message
from test.text_models import siglip_folder
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.ros.parameters import NodeParameters

STAMP_NS = 7_000_000_000


def test_classes_by_their_names_on_the_topic(rig, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    siglip_folder(tmp_path / "model")
    each = rig(
        model__checkpoint=str(tmp_path / "model"),
        zero_shot__labels=["cup", "red can", "tray"],
        model__block=0,
        top_k=2,
    )
    assert (
        each.node.trigger_configure().name == "FAILURE"
    )  # texts are aligned with the last block only
    each.node.set_parameters([Parameter("model.block", value=-1)])
    each.activate()
    [camera] = each.tester.layout.cameras
    assert (camera.labels, camera.scores) == (("cup", "red can", "tray"), "sigmoid")
    message = image_message(STAMP_NS)
    each.publish("/wrist/image", message)
    frame = each.frame(STAMP_NS)
    scores = each.until(lambda: frame.classes.get("wrist"), what="the classification")
    pipeline = Pipeline.open(NodeParameters(each.node).read())
    prepared = pipeline.prepare({"wrist": message})
    expected = pipeline.assemble(prepared, pipeline.encode(prepared), {}).cameras["wrist"].classes
    pipeline.close()
    assert list(scores) == [c.class_id for c in expected] and len(expected) == 2
    assert list(scores.values()) == pytest.approx([c.score for c in expected], abs=1e-5)
