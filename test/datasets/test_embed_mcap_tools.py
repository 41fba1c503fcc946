"""What `embed --format mcap` writes is read by Foxglove's own library, and says the same there."""

import pytest

from test.conftest import DEMO_BAG, ROOT
from test.recordings.mcap_tools import decoded, plain
from vit_perception.cli.main import main
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter


@pytest.fixture(scope="module")
def features(tmp_path_factory, tiny_classifier):
    """Features of half a second of the demo's recording."""
    folder = tmp_path_factory.mktemp("features")
    with BagReader(DEMO_BAG) as bag, BagWriter(folder / "bag") as out:
        for message in bag.raw(list(bag.topics), stop_ns=bag.start_ns + 500_000_000):
            out.write(message.topic, message.type_name, message.data, message.stamp_ns)
    options = ["--params", ROOT / "config/demo.yaml", "--checkpoint", tiny_classifier]
    options += ["--backend", "torch", "--precision", "float32", "--format", "mcap"]
    out = folder / "out"
    assert main(["embed", *map(str, [folder / "bag", "--out", out, *options])]) == 0
    return out


def test_every_schema_parses_and_every_message_says_what_ours_says(features):
    (file,) = features.glob("*.mcap")
    found = decoded(file)
    with BagReader(features) as bag:
        assert set(found) == set(bag.topics)
        for topic, messages in found.items():
            ours = [message for _, _, message in bag.messages([topic])]
            assert [plain(m) for m in messages] == [plain(m) for m in ours], topic
    types = {type(messages[0]).__name__ for messages in found.values()}
    assert types == {"String", "Image", "PoseStamped", "Classification"}
    tokens = found["/vit_encoder/tokens"][0]
    assert len(tokens.data) == tokens.height * tokens.step and tokens.encoding == "32FC1"
