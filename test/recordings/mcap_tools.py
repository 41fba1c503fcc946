"""An MCAP file as Foxglove and its tools read it: with the `mcap` library, which is not ours."""

from pathlib import Path
from typing import Any

import pytest


def decoded(path: Path) -> dict[str, list[Any]]:
    """Every message of a file by topic, each decoded by the schema that the file gives.

    Checksums and the index are checked, too.
    """
    reader = pytest.importorskip("mcap.reader", reason="the package mcap is not installed")
    decoder = pytest.importorskip(
        "mcap_ros2.decoder", reason="the package mcap-ros2-support is not installed"
    )
    found: dict[str, list[Any]] = {}
    with open(path, "rb") as file:
        opened = reader.make_reader(
            file, validate_crcs=True, decoder_factories=[decoder.DecoderFactory()]
        )
        summary = opened.get_summary()
        for channel in summary.channels.values():
            schema = summary.schemas[channel.schema_id]
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr"), channel.topic
            assert schema.data, f"{channel.topic}: {schema.name} has no definition"
        for _, channel, _, message in opened.iter_decoded_messages():
            found.setdefault(channel.topic, []).append(message)
    assert sum(map(len, found.values())) == summary.statistics.message_count > 0
    assert set(found) == {channel.topic for channel in summary.channels.values()}
    return found


def plain(value: Any) -> Any:
    """A message of either library as dicts, lists and numbers, to compare them."""
    names = getattr(value, "__slots__", None) or getattr(value, "__dataclass_fields__", None)
    if names and not isinstance(value, (str, bytes)):
        # Each library adds a field of its own for the type.
        return {n: plain(getattr(value, n)) for n in names if not n.startswith("_")}
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(each) for each in value]
