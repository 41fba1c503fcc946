"""History in recordings: the same windows from the node's pipeline, the data set and live
observations, also where a run was interrupted.
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from test.datasets.embed_runs import CAMERAS, settings_of
from test.datasets.lerobot.test_dataset import KEY, data_set
from test.datasets.test_encode_recording import looped
from vit_perception.config.history_settings import HistorySettings
from vit_perception.config.settings import CameraSettings, OutputSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource, PicturesSource
from vit_perception.datasets.lerobot.dataset import LeRobotSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.features import FeatureFiles
from vit_perception.policy.live import LiveDecoder, ObservationWindow
from vit_perception.recordings.reader import BagReader

STEPS = 4
STRIDE_S = 0.12  # of frames every 50 ms: each step's frame is another distance from its time
HISTORY = HistorySettings(frames=STEPS, stride_s=STRIDE_S)
FRAMES = 3 * 40


def opened(checkpoint, history=None, cameras=CAMERAS, **changes):
    """A pipeline with the demo's arm, or without one where its cameras are not the demo's."""
    settings = settings_of(checkpoint, cameras)
    poses = settings.poses if cameras is CAMERAS else ()
    history = history or HistorySettings()
    return Pipeline.open(replace(settings, poses=poses, history=history, **changes))


@pytest.fixture(scope="module")
def with_history(tiny_checkpoint):
    made = opened(tiny_checkpoint, HISTORY)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tiny_checkpoint, with_history, tmp_path_factory):
    """Three passes over 2 s of the demo, each after a step back in time: with and without."""
    folder = tmp_path_factory.mktemp("history")
    source = BagSource(looped(folder), CAMERAS[0].topic)
    plain = opened(tiny_checkpoint)
    for name, pipeline in (("plain", plain), ("history", with_history)):
        for kind in ("safetensors", "mcap"):
            out = folder / f"{name}_{kind}"
            embed(pipeline, [source], out, EmbedOptions(kind, shard_frames=17))
    plain.close()
    return folder


def same_window(one, other):
    """Whether two windows are equal to the bit, NaN included."""
    for name in ("tokens", "mask", "stamps_ns", "embedding"):
        if name in one and name in other:
            np.testing.assert_array_equal(one[name], np.asarray(other[name]))
    np.testing.assert_array_equal(one["poses"]["arm"], np.asarray(other["poses"]["arm"]))


def observations_of(folder):
    decoder = LiveDecoder(embedding=True)
    with BagReader(folder) as bag:
        found = [
            o for topic, _, m in bag.messages(list(bag.topics)) if (o := decoder.add(topic, m))
        ]
    assert decoder.incomplete == 0
    return found


def test_the_data_set_makes_the_windows_that_the_pipeline_sent(folder):
    data = FeatureDataset(folder / "plain_safetensors", history=STEPS, stride_s=STRIDE_S)
    sent = FeatureFiles(folder / "history_safetensors")
    layout = sent.layouts[0]
    assert len(data) == len(sent) == FRAMES and layout.history.frames == STEPS
    assert data.layouts_of_history == sent.layouts
    assert FeatureDataset(folder / "plain_safetensors").layouts_of_history == data.layouts
    missing = 0
    for k in range(FRAMES):
        row = sent.row(k, ("tokens", "mask", "history_stamps_ns"))
        item = data[k]
        np.testing.assert_array_equal(item["tokens"].numpy(), layout.steps(row["tokens"]))
        np.testing.assert_array_equal(item["mask"].numpy(), layout.steps(row["mask"]))
        np.testing.assert_array_equal(item["stamps_ns"].numpy(), row["history_stamps_ns"])
        lacks = item["stamps_ns"].numpy() == 0
        assert np.isnan(item["poses"]["arm"].numpy()).all(axis=1).tolist() == lacks.tolist()
        missing += lacks.sum()
    # 0.12, 0.24 and 0.36 s of frames every 0.05 s lack the first 2, 4 and 7 frames of each pass.
    assert missing == 3 * (2 + 4 + 7)


def test_live_observations_make_the_same_windows(folder):
    data = FeatureDataset(folder / "plain_safetensors", history=STEPS, stride_s=STRIDE_S)
    window = ObservationWindow(STEPS, stride_s=STRIDE_S)
    plain = observations_of(folder / "plain_mcap")
    history = observations_of(folder / "history_mcap")
    assert len(plain) == len(history) == FRAMES
    for k, (one, all_steps) in enumerate(zip(plain, history)):
        made = window.add(one)
        same_window(made, data[k])
        assert all_steps.stamp_ns == one.stamp_ns
        np.testing.assert_array_equal(all_steps.history_stamps_ns, made["stamps_ns"])
        np.testing.assert_array_equal(all_steps.layout.steps(all_steps.tokens), made["tokens"])
        np.testing.assert_array_equal(all_steps.layout.steps(all_steps.mask), made["mask"])
        assert one.history_stamps_ns is None


def test_files_without_history_are_those_of_a_pipeline_that_knows_none(folder):
    files = FeatureFiles(folder / "plain_safetensors")
    assert "history_stamps_ns" not in files.columns
    assert "history" not in files.manifest["run"]["settings"]
    assert not any("history" in layout for layout in files.manifest["layouts"])
    with BagReader(folder / "plain_mcap") as bag:
        assert "/vit_encoder/history_stamps" not in bag.topics
    sent = FeatureFiles(folder / "history_safetensors").manifest["run"]["settings"]["history"]
    assert sent == {"frames": STEPS, "stride_s": STRIDE_S, "tolerance_s": 0.0}


def test_windows_of_windows_are_refused(folder):
    with pytest.raises(ValueError, match=r"^stride_s is given, .*have a history already; accepted"):
        FeatureDataset(folder / "history_safetensors", history=2, stride_s=0.1)
    # By count they are windows as ever: of rows with their history.
    data = FeatureDataset(folder / "history_safetensors", history=2)
    assert data[0]["tokens"].shape[:2] == (2, STEPS * 35)


@pytest.mark.parametrize("made", [ObservationWindow, FeatureDataset])
@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"history": 0, "stride_s": 0.1}, "history is 0"),
        ({"history": 40, "stride_s": 0.1}, "history is 40; accepted: 1 to 32"),
        ({"history": 2, "stride_s": 0.0}, "stride_s is 0.0; accepted: 0.001 to 10 s"),
        ({"history": 2, "stride_s": float("nan")}, "stride_s is nan; accepted"),
        ({"history": 2, "stride_s": -1.0}, "stride_s is -1.0; accepted"),
        ({"history": 2, "stride_s": 0.1, "tolerance_s": 0.2}, "tolerance_s is 0.2; accepted"),
        ({"history": 2, "stride": 2, "stride_s": 0.1}, "stride is 2 beside a stride_s; accepted"),
    ],
)
def test_windows_by_age_that_cannot_be_are_refused(folder, made, arguments, said):
    place = [folder / "plain_safetensors"] if made is FeatureDataset else []
    with pytest.raises(ValueError, match=f"^{said}") as caught:
        made(*place, **arguments)
    assert "\n" not in str(caught.value)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def interrupted(pipeline, source, out, options, at):
    """Embed ``source``, with one interruption after ``at`` results."""
    done = 0

    def stops(results):
        nonlocal done
        done += results
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(pipeline, [source], out, options, stops)
    return embed(pipeline, [source], out, options)


@pytest.mark.parametrize("at", [18, 36, 44, 90])
def test_a_run_that_was_interrupted_has_the_same_history(with_history, folder, tmp_path, at):
    """At a shard's border, in the middle, and just after a step back in time (frame 40)."""
    source = BagSource(folder / "looped", CAMERAS[0].topic)
    options = EmbedOptions("safetensors", shard_frames=17)
    interrupted(with_history, source, tmp_path / "out", options, at)
    assert contents(tmp_path / "out") == contents(folder / "history_safetensors")


