"""`embed --augment`: repeats of a recording with changed pictures, in every file format."""

import json
from dataclasses import replace

import numpy as np
import pytest

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import CAMERAS, FORMATS, contents, pipeline, settings_of  # noqa: F401
from test.datasets.lerobot.test_dataset import data_set
from vit_perception.config.settings import CameraSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource, SourceResult, encode_images
from vit_perception.datasets.lerobot.dataset import LeRobotSource
from vit_perception.datasets.repeats.augmented import Repeats
from vit_perception.files.errors import InvalidValue
from vit_perception.image.augment import Strengths, applied, unchanged
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

REPEATS = 2
FRAMES = 7


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """Two short recordings: the beginning of the demo bag, and what comes later."""
    folder = tmp_path_factory.mktemp("bags")
    topics = [c.topic for c in CAMERAS] + ["/ee_pose"]
    images = 0
    with (
        BagReader(DEMO_BAG) as bag,
        BagWriter(folder / "one") as one,
        BagWriter(folder / "two") as two,
    ):
        for message in bag.raw(topics):
            images += message.topic == CAMERAS[0].topic
            if images > 2 * FRAMES:
                break
            copy = one if images <= FRAMES else two
            copy.write(message.topic, message.type_name, message.data, message.stamp_ns)
    return [folder / "one", folder / "two"]


def repeated(pipeline, bags, repeats=REPEATS, seed=5, **strengths):
    made = Repeats(repeats, seed, Strengths(**strengths))
    return made.of([BagSource(bag, CAMERAS[0].topic) for bag in bags], pipeline.settings)


