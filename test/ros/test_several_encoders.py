"""A node with two checkpoints over real DDS: what it publishes is what `embed` writes."""

from dataclasses import replace

import numpy as np

from test.ros.test_embed_equals_live import (
    CAMERAS,
    FRAMES,
    PARAMETERS,
    send,
    settings_of,
    slice_of_the_demo,
)
from vit_perception.config.settings import ModelSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import LiveDecoder
from vit_perception.recordings.reader import BagReader

__all__ = ["slice_of_the_demo"]  # the fixture


def test_embed_equals_live(rig, slice_of_the_demo, tiny_checkpoint, tiny_second, tmp_path):
    robot = rig(**PARAMETERS, model__more_checkpoints=[str(tiny_second)])
    robot.activate()
    frames = robot.tester.frames
    send(robot, slice_of_the_demo, lambda: sum(f.received_ns > 0 for f in frames.values()))
    settings = settings_of(tiny_checkpoint)
    both = ModelSettings(str(tiny_checkpoint), more_checkpoints=(str(tiny_second),))
    pipeline = Pipeline.open(replace(settings, model=both))
    source = BagSource(slice_of_the_demo, "/wrist/image/compressed")
    for kind in ("mcap", "safetensors"):
        assert embed(pipeline, [source], tmp_path / kind, EmbedOptions(kind))["frames"] == FRAMES
    pipeline.close()
    data = FeatureDataset(tmp_path / "safetensors", history=1)
    layout = robot.tester.layout
    assert [one.to_json() for one in data.layouts] == [layout.to_json()]
    assert [encoder.model for encoder in layout.encoders] == [tiny_checkpoint.name, "tiny vit"]
    assert [view.camera for view in layout.encoders[1].views] == list(CAMERAS)
    with BagReader(tmp_path / "mcap") as bag:
        decoder = LiveDecoder(expected=[layout], embedding=True)
        decoded = [
            decoder.add(topic, message) for topic, _, message in bag.messages(list(bag.topics))
        ]
    observed = {o.stamp_ns: o for o in decoded if o is not None}
    assert len(data) == len(observed) == FRAMES
    for item in (data[k] for k in range(FRAMES)):
        stamp_ns = int(item["stamps_ns"][0])
        live = frames[stamp_ns].tokens
        # 2 cameras of 1 + 16 and 1 + 9 rows, one of the pose.
        assert live.shape == (55, 64)
        np.testing.assert_array_equal(live, item["tokens"][0].numpy())
        np.testing.assert_array_equal(live, observed[stamp_ns].tokens)
        parts = layout.split(live)
        wanted = [parts[f"{c}/{e.name}/cls"][0] for c in CAMERAS for e in layout.encoders]
        wanted.append(parts["arm/pose"][0])
        np.testing.assert_array_equal(observed[stamp_ns].embedding, np.concatenate(wanted))
    robot.until(lambda: robot.tester.diagnostics, what="the diagnostics")
    assert robot.diagnostic(": engine")["tiny_vit.model"] == "tiny vit"
