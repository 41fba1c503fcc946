"""Queries from pictures, frames, bags and texts: encoded as the frames were, or refused."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from test.conftest import DEMO_BAG, TRAIN_BAG
from test.datasets.embed_runs import CAMERAS, settings_of
from test.datasets.search.stored import demo_features, embedded, hand_made  # noqa: F401
from test.text_models import clip_folder, siglip_folder
from vit_perception.config.settings import CameraSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import PicturesSource
from vit_perception.datasets.search.encode_query import QueryEncoder
from vit_perception.datasets.search.exact import exact_hits
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.frame_times import frame_list, frame_time, stored_frame
from vit_perception.datasets.search.originals import Originals, image_at
from vit_perception.datasets.search.patch_places import Box, places_of_frame
from vit_perception.datasets.search.queries import Part, frame_queries, text_queries
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def features(demo_features):
    return FeatureSet([demo_features])


@pytest.fixture
def encoder(features):
    made = QueryEncoder(features)
    yield made
    made.close()


def wrist_picture(features, frame, path):
    """The image of a frame as it was recorded, byte for byte."""
    image = Originals(features, [DEMO_BAG.parent]).of(frame, "wrist").image
    assert cv2.imwrite(str(path), image.pixels[..., ::-1])
    return path


def test_a_frame_of_the_features_is_its_stored_vectors_and_needs_no_model(features, tmp_path):
    encoder = QueryEncoder(features, checkpoint=str(tmp_path / "nowhere"))
    made = frame_queries(features, encoder, [frame_time("pick_place_demo@3.21")], [], Part())
    assert made.queries.frames == (364,) and features.name_of(364).time_s == 3.2
    np.testing.assert_array_equal(made.queries.vectors, features.vectors(364))
    assert [asked.camera for asked in made.asked] == ["agentview", "wrist"]
    stamp_ns = features.name_of(364).stamp_ns
    at_stamp = frame_time(f"some/where/pick_place_demo@{stamp_ns + 1000}ns")
    assert stored_frame(features, at_stamp) == 364


def test_a_picture_is_encoded_as_embed_encoded_the_frame(features, encoder, tmp_path):
    path = wrist_picture(features, 364, tmp_path / "wrist.png")
    made = frame_queries(features, encoder, [], [path], Part())
    expected = features.vectors(364, ("wrist",))
    np.testing.assert_allclose(made.queries.vectors, expected, atol=1e-5)
    hit = next(exact_hits(features, made.queries.vectors))
    assert (hit.frame, hit.camera) == (364, "wrist") and hit.distance < 1e-5
    whole = frame_queries(features, encoder, [], [path], Part(regions=True))
    box = Part(regions=True, box=Box(100, 60, 220, 180))
    part = frame_queries(features, encoder, [], [path], box)
    stored = frame_queries(
        FeatureSet([features.folders[0].folder], ["wrist"]),
        encoder,
        [frame_time("pick_place_demo@3.2")],
        [],
        box,
    )
    np.testing.assert_allclose(part.queries.vectors, stored.queries.vectors, atol=1e-5)
    assert np.abs(whole.queries.vectors - part.queries.vectors).max() > 1e-3


def test_a_frame_of_a_bag_that_is_not_in_the_features_is_encoded(tiny_checkpoint, tmp_path):
    folder = embedded(tiny_checkpoint, tmp_path / "train", [TRAIN_BAG], features=("cls",))
    features = FeatureSet([folder])
    encoder = QueryEncoder(features)
    made = frame_queries(features, encoder, [frame_time(f"{DEMO_BAG}@3.2")], [], Part())
    both = FeatureSet([embedded(tiny_checkpoint, tmp_path / "demo", [DEMO_BAG])])
    np.testing.assert_allclose(made.queries.vectors, both.vectors(64), atol=1e-5)
    assert made.queries.frames == ()
    with pytest.raises(InvalidValue, match="has no image on .* within 0.5 s of it"):
        frame_queries(features, encoder, [frame_time(f"{DEMO_BAG}@90")], [], Part())
    with pytest.raises(InvalidValue, match="no recording nowhere/bag in the features or at that"):
        frame_queries(features, encoder, [frame_time("nowhere/bag@1")], [], Part())
    encoder.close()


def test_another_checkpoint_is_refused_with_both_digests(features, tiny_second, tmp_path):
    encoder = QueryEncoder(features, checkpoint=str(tiny_second))
    picture = wrist_picture(features, 300, tmp_path / "a.png")
    with pytest.raises(InvalidValue) as refused:
        frame_queries(features, encoder, [], [picture], Part())
    said = refused.value.for_command_line()
    assert f"is encoder {''.join(said.split('is encoder ')[1][:16])}" in said
    assert features.encoder_sha256[:16] in said and "--checkpoint says where" in said
    encoder = QueryEncoder(features, checkpoint=str(tmp_path / "gone"))
    with pytest.raises(InvalidValue, match="does not exist.*\nhint: checkpoint says where"):
        frame_queries(features, encoder, [], [picture], Part())


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.gif", b"GIF89a", "is no picture's name; accepted: a .jpg"),
        ("a.jpg", b"GIF89a", "image: .*a.jpg: "),
        ("a.png", b"", "image: .*a.png: "),
        ("none.png", None, "does not exist; accepted: a .jpg"),
    ],
)
def test_a_picture_that_is_none_is_named(features, encoder, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidValue, match=said) as refused:
        frame_queries(features, encoder, [], [tmp_path / name], Part())
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["bag", "@3", "bag@", "bag@x", "bag@-1", "bag@1e9", "bag@nan", "bag@3ms", "bag@1.2ns"]
)
def test_what_is_no_frame_is_named(text):
    with pytest.raises(InvalidValue, match="accepted: BAG@TIME"):
        frame_time(text)


def test_a_time_without_a_frame_and_a_name_that_is_there_twice(features, tmp_path):
    with pytest.raises(InvalidValue, match=r"within 0.5 s of it; accepted: 0 to 7.450 s"):
        stored_frame(features, frame_time("pick_place_demo@9"))
    with pytest.raises(InvalidValue, match="within 0.5 s"):
        stored_frame(features, frame_time(f"pick_place_demo@{10**19 - 1}ns"))
    assert stored_frame(features, frame_time("other@1")) is None
    vectors = np.ones((6, 1, 8))
    twice = FeatureSet([hand_made(tmp_path / k, vectors, names=("day",)) for k in "ab"])
    with pytest.raises(InvalidValue, match="2 recordings have that name; accepted: a stamp"):
        stored_frame(twice, frame_time("day@0.1"))
    assert stored_frame(twice, frame_time("day@1200000000ns")) == 2


def test_a_list_of_frames(tmp_path):
    path = tmp_path / "failures.txt"
    path.write_text("# monday\nbag@1.5\n\n  /data/bag two@7ns\n")
    assert [(f.bag.name, f.time_s, f.stamp_ns) for f in frame_list(path)] == [
        ("bag", 1.5, None),
        ("bag two", None, 7),
    ]
    for content, said in (
        (b"# nothing", "holds 0 frames; accepted: 1 to 1000"),
        (b"bag@1\n" * 1001, "holds 1001 frames"),
        (b"\xff\xfe", "cannot be read as text"),
        (b"bag@1\nbag at 2\n", "frames is 'bag at 2'; accepted: BAG@TIME"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidValue, match=said):
            frame_list(path)


def test_patches_lie_where_the_layout_says(features):
    places = places_of_frame(features, 0, "wrist")
    # 240 x 320 px, of which the middle square of 240 is seen by 4 x 4 patches.
    assert places.grid == (4, 4)
    box = places.box(5)
    np.testing.assert_allclose(
        [box.left, box.top, box.right, box.bottom], [100, 60, 160, 120], atol=1
    )
    assert places.inside(Box(100, 60, 160, 120)).tolist() == [5]
    assert places.inside(Box(100, 60, 220, 180)).tolist() == [5, 6, 9, 10]
    assert places.inside(Box(101, 61, 103, 63)).tolist() == [5]
    with pytest.raises(InvalidValue, match=r"box is 0 0 10 10, and no patch .* x 38.9"):
        places.inside(Box(0, 0, 10, 10))


def test_originals_are_those_that_were_embedded(features, tmp_path):
    found = Originals(features, [DEMO_BAG.parent]).of(364, "wrist")
    stamp_ns = features.name_of(364).stamp_ns
    expected = image_at(DEMO_BAG, CAMERAS[1].topic, stamp_ns)
    np.testing.assert_array_equal(found.image.pixels, expected.pixels)
    assert Originals(features, [tmp_path]).of(0, "wrist").why == "pick_place_train was not found"
    (tmp_path / "pick_place_train").symlink_to(DEMO_BAG)
    why = Originals(features, [tmp_path]).of(0, "wrist").why
    assert why == "pick_place_train was found with another content than was embedded"


@pytest.mark.parametrize("write", [clip_folder, siglip_folder])
def test_texts_find_what_the_model_of_transformers_finds(write, tmp_path):
    model = write(tmp_path / "model")
    settings = replace(settings_of(tmp_path / "model"), cameras=CAMERAS[1:], poses=())
    folder = embedded(None, tmp_path / "f", [DEMO_BAG], settings=settings, features=("cls",))
    features = FeatureSet([folder])
    encoder = QueryEncoder(features)
    texts = ["a red can", "an empty table"]
    made = text_queries(encoder, texts)
    kept = ("input_ids", "attention_mask")
    padding = {} if write is clip_folder else {"padding": "max_length", "max_length": 40}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text, vector in zip(texts, made.queries.vectors):
        tokens = tokenizer([text], return_tensors="pt", **padding)
        with torch.no_grad():
            found = model.get_text_features(**{n: v for n, v in tokens.items() if n in kept})
        wanted = getattr(found, "pooler_output", found)[0].numpy()
        np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), atol=1e-4)
    # As the model compares a text with a picture: the projection comes before the lengths.
    hit = next(exact_hits(features, made.queries.vectors[:1], made.queries.projection))
    pooled = features.folders[0].row(hit.frame, ("wrist.cls",))["wrist.cls"]
    if write is clip_folder:
        assert made.queries.space == "text"
        pooled = model.visual_projection.weight.detach().numpy() @ pooled
    cosine = made.queries.vectors[0] @ pooled / np.linalg.norm(pooled)
    assert hit.distance == pytest.approx(1 - cosine, abs=1e-5)
    with pytest.raises(InvalidValue, match="text is ' '; accepted: words"):
        text_queries(encoder, [" "])
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        (tmp_path / "model" / file).unlink(missing_ok=True)
    with pytest.raises(InvalidValue, match="which texts as queries need"):
        text_queries(QueryEncoder(features), texts)


def test_an_encoder_without_texts_and_settings_that_lack_are_named(features, tmp_path):
    with pytest.raises(InvalidValue, match=r"text is given, and tiny_dinov2.* has no text tower"):
        text_queries(QueryEncoder(features), ["a can"])
    folder = hand_made(tmp_path / "f", np.ones((2, 1, 8)))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["run"]["settings"]["model"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidValue, match="does not say the settings of its model"):
        QueryEncoder(FeatureSet([folder]))


def test_a_region_of_interest_is_cut_from_the_query_as_from_the_frames(tiny_checkpoint, tmp_path):
    camera = replace(CAMERAS[1], roi=(20, 10, 200, 180))
    settings = settings_of(tiny_checkpoint, cameras=(camera,), arms=())
    folder = embedded(None, tmp_path / "f", [DEMO_BAG], settings=settings, features=("cls",))
    features = FeatureSet([folder])
    encoder = QueryEncoder(features)
    made = frame_queries(features, encoder, [frame_time(f"{DEMO_BAG}@3.2")], [], Part())
    picture = wrist_picture(features, 64, tmp_path / "wrist.png")
    of_picture = frame_queries(features, encoder, [], [picture], Part())
    np.testing.assert_allclose(of_picture.queries.vectors, features.vectors(64), atol=1e-5)
    np.testing.assert_array_equal(made.queries.vectors, features.vectors(64))
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(InvalidValue, match=r"image is .*small.png': .*50 x 60|roi"):
        frame_queries(features, encoder, [], [tmp_path / "small.png"], Part())
    encoder.close()


def test_pictures_of_a_folder_are_found_again(tiny_checkpoint, tmp_path):
    folder = tmp_path / "day"
    folder.mkdir()
    for k in range(3):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((40, 50, 3), 60 * k, np.uint8))
    camera = CameraSettings("camera", "pictures", "compressed")
    pipeline = Pipeline.open(settings_of(tiny_checkpoint, cameras=(camera,), arms=()))
    embed(pipeline, [PicturesSource(folder, "camera")], tmp_path / "f", EmbedOptions("parquet"))
    pipeline.close()
    features = FeatureSet([tmp_path / "f"])
    assert (Originals(features, [tmp_path]).of(2, "camera").image.pixels == 120).all()
    assert stored_frame(features, frame_time("day@0.1")) == 1
    (folder / "0.png").unlink()
    assert "another content" in Originals(features, [tmp_path]).of(2, "camera").why