def test_only_the_frames_of_the_history_are_encoded_again(with_history, folder, monkeypatch):
    encoded = []
    encode = Pipeline.encode

    def counted(pipeline, prepared):
        encoded.append(prepared.first.stamp_ns)
        return encode(pipeline, prepared)

    monkeypatch.setattr(Pipeline, "encode", counted)
    source = BagSource(folder / "looped", CAMERAS[0].topic)
    results = [r.index for r in source.results(with_history, 30)]
    assert results == list(range(30, FRAMES))
    # 0.36 s, half a stride and twice the slop of 0.02 s are nine frames of 0.05 s.
    assert len(encoded) == FRAMES - 30 + 9


@pytest.fixture(scope="module")
def of_one_camera(tiny_checkpoint):
    made = opened(
        tiny_checkpoint,
        HistorySettings(frames=3, stride_s=0.1),
        (CameraSettings("camera", "pictures", "compressed"),),
        output=OutputSettings("float16"),
    )
    yield made
    made.close()


def test_pictures_of_two_sizes_are_never_in_one_window(of_one_camera, tiny_checkpoint, tmp_path):
    (tmp_path / "pictures").mkdir()
    for k, size in enumerate([(40, 60)] * 3 + [(30, 50)] * 2 + [(40, 60)] * 3):
        picture = np.full((*size, 3), 30 * k, np.uint8)
        cv2.imwrite(str(tmp_path / f"pictures/{k}.png"), picture)
    source = PicturesSource(tmp_path / "pictures", "camera")
    plain = opened(
        tiny_checkpoint,
        cameras=(CameraSettings("camera", "pictures", "compressed"),),
        output=OutputSettings("float16"),
    )
    options = EmbedOptions("parquet", shard_frames=3)
    embed(plain, [source], tmp_path / "plain", options)
    plain.close()
    embed(of_one_camera, [source], tmp_path / "history", options)
    interrupted(of_one_camera, source, tmp_path / "again", options, at=7)
    assert contents(tmp_path / "again") == contents(tmp_path / "history")
    sent = FeatureFiles(tmp_path / "history")
    data = FeatureDataset(tmp_path / "plain", history=3, stride_s=0.1)
    steps = []
    for k in range(8):
        row = sent.row(k, ("tokens", "history_stamps_ns"))
        np.testing.assert_array_equal(row["history_stamps_ns"], data[k]["stamps_ns"].numpy())
        tokens = sent.layouts[0].steps(row["tokens"])
        np.testing.assert_array_equal(tokens, data[k]["tokens"].numpy())
        steps.append([int(s) // 10**8 - 1 if s else None for s in row["history_stamps_ns"]])
    assert steps == [
        [None, None, 0],
        [None, 0, 1],
        [0, 1, 2],
        [None, None, 3],
        [None, 3, 4],
        # The size is again that of the pictures before the last two.
        [None, None, 5],
        [None, 5, 6],
        [5, 6, 7],
    ]


@pytest.mark.parametrize("at", [3, 5, 6])
def test_an_episode_of_lerobot_begins_without_history(tiny_checkpoint, tmp_path, at):
    """Two episodes of 4 and 3 frames, 0.1 s apart; the second begins anew at 1 s."""
    source = LeRobotSource(data_set(tmp_path / "set", "v3.0", False))
    pipeline = opened(
        tiny_checkpoint,
        HistorySettings(frames=3, stride_s=0.1),
        (CameraSettings("top", KEY, "compressed"),),
    )
    options = EmbedOptions("parquet", shard_frames=2)
    embed(pipeline, [source], tmp_path / "whole", options)
    interrupted(pipeline, source, tmp_path / "again", options, at)
    pipeline.close()
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    files = FeatureFiles(tmp_path / "whole")
    found = [files.row(k, ("history_stamps_ns",))["history_stamps_ns"] for k in range(7)]
    assert [(row > 0).sum() for row in found] == [1, 2, 3, 3, 1, 2, 3]


def test_a_stride_below_the_period_of_the_recording_is_said_once(
    tiny_checkpoint, folder, tmp_path, caplog
):
    pipeline = opened(tiny_checkpoint, HistorySettings(frames=2, stride_s=0.02))
    source = BagSource(folder / "looped", CAMERAS[0].topic)
    embed(pipeline, [source], tmp_path / "out", EmbedOptions("parquet"))
    pipeline.close()
    said = [r.getMessage() for r in caplog.records if "history.stride_s" in r.getMessage()]
    assert len(said) == 1 and "frames come every 0.05 s" in said[0]
