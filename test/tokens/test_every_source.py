"""Every token source reaches sequence, mask, layout, embedding, bag, columns, data set and live
decoder.

The barometer is a kind of source that this file alone defines: nothing else knows of it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.output_messages import cdr_of
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import LiveDecoder
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.tokens import source as token_source
from vit_perception.tokens.source import DerivedSource, SampledSource
from vit_perception.tokens.wrench import WrenchSettings
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import Sample
from vit_perception.wire.stamps import header_fields, stamp_ns_of
from vit_perception.wire.tensors import encode_view
from vit_perception.wire.topics import IMAGE_TYPE, image_fields

MS = 1_000_000
STAMP_NS = 7_000_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@dataclass(frozen=True)
class BarometerSettings:
    """One barometer."""

    name: str
    topic: str
    wait_s: float = 0.02
    max_skew_s: float = 0.05


class BarometerSource(SampledSource):
    """Air pressure and its variance, in Pa."""

    group = "barometers"
    label = "barometer"
    kind = "pressure"
    sample_label = "pressure"
    type = "sensor_msgs/msg/FluidPressure"
    fields = ("fluid_pressure", "variance")

    def sample_of(self, message: Any) -> Sample:
        numbers = np.array([message.fluid_pressure, message.variance])
        return Sample(numbers, stamp_ns_of(message.header), message.header.frame_id)


class Example(NamedTuple):
    """One source, a message of it, and the numbers that the message holds."""

    settings: dict[str, Any]
    name: str
    fields: dict[str, Any]
    numbers: list[float]


EXAMPLES = {
    "poses": Example(
        {"poses": (PoseSettings("arm", "/sensor", "base"),)},
        "arm",
        {"pose": {"position": {"x": 1.0, "y": 2.0, "z": 3.0}, "orientation": {"w": 1.0}}},
        [1, 2, 3, 0, 0, 0, 1],
    ),
    "states": Example(
        {"states": (StateSettings("hand", "/sensor", ("left", "right")),)},
        "hand",
        {"name": ["right", "left"], "position": np.array([0.2, 0.1])},
        [0.1, 0.2],
    ),
    "wrenches": Example(
        {"extra": {"wrenches": (WrenchSettings("wrist_force", "/sensor", "base"),)}},
        "wrist_force",
        {"wrench": {"force": {"x": 5.0, "z": -20.0}, "torque": {"y": 0.5}}},
        [5, 0, -20, 0, 0.5, 0],
    ),
    "barometers": Example(
        {"extra": {"barometers": (BarometerSettings("air", "/sensor"),)}},
        "air",
        {"fluid_pressure": 3.0, "variance": 0.25},
        [3, 0.25],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def barometer():
    """The kind is there while this file's tests run."""
    yield token_source.register(BarometerSource)
    token_source.unregister(BarometerSource)


def test_every_kind_has_an_example():
    """Those that are made of others have tests of their own, such as test_policy_state.py."""
    kinds = token_source.registered()
    groups = [kind.group for kind in kinds if not issubclass(kind, DerivedSource)]
    assert groups[:3] == ["cameras", "poses", "states"]
    assert sorted(groups) == sorted(["cameras", *EXAMPLES])


def test_a_second_kind_of_the_same_group_is_refused():
    with pytest.raises(InvalidValue, match="barometers"):
        token_source.register(BarometerSource)


class Reached(NamedTuple):
    """What `embed` made of a bag in which the source is there for the first image alone."""

    example: Example
    kind: type[SampledSource]
    layout: Layout
    folder: Any


@pytest.fixture(scope="module", params=EXAMPLES)
def reached(request, tmp_path_factory, tiny_checkpoint):
    example, folder = EXAMPLES[request.param], tmp_path_factory.mktemp("reached")
    kind = next(k for k in token_source.registered() if k.group == request.param)
    with BagWriter(folder / "bag") as bag:
        for after_ms in (-10, 0, 10, 500):
            stamp_ns = STAMP_NS + after_ms * MS
            header = header_fields(stamp_ns, "base")
            if after_ms in (0, 500):
                fields = image_fields(header, encode_view(PIXELS))
                bag.write("/a", IMAGE_TYPE, cdr_of(IMAGE_TYPE, fields), stamp_ns)
            else:
                fields = {"header": header, **example.fields}
                bag.write("/sensor", kind.type, cdr_of(kind.type, fields), stamp_ns)
    pipeline = Pipeline.open(
        EncoderSettings(
            cameras=(CameraSettings("a", "/a"),),
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
            **example.settings,
        )
    )
    for file_format in ("mcap", "safetensors"):
        options = EmbedOptions(file_format)
        embed(pipeline, [BagSource(folder / "bag", "/a")], folder / file_format, options)
    yield Reached(example, kind, pipeline.layout(), folder)
    pipeline.close()


def test_layout_names_its_rows_topic_and_numbers(reached):
    layout, name, kind = reached.layout, reached.example.name, reached.kind
    assert [g.name for g in layout.groups] == ["a/cls", "a/patch", f"{name}/{kind.kind}"]
    assert [(s.name, s.group, s.type) for s in layout.samples] == [(name, kind.group, kind.type)]
    assert layout.samples[0].count == len(reached.example.numbers)
    assert Layout.from_json(layout.to_json()) == layout


def test_columns_tokens_mask_embedding_and_data_set_have_it(reached):
    data = FeatureDataset(reached.folder / "safetensors")
    name, kind = reached.example.name, reached.kind.kind
    columns = (f"{name}.{kind}", f"{name}.{kind}_status", f"{name}.skew_ns", "tokens", "mask")
    np.testing.assert_array_equal(data.files.row(0, ("a.cls",))["a.cls"], data[0]["tokens"][0, 0])
    there, missing = (data.files.row(index, (*columns, "embedding")) for index in range(2))
    np.testing.assert_allclose(there[f"{name}.{kind}"], reached.example.numbers)
    assert (there[f"{name}.{kind}_status"], there[f"{name}.skew_ns"]) == (2, 10 * MS)
    assert there["mask"].all() and there["tokens"][-1].any()
    width = reached.layout.width
    np.testing.assert_array_equal(there["embedding"][-width:], there["tokens"][-1])
    assert len(there["embedding"]) == reached.layout.embedding_width == 2 * width
    assert np.isnan(missing[f"{name}.{kind}"]).all()
    assert missing["mask"].tolist() == [*[True] * (len(there["mask"]) - 1), False]
    assert not missing["tokens"][-1].any() and not missing["embedding"][-width:].any()
    item = data[0][reached.kind.group][name]
    np.testing.assert_allclose(item.numpy(), [reached.example.numbers])


def test_live_decoder_reads_it_from_the_bag_that_embed_wrote(reached):
    expected = FeatureDataset(reached.folder / "safetensors").layouts
    decoder, observations = LiveDecoder("/vit_encoder", expected), []
    name, kind = reached.example.name, reached.kind
    with BagReader(reached.folder / "mcap") as bag:
        assert bag.type_of(f"/vit_encoder/{name}/{kind.kind}_at_image") == kind.type
        for topic, _, message in bag.messages(list(bag.topics)):
            observations.append(decoder.add(topic, message))
    there, missing = filter(None, observations)
    np.testing.assert_allclose(there.samples[kind.group][name], reached.example.numbers)
    assert there.mask.all() and not missing.mask[-1]
    assert np.isnan(missing.samples[kind.group][name]).all()
    assert f"/vit_encoder/{name}/{kind.kind}_at_image" in decoder.topics
