import sqlite3

import cv2
import numpy as np
import pytest

from test.log_lines import LogLines
from vit_perception.files.log import SILENT
from vit_perception.training.feature_cache import FeatureCache
from vit_perception.training.features import FeatureSource
from vit_perception.training.pictures import read_folder


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Six pictures of two classes, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label, level in (("dark", 20), ("bright", 200)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for k in range(3):
            cv2.imwrite(
                str(tmp_path / "pictures" / label / f"{k}.png"),
                np.full((20, 30, 3), level + k, np.uint8),
            )
    return tmp_path / "pictures"


def features(checkpoint, folder, feature="cls_mean", **options):
    with FeatureSource(str(checkpoint), "torch", **options) as source:
        made = source.features(read_folder(folder).pictures, feature)
        return made, source._pipeline is not None


def test_a_folder_of_pictures_is_labelled_by_its_subfolders(pictures, tiny_checkpoint):
    made, _ = features(tiny_checkpoint, pictures)
    assert made.values.shape == (6, 128) and made.values.dtype == np.float32
    assert made.labels == ["bright"] * 3 + ["dark"] * 3 and made.stretches == [0] * 3 + [1] * 3


def test_features_are_those_of_the_pipeline(pictures, tiny_checkpoint):
    from vit_perception.config.settings import (
        CameraSettings,
        EncoderSettings,
        EngineSettings,
        ModelSettings,
    )
    from vit_perception.pipeline.pipeline import Pipeline

    made, _ = features(tiny_checkpoint, pictures)
    pipeline = Pipeline.open(
        EncoderSettings(
            (CameraSettings("c", "files", "compressed"),),
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch"),
        )
    )
    prepared = pipeline.prepare({"c": read_folder(pictures).pictures[4].load().decoded})
    output = pipeline.encode(prepared)
    expected = np.concatenate([output.cls_token[0], output.patch_tokens[0].mean(axis=0)])
    assert np.array_equal(made.values[4], expected)
    with FeatureSource(str(tiny_checkpoint), "torch") as source:
        assert source.encoder_sha256 == pipeline.encoder_sha256
    pipeline.close()


def test_a_second_fit_takes_its_features_from_the_cache_without_an_engine(
    pictures, tiny_checkpoint
):
    first, opened = features(tiny_checkpoint, pictures)
    assert opened and first.from_cache == 0
    (pictures / "dark").rename(pictures / "unlit")  # the content counts, not the name
    second, opened = features(tiny_checkpoint, pictures)
    assert not opened and second.from_cache == 6 and np.array_equal(first.values, second.values)
    only_cls, opened = features(tiny_checkpoint, pictures, "cls")
    assert not opened and np.array_equal(only_cls.values, first.values[:, :64])
    assert features(tiny_checkpoint, pictures, cached=False)[0].from_cache == 0


def test_a_changed_picture_or_encoder_is_encoded_anew(pictures, tiny_checkpoint, tiny_classifier):
    first, _ = features(tiny_checkpoint, pictures)
    cv2.imwrite(str(pictures / "dark/0.png"), np.full((20, 30, 3), 90, np.uint8))
    changed, opened = features(tiny_checkpoint, pictures)
    assert opened and changed.from_cache == 5
    assert sorted(np.any(first.values != changed.values, axis=1)) == [False] * 5 + [True]
    assert features(tiny_classifier, pictures)[0].from_cache == 0


def test_unreadable_pictures_are_named_and_counted(pictures, tiny_checkpoint):
    (pictures / "dark/9.jpg").write_text("no picture")
    made, _ = features(tiny_checkpoint, pictures)
    (bad,) = made.unreadable
    assert bad.name == "dark/9.jpg" and bad.why and len(made.values) == len(made.labels) == 6
    for file in pictures.glob("*/*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="none of 1 pictures can be read; the first: dark/9.jpg"):
        features(tiny_checkpoint, pictures)


@pytest.mark.parametrize("damage", ["a file", "no database", "other width"])
def test_a_cache_that_cannot_be_used_is_said_and_the_features_come_all_the_same(
    pictures, tiny_checkpoint, tmp_path, damage
):
    said = LogLines()
    expected, _ = features(tiny_checkpoint, pictures)
    (file,) = (tmp_path / "cache/vit_perception/features").glob("*.sqlite")
    if damage == "a file":
        file.unlink()
        for left in file.parent.iterdir():
            left.unlink()
        file.parent.rmdir()
        file.parent.write_text("")
    elif damage == "no database":
        file.write_bytes(b"no database" * 100)
    else:
        with sqlite3.connect(file) as database:
            database.execute("update features set tokens = ?", (b"1234",))
    made, _ = features(tiny_checkpoint, pictures, log=said)
    assert np.array_equal(made.values, expected.values) and made.from_cache == 0
    warned = [line for line in said if "not cached" in line]
    assert len(warned) == (damage != "other width") and all("features" in line for line in warned)


def test_two_processes_may_fill_one_cache(tmp_path):
    a, b = (FeatureCache("x", 2, SILENT, tmp_path) for _ in range(2))
    tokens = np.arange(4, dtype=np.float32).reshape(2, 2)
    a.put("one", tokens)
    b.put("two", tokens + 1)
    assert np.array_equal(b.get("one"), tokens) and np.array_equal(a.get("two"), tokens + 1)
    assert a.get("three") is None
    a.close()
    a.close()
    assert a.get("one") is None
    b.close()
