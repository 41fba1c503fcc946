"""The policy's state token in embedded bags, data sets and the live decoder."""

from types import SimpleNamespace

import numpy as np
import pytest

from test.checkpoints.policies.policy_folders import TOKEN_WIDTH
from test.tokens.policy_states import (  # noqa: F401
    FINGER_M,
    NUMBERS,
    POSITION_M,
    QUATERNION_XYZW,
    STAMP_NS,
    pi0,
    result_of,
    settings_of,
    smolvla,
    token_of,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.output_messages import cdr_of
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import LiveDecoder, ObservationWindow
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.wire.stamps import header_fields
from vit_perception.wire.tensors import encode_tensor, encode_view
from vit_perception.wire.topics import IMAGE_TYPE, image_fields

MS = 1_000_000


def bag_of(folder):
    """A bag of two images; pose and finger are there for the first one alone."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    x, y, z, w = QUATERNION_XYZW
    position = dict(zip("xyz", POSITION_M))
    orientation = {"x": x, "y": y, "z": z, "w": w}
    with BagWriter(folder / "bag") as bag:
        for after_ms in (-10, 0, 10, 500):
            stamp_ns = STAMP_NS + after_ms * MS
            header = header_fields(stamp_ns, "base_link")
            pose = {"header": header, "pose": {"position": position, "orientation": orientation}}
            finger = {"header": header, "name": ["finger"], "position": np.array([FINGER_M])}
            picture = image_fields(header, encode_view(pixels))
            messages = (
                [("/wrist/image", IMAGE_TYPE, picture)]
                if after_ms in (0, 500)
                else [
                    ("/ee_pose", "geometry_msgs/msg/PoseStamped", pose),
                    ("/joint_states", "sensor_msgs/msg/JointState", finger),
                ]
            )
            for topic, kind, fields in messages:
                bag.write(topic, kind, cdr_of(kind, fields), stamp_ns)
    return folder / "bag"


@pytest.mark.parametrize("policy", ["smolvla", "pi0"])
def test_embed_data_set_and_live_decoder_have_it(policy, request, tmp_path):
    pipeline = Pipeline.open(settings_of(request.getfixturevalue(policy)))
    bag = bag_of(tmp_path)
    for file_format in ("mcap", "safetensors", "parquet"):
        options = EmbedOptions(file_format)
        embed(pipeline, [BagSource(bag, "/wrist/image")], tmp_path / file_format, options)
    pipeline.close()
    data = FeatureDataset(tmp_path / "safetensors", history=2, max_gap_s=1.0)
    window = data[0]
    in_tokens = policy == "smolvla"
    stored = window["tokens"][:, -1:] if in_tokens else window["policy_state"]
    wanted = token_of(NUMBERS, TOKEN_WIDTH if in_tokens else 64)
    np.testing.assert_allclose(stored[0, 0].numpy(), wanted, atol=1e-5)
    assert not stored[1].any()
    of_parquet = FeatureDataset(tmp_path / "parquet", history=2, max_gap_s=1.0)[0]
    assert ("policy_state" in window) == ("policy_state" in of_parquet) == (not in_tokens)
    if not in_tokens:
        np.testing.assert_array_equal(of_parquet["policy_state"], window["policy_state"])
    decoder = LiveDecoder("/vit_encoder", data.layouts)
    windows = ObservationWindow(history=2, max_gap_s=1.0)
    made = None
    with BagReader(tmp_path / "mcap") as recording:
        for topic, _, message in recording.messages(list(recording.topics)):
            observation = decoder.add(topic, message)
            made = windows.add(observation) if observation else made
    assert ("/vit_encoder/policy_state" in decoder.topics) == (not in_tokens)
    live = made["tokens"][:, -1:] if in_tokens else made["policy_state"]
    np.testing.assert_array_equal(live, stored.numpy())


def test_a_decoder_refuses_a_token_of_another_shape(pi0):
    _, layout = result_of(settings_of(pi0))
    decoder = LiveDecoder("/vit_encoder")
    decoder.add("/vit_encoder/layout", SimpleNamespace(data=layout.to_json()))
    stamp = SimpleNamespace(sec=1, nanosec=0)
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=stamp), **encode_tensor(np.ones((1, 63)))._asdict()
    )
    with pytest.raises(InvalidValue, match="policy_state is 1 x 63; accepted: 1 x 64"):
        decoder.add("/vit_encoder/policy_state", message)
