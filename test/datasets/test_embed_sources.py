"""What `embed` reads: bags with damaged images, several bags, folders of pictures, encoders."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import CAMERAS, pipeline, settings_of  # noqa: F401
from vit_perception.config.settings import CameraSettings
from vit_perception.datasets.embed import EmbedOptions, embed, run_of
from vit_perception.datasets.embed_sources import BagSource, PicturesSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter


def test_damaged_images_are_counted_and_two_bags_are_two_episodes(pipeline, tmp_path):
    for name, length in (("one", 40), ("two", 70)):
        with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / name) as copy:
            for k, message in enumerate(bag.raw([c.topic for c in CAMERAS] + ["/ee_pose"])):
                data = (
                    message.data[:-40] + bytes(40)
                    if message.topic == CAMERAS[1].topic and k > 30
                    else message.data
                )
                copy.write(message.topic, message.type_name, data, message.stamp_ns)
                if k == length:
                    break
    manifest = embed(
        pipeline,
        [BagSource(tmp_path / n, CAMERAS[0].topic) for n in ("one", "two")],
        tmp_path / "out",
        EmbedOptions("safetensors"),
    )
    files = FeatureFiles(tmp_path / "out")
    assert (
        manifest["dropped"] == {"short_data": 6, "unmatched": 1}
        and len(files) == manifest["frames"] == 10
    )
    assert "camera wrist" in manifest["drop_texts"]["short_data"] and manifest["skipped"] == []
    assert files.episode.tolist() == [0] * 5 + [1] * 5


def test_a_folder_of_pictures_of_several_sizes(pipeline, tiny_checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("b/2.png", (40, 60)), ("a/1.jpg", (30, 50)), ("a/3.png", (40, 60))):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "pictures" / name), rng.integers(0, 256, (*size, 3), np.uint8))
    (tmp_path / "pictures/c.png").write_bytes(b"no picture")
    for name in ("d.bmp", "e.webp", ".hidden.png"):
        Image.new("RGB", (60, 40), (10, 200, 30)).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures/f.jpg").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"
    )
    single = Pipeline.open(
        settings_of(tiny_checkpoint, (CameraSettings("camera", "pictures", "compressed"),), ())
    )
    source = PicturesSource(tmp_path / "pictures", "camera")
    manifest = embed(single, [source], tmp_path / "out", EmbedOptions("parquet"))
    single.close()
    files = FeatureFiles(tmp_path / "out")
    assert manifest["run"]["sources"][0]["names"] == [
        "a/1.jpg",
        "a/3.png",
        "b/2.png",
        "c.png",
        "d.bmp",
        "e.webp",
        "f.jpg",
    ]
    assert files.stamp_ns.tolist() == [k * 10**8 for k in (1, 2, 3, 5, 6)]
    assert (
        manifest["dropped"] == {"encoding": 1, "file": 1}
        and "git lfs pull" in manifest["drop_texts"]["file"]
    )
    assert [files.layouts[k].cameras[0].source_size_px for k in files.layout_index] == [
        (30, 50)
    ] + [(40, 60)] * 4
    with pytest.raises(ValueError, match="holds no pictures"):
        PicturesSource(tmp_path / "out", "camera")


def test_a_run_depends_on_every_encoder(tiny_checkpoint, tiny_second):
    """A run with another second encoder is another run; one without has no new keys."""
    settings = settings_of(tiny_checkpoint)
    more = replace(settings.model, more_checkpoints=(str(tiny_second),))
    runs = []
    for each in (settings, replace(settings, model=more)):
        opened = Pipeline.open(each)
        runs.append(run_of(opened, [], EmbedOptions("mcap")))
        digests = [encoder.encoder_sha256 for encoder in opened.parts.encoders]
        opened.close()
    alone, both = runs
    assert "more_encoders" not in alone and "more_checkpoints" not in alone["settings"]["model"]
    assert both["settings"]["model"]["more_checkpoints"] == (str(tiny_second),)
    (second,) = both["more_encoders"]
    assert second["model"] == "tiny vit" and len(second["weights_sha256"]) == 64
    assert [both["encoder_sha256"], second["encoder_sha256"]] == digests
