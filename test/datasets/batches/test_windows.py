"""Several frames of a recording in one run of the encoder: the same frames, nearly the same
features, the same bytes after an interruption.
"""

from dataclasses import replace

import numpy as np
import pytest

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import CAMERAS, contents, settings_of
from vit_perception.config.history_settings import HistorySettings
from vit_perception.config.settings import BadSetting, EngineSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_journal import read_manifest
from vit_perception.datasets.embed_sources import BagSource, PicturesSource
from vit_perception.files.errors import InvalidValue
from vit_perception.files.log import SILENT
from vit_perception.pipeline.frames_together import BatchDiffers, FramesTogether, opened_pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

TOPICS = [camera.topic for camera in CAMERAS] + ["/ee_pose"]
SOME = {"shard_frames": 5}


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """0.9 s of the demo bag: 18 frames, of which one camera's image is damaged in number 6."""
    folder = tmp_path_factory.mktemp("bags") / "short"
    images = 0
    with BagReader(DEMO_BAG) as whole, BagWriter(folder) as out:
        for m in whole.raw(TOPICS):
            if m.stamp_ns >= whole.start_ns + 900_000_000:
                break
            images += m.topic == TOPICS[0]
            broken = m.topic == TOPICS[0] and images == 6
            out.write(m.topic, m.type_name, m.data[:400] if broken else m.data, m.stamp_ns)
    return folder


@pytest.fixture(scope="module")
def source(bag):
    return BagSource(bag, CAMERAS[0].topic)


@pytest.fixture(scope="module", params=["plain", "history"])
def settings(request, tiny_classifier):
    settings = settings_of(tiny_classifier)
    if request.param == "history":
        settings = replace(settings, history=HistorySettings(frames=3, stride_s=0.1))
    return settings


@pytest.fixture(scope="module")
def single(settings, source, tmp_path_factory):
    out = tmp_path_factory.mktemp("single") / "out"
    pipeline = opened_pipeline(settings, 1, SILENT)
    embed(pipeline, [source], out, EmbedOptions("safetensors", **SOME))
    pipeline.close()
    return out


@pytest.fixture(scope="module", params=[2, 7, 64])
def together(request, settings):
    pipeline = opened_pipeline(settings, request.param, SILENT)
    yield pipeline, EmbedOptions("safetensors", batch=request.param, **SOME)
    pipeline.close()


def test_frames_are_the_same_and_features_nearly(together, single, source, tmp_path):
    pipeline, options = together
    manifest = embed(pipeline, [source], tmp_path / "out", options)
    alone = FeatureFiles(single)
    found = FeatureFiles(tmp_path / "out")
    assert len(found) == len(alone) > 12 and manifest["dropped"] == alone.manifest["dropped"]
    assert found.columns == alone.columns
    for index in range(len(alone)):
        expected = alone.row(index, alone.columns)
        for name, value in found.row(index, found.columns).items():
            if value.dtype == np.float32:
                np.testing.assert_allclose(value, expected[name], atol=1e-4, err_msg=name)
            elif name.endswith("score"):
                np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert manifest["run"]["batch"] == options.batch and "batch" not in alone.manifest["run"]
    assert 0.9999 < manifest["batch"]["worst_patch_cosine"] <= 1.000001
    assert manifest["batch"]["images"] == len(CAMERAS) * min(4, options.batch)
    assert "batch" not in alone.manifest


def test_an_interrupted_run_ends_with_the_same_bytes(together, source, tmp_path):
    pipeline, options = together
    embed(pipeline, [source], tmp_path / "whole", options)

    class Stopped(Exception):
        pass

    # After so many frames; a shard has 5.
    for most in (3, 7, 6):
        left = most

        def stop(results):
            nonlocal left
            left -= results == 1
            if not left:
                raise Stopped

        with pytest.raises(Stopped):
            embed(pipeline, [source], tmp_path / "out", options, stop)
    embed(pipeline, [source], tmp_path / "out", options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_run_of_another_batch_is_another_run(together, single, source):
    pipeline, options = together
    with pytest.raises(InvalidValue, match=r"begun with other settings.*batch"):
        embed(pipeline, [source], single, options)
    assert read_manifest(single)["complete"]


def test_an_engine_that_mixes_up_its_frames_is_refused(together, source, tmp_path, monkeypatch):
    pipeline, options = together
    engine = pipeline.together._opened[0].engine
    infer = engine.infer
    monkeypatch.setattr(engine, "infer", lambda images: infer(np.ascontiguousarray(images[::-1])))
    with pytest.raises(BatchDiffers, match=r"(?s)together differ from .*hint: batch 1"):
        embed(pipeline, [source], tmp_path / "out", options)


def test_what_cannot_be_encoded_together(tiny_classifier, together, tmp_path):
    import cv2

    pipeline, options = together
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InvalidValue, match=r"batch is \d+, and .* is no bag; accepted: 1, or bags"):
        embed(pipeline, [PicturesSource(tmp_path, "wrist")], tmp_path / "out", options)
    for batch in (0, 257):
        with pytest.raises(InvalidValue, match=f"batch is {batch}; accepted: 1 to 256"):
            EmbedOptions("safetensors", batch=batch)
    pipeline = opened_pipeline(settings_of(tiny_classifier), 1, SILENT)
    pipeline.settings = replace(pipeline.settings, engine=EngineSettings("tensorrt", file="/e"))
    with pytest.raises(BadSetting, match=r"engine.file.*none with a batch of 2"):
        FramesTogether(pipeline, 2, SILENT)
    pipeline.close()
