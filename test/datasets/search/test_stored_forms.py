"""Every form in which `embed` stores vectors gives the same ones, of real bags."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import CAMERAS, settings_of
from test.datasets.search.stored import demo_features, embedded, hand_made  # noqa: F401
from vit_perception.config.settings import HistorySettings, OutputSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.learn_basis import learn_basis
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.basis_file import save_basis
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

FRAMES = 40


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory):
    """The first 40 frames of the demo bag."""
    out = tmp_path_factory.mktemp("short") / "short"
    with BagReader(DEMO_BAG) as bag, BagWriter(out) as writer:
        for message in bag.raw(list(bag.topics), stop_ns=bag.start_ns + FRAMES * 50_000_000):
            writer.write(message.topic, message.type_name, message.data, message.stamp_ns)
    return out


@pytest.fixture(scope="module")
def float32(short_bag, tiny_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("float32") / "features"
    features = ("tokens", "embedding", "cls", "patch")
    return embedded(tiny_checkpoint, out, [short_bag], features=features)


def all_of(features):
    return np.concatenate([vectors for _, vectors in features.blocks()])


def close(one, other, least):
    assert one.shape == other.shape == (FRAMES, 2, 64)
    assert (one * other).sum(axis=-1).min() > least


@pytest.mark.parametrize(
    "chosen", [("tokens",), ("embedding",), ("cls",)], ids=lambda chosen: chosen[0]
)
def test_tokens_embedding_and_cls_alone_hold_the_same_vectors(
    float32, short_bag, tiny_checkpoint, tmp_path, chosen
):
    made = FeatureSet([embedded(tiny_checkpoint, tmp_path / "f", [short_bag], features=chosen)])
    whole = FeatureSet([float32])
    np.testing.assert_array_equal(all_of(made), all_of(whole))
    np.testing.assert_array_equal(made.vectors(7, ("wrist",)), whole.vectors(7)[1:])
    np.testing.assert_allclose(np.linalg.norm(all_of(made), axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("dtype, least", [("float16", 0.99999), ("int8", 0.999)])
@pytest.mark.parametrize("chosen", [("tokens",), ("cls", "patch")], ids=lambda chosen: chosen[0])
def test_float16_and_int8_are_restored(
    float32, short_bag, tiny_checkpoint, tmp_path, dtype, least, chosen
):
    settings = replace(settings_of(tiny_checkpoint), output=OutputSettings(dtype))
    out = embedded(tiny_checkpoint, tmp_path / "f", [short_bag], settings=settings, features=chosen)
    whole, made = FeatureSet([float32]), FeatureSet([out])
    close(all_of(made), all_of(whole), least)
    expected = whole.patches(11, "wrist")
    assert (made.patches(11, "wrist") * expected).sum(axis=-1).min() > least
    ((_, first), *_) = made.patch_blocks()
    np.testing.assert_array_equal(first[3, 1], made.patches(3, "wrist"))


@pytest.mark.parametrize("chosen", [("tokens",), ("cls", "patch")], ids=lambda chosen: chosen[0])
def test_a_basis_and_a_history_are_restored(float32, short_bag, tiny_checkpoint, tmp_path, chosen):
    learnt = learn_basis(FeatureFiles(float32), 32)
    save_basis(tmp_path / "basis.safetensors", learnt.basis, "tiny")
    settings = replace(
        settings_of(tiny_checkpoint),
        output=OutputSettings(basis=str(tmp_path / "basis.safetensors")),
        history=HistorySettings(frames=3, stride_s=0.1),
    )
    out = embedded(tiny_checkpoint, tmp_path / "f", [short_bag], settings=settings, features=chosen)
    whole, made = FeatureSet([float32]), FeatureSet([out])
    close(all_of(made), all_of(whole), 0.99999)  # CLS tokens are not reduced
    expected = whole.patches(11, "wrist")
    assert (made.patches(11, "wrist") * expected).sum(axis=-1).min() > 0.9
    ((_, first), *_) = made.patch_blocks()
    np.testing.assert_allclose(first[3, 1], made.patches(3, "wrist"), atol=1e-6)


def test_safetensors_and_blocks_of_any_size(
    float32, short_bag, tiny_checkpoint, tmp_path, monkeypatch
):
    pipeline = Pipeline.open(settings_of(tiny_checkpoint))
    options = EmbedOptions("safetensors", features=("tokens",), shard_frames=16)
    embed(pipeline, [BagSource(short_bag, CAMERAS[0].topic)], tmp_path / "f", options)
    pipeline.close()
    expected = all_of(FeatureSet([float32]))
    for size in (1, 50_000, 1 << 30):
        monkeypatch.setattr("vit_perception.policy.features.BLOCK_BYTES", size)
        np.testing.assert_array_equal(all_of(FeatureSet([tmp_path / "f"])), expected)


def test_of_several_encoders_one_is_named(
    short_bag, tiny_checkpoint, tiny_second, float32, tmp_path
):
    settings = settings_of(tiny_checkpoint)
    model = replace(settings.model, more_checkpoints=(str(tiny_second),))
    two = replace(settings, model=model)
    for chosen in (("tokens", "cls"), ("embedding",)):
        out = embedded(
            tiny_checkpoint, tmp_path / chosen[0], [short_bag], settings=two, features=chosen
        )
        with pytest.raises(InvalidValue, match=r"encoder is not given.*accepted: one of them"):
            FeatureSet([out])
        names = [e.name for e in FeatureFiles(out).layouts[0].encoders]
        with pytest.raises(InvalidValue, match="encoder is 'tiny'"):
            FeatureSet([out], encoder="tiny")
        first, second = (FeatureSet([out], encoder=name) for name in names)
        np.testing.assert_array_equal(all_of(first), all_of(FeatureSet([float32])))
        assert first.encoder_sha256 != second.encoder_sha256
        alone = embedded(tiny_second, tmp_path / f"alone {chosen[0]}", [short_bag])
        np.testing.assert_allclose(all_of(second), all_of(FeatureSet([alone])), atol=1e-6)
    with pytest.raises(InvalidValue, match="encoder is 'x'.*accepted: without it"):
        FeatureSet([float32], encoder="x")


def test_folders_that_do_not_belong_together_are_refused(float32, tmp_path):
    own = FeatureFiles(float32).layouts[0]
    other = hand_made(tmp_path / "other", np.ones((3, 2, 64)), cameras=("agentview", "wrist"))
    with pytest.raises(InvalidValue, match=f"is of encoder eeee.* of {own.encoder_sha256[:16]}"):
        FeatureSet([float32, other])
    given = {"encoder_sha256": own.encoder_sha256}
    other = hand_made(tmp_path / "cameras", np.ones((3, 1, 64)), cameras=("top",), **given)
    with pytest.raises(InvalidValue, match="has the cameras top and .* agentview, wrist"):
        FeatureSet([float32, other])
    with pytest.raises(InvalidValue, match="camera is 'wirst'.*\nhint: did you mean 'wrist'"):
        FeatureSet([float32], cameras=["wirst"])


def copy_with(folder, out, **changes):
    shutil.copytree(folder, out)
    manifest = json.loads((out / "manifest.json").read_text())
    for change in changes.values():
        change(manifest)
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def mixed(manifest):
    manifest["layouts"].append({**manifest["layouts"][0], "block": 0})


def fused(manifest):
    manifest["layouts"][0]["fusion"] = "cross_attention"


def test_what_cannot_be_searched_is_one_line(float32, tmp_path, short_bag, tiny_checkpoint):
    with pytest.raises(InvalidValue, match="layout 1 is not that of layout 0: block is 0"):
        FeatureSet([copy_with(float32, tmp_path / "mixed", change=mixed)])
    only = embedded(tiny_checkpoint, tmp_path / "only", [short_bag], features=("embedding",))
    features = FeatureSet([copy_with(only, tmp_path / "fused", change=fused)])
    with pytest.raises(InvalidValue, match="only the embedding of a cross_attention fusion"):
        features.vectors(0)
    patches = embedded(tiny_checkpoint, tmp_path / "patches", [short_bag], features=("patch",))
    with pytest.raises(InvalidValue, match="has no CLS vectors; accepted: features with cls"):
        list(FeatureSet([patches]).blocks())
    with pytest.raises(InvalidValue, match="has no manifest.json"):
        FeatureSet([tmp_path])


@pytest.mark.parametrize("how", ["cut", "empty", "zeros", "gone", "another", "manifest"])
def test_a_broken_file_is_named(float32, tmp_path, how):
    out = shutil.copytree(float32, tmp_path / "f")
    path = out / "features_000000.parquet"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "zeros":
        path.write_bytes(bytes(path.stat().st_size))
    elif how == "gone":
        path.unlink()
    elif how == "another":
        path.write_bytes(path.read_bytes() + b"more")
    else:
        path = out / "manifest.json"
        path.write_text(path.read_text()[:300])
    with pytest.raises(InvalidValue, match=path.name) as refused:
        FeatureSet([out])
    assert len(str(refused.value).splitlines()) == 1