@pytest.fixture(scope="module")
def whole(pipeline, bags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("augmented")
    for kind in FORMATS:
        options = EmbedOptions(kind, shard_frames=3)
        embed(pipeline, repeated(pipeline, bags), folder / kind, options)
    return folder


def test_without_repeats_files_are_what_they_were_and_rows_of_repeat_0_are_those(
    pipeline, bags, whole, tmp_path
):
    sources = [BagSource(bag, CAMERAS[0].topic) for bag in bags]
    assert repeated(pipeline, bags, repeats=0, seed=0)[0].identity() == sources[0].identity()
    manifest = embed(pipeline, sources, tmp_path / "plain", EmbedOptions("parquet"))
    assert "augment" not in json.dumps(manifest)
    plain, files = FeatureFiles(tmp_path / "plain"), FeatureFiles(whole / "parquet")
    assert not plain.repeat.any() and not any("augment" in name for name in plain.columns)
    assert len(files) == (1 + REPEATS) * len(plain)
    # Clean recordings come first: their rows have the places that they have without repeats.
    for row in range(len(plain)):
        here = files.row(row, files.columns)
        for name, value in plain.row(row, plain.columns).items():
            np.testing.assert_array_equal(here[name], value, err_msg=name)
        np.testing.assert_array_equal(here["wrist.augment"], unchanged())


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_every_repeat_has_its_own_episodes_and_says_what_its_pictures_were_changed_with(
    pipeline, bags, whole, kind
):
    files = FeatureFiles(whole / kind)
    count = len(files) // (1 + REPEATS)
    assert files.repeat.tolist() == np.repeat([0, 1, 2], count).tolist()
    assert sorted(set(files.episode)) == list(range(2 * (1 + REPEATS)))
    names = ("augment", "stamp_ns", "agentview.augment", "wrist.augment", "tokens", "mask")
    rows = [files.row(k, names) for k in range(len(files))]
    assert [int(row["augment"]) for row in rows] == files.repeat.tolist()
    assert [r["stamp_ns"] for r in rows[count : 2 * count]] == [r["stamp_ns"] for r in rows[:count]]
    changes = np.stack([row[f"{c.name}.augment"] for row in rows[count:] for c in CAMERAS])
    assert len(np.unique(changes, axis=0)) == len(changes)
    # The numbers of a row are complete: they make the same picture, and so the same tokens.
    with BagReader(bags[1]) as bag:
        images = {
            c.name: next(m for t, _, m in bag.messages([c.topic]) if t == c.topic) for c in CAMERAS
        }
    row = rows[int(np.argmax(files.episode == 3))]  # the second bag's first repeat
    prepared = pipeline.prepare(
        images,
        change=lambda camera, image: replace(
            image, pixels=applied(image.pixels, row[f"{camera}.augment"])
        ),
    )
    output = pipeline.encode(prepared)
    patches = pipeline.grid[0] * pipeline.grid[1]
    layout = files.layouts[0]
    for camera, own in zip(CAMERAS, range(len(CAMERAS))):
        group = next(g for g in layout.groups if g.name == f"{camera.name}/patch")
        assert group.stop - group.start == patches
        np.testing.assert_array_equal(
            row["tokens"][group.start : group.stop], output.patch_tokens[own]
        )


def test_a_bag_has_each_repeat_below_a_name_of_its_own(whole):
    with BagReader(whole / "mcap") as bag:
        counts = [
            bag.count(f"/vit_encoder{below}/tokens") for below in ("", "/augment_1", "/augment_2")
        ]
        assert len(set(counts)) == 1 and counts[0] > 0
        assert bag.count("/vit_encoder/augment_1/layout") >= 1
        assert "/vit_encoder/columns/wrist/augment" not in bag.topics
        (numbers,) = [
            np.frombuffer(bytes(m.data), np.float64)
            for _, _, m in bag.messages(["/vit_encoder/augment_2/columns/wrist/augment"])
        ][:1]
    files = FeatureFiles(whole / "parquet")
    row = files.row(int(np.argmax(files.repeat == 2)), ("wrist.augment",))
    np.testing.assert_array_equal(numbers, row["wrist.augment"])


def test_other_sources_and_their_order_change_nothing_and_another_seed_does(
    pipeline, bags, whole, tmp_path
):
    files = FeatureFiles(whole / "parquet")

    def rows(folder, repeat, episode_of_repeat):
        made = FeatureFiles(folder)
        episode = made.episode[np.flatnonzero(made.repeat == repeat)[0]] + episode_of_repeat
        return [
            made.row(int(k), ("tokens", "wrist.augment"))
            for k in np.flatnonzero(made.episode == episode)
        ]

    alone = repeated(pipeline, bags[1:], repeats=1)
    embed(pipeline, alone, tmp_path / "alone", EmbedOptions("parquet"))
    swapped = repeated(pipeline, bags[::-1], repeats=1)
    embed(pipeline, swapped, tmp_path / "swapped", EmbedOptions("safetensors", shard_frames=2))
    expected = rows(files.folder, 1, 1)
    assert len(expected) > 3
    for folder, place in (("alone", 0), ("swapped", 0)):
        for here, there in zip(rows(tmp_path / folder, 1, place), expected, strict=True):
            np.testing.assert_array_equal(here["tokens"], there["tokens"])
            np.testing.assert_array_equal(here["wrist.augment"], there["wrist.augment"])
    other = repeated(pipeline, bags[1:], repeats=1, seed=6)
    embed(pipeline, other, tmp_path / "other", EmbedOptions("parquet"))
    here = rows(tmp_path / "other", 1, 0)[0]["wrist.augment"]
    assert not np.array_equal(here, expected[0]["wrist.augment"])


@pytest.mark.parametrize("kind", FORMATS)
def test_an_interrupted_run_ends_with_the_very_same_files(pipeline, bags, whole, kind, tmp_path):
    class Stopped(Exception):
        pass

    def run(most):
        done = []

        def advance(results):
            done.append(results)
            if sum(done[1:]) > most:
                raise Stopped

        options = EmbedOptions(kind, shard_frames=3)
        embed(pipeline, repeated(pipeline, bags), tmp_path / "out", options, advance)

    for most in (4, 15, 17):
        with pytest.raises(Stopped):
            run(most)
    run(10**9)
    made, expected = contents(tmp_path / "out"), contents(whole / kind)
    assert made.keys() == expected.keys()
    assert [n for n in made if n != "journal.jsonl" and made[n] != expected[n]] == []
    with pytest.raises(InvalidValue, match="begun with other settings.*seed"):
        embed(
            pipeline,
            repeated(pipeline, bags, seed=6),
            tmp_path / "out",
            EmbedOptions(kind, shard_frames=3),
        )


def test_a_data_set_takes_repeats_or_leaves_them_out(whole):
    everything = FeatureDataset(whole / "parquet", history=2, columns=("augment",))
    clean = FeatureDataset(whole / "parquet", history=2, repeats=(0,))
    changed = FeatureDataset(whole / "parquet", history=2, columns=("augment",), repeats=(1, 2))
    assert len(everything) == len(clean) + len(changed) == 3 * len(clean)
    assert {int(a) for k in range(len(changed)) for a in changed[k]["augment"]} == {1, 2}
    with pytest.raises(InvalidValue, match="repeats has 3; there are: 0, 1, 2"):
        FeatureDataset(whole / "parquet", repeats=(3,))


@pytest.mark.parametrize("store", ["float16", "int8"])
def test_every_form_of_storing_has_them(bags, tiny_classifier, store, tmp_path):
    settings = settings_of(tiny_classifier)
    settings = replace(settings, output=replace(settings.output, dtype=store))
    stored = Pipeline.open(settings)
    embed(stored, repeated(stored, bags[:1], 1), tmp_path / "out", EmbedOptions("parquet"))
    stored.close()
    dataset = FeatureDataset(tmp_path / "out", columns=("wrist.augment",))
    halves = len(dataset) // 2
    assert not np.array_equal(dataset[0]["tokens"], dataset[halves]["tokens"])
    assert dataset[0]["stamps_ns"] == dataset[halves]["stamps_ns"]


def test_frames_of_a_lerobot_data_set_differ_also_at_the_same_time_of_their_episodes(
    tiny_checkpoint, tmp_path
):
    data_set(tmp_path / "set", "v3.0", video=False)
    source = LeRobotSource(tmp_path / "set")
    cameras = tuple(CameraSettings(c.name, c.key, "compressed") for c in source.cameras)
    single = Pipeline.open(settings_of(tiny_checkpoint, cameras, ()))
    made = Repeats(1, 0, Strengths()).of([source], single.settings)
    embed(single, made, tmp_path / "out", EmbedOptions("safetensors"))
    single.close()
    files = FeatureFiles(tmp_path / "out")
    name = f"{cameras[0].name}.augment"
    rows = [files.row(int(k), (name,))[name] for k in np.flatnonzero(files.repeat == 1)]
    assert len(rows) > 2 and len(np.unique(rows, axis=0)) == len(rows)


def test_what_cannot_be_augmented_is_refused_in_a_line(pipeline, bags, tmp_path):
    with pytest.raises(InvalidValue, match="augment is -1; accepted: 0 to 1000"):
        repeated(pipeline, bags, repeats=-1)
    with pytest.raises(InvalidValue, match="augment_seed is -1"):
        repeated(pipeline, bags, seed=-1)
    with pytest.raises(InvalidValue, match="augment is 0, and a seed or a strength is given"):
        repeated(pipeline, bags, repeats=0, seed=1)
    depth = replace(CAMERAS[0], depth_topic="/depth", camera_info_topic="/info")
    settings = replace(pipeline.settings, cameras=(depth, CAMERAS[1]))
    with pytest.raises(InvalidValue, match="crop=0.1.*cameras.agentview.depth_topic.*crop=0"):
        Repeats(1, 0, Strengths(crop=0.1)).of([], settings)

    class Own:
        """A source with a column of that name, as a LeRobot data set may have."""

        def identity(self):
            return {"kind": "own"}

        def total(self):
            return 1

        def results(self, pipeline, first, change=None):
            with BagReader(bags[0]) as bag:
                images = {c.name: next(iter(bag.messages([c.topic])))[2] for c in CAMERAS}
            result = encode_images(pipeline, images, "own", skips=None, change=None)
            yield SourceResult(0, 1, result, extras={"augment": np.zeros(2)})

    no_pose = replace(pipeline.settings, poses=())
    with pytest.raises(InvalidValue, match="augment: the source has a column augment of its own"):
        embed(
            pipeline,
            Repeats(1, 0, Strengths()).of([Own()], no_pose),
            tmp_path / "own",
            EmbedOptions("parquet"),
        )
