"""The forms in which a frame's tokens are sent, by the wire's own code, and images beside them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.policy.basis_file import load_basis
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.wire import topics
from vit_perception.wire.basis import Basis, decode_tokens, pack_sequence
from vit_perception.wire.layout import Layout, LayoutBasis
from vit_perception.wire.stamps import header_fields
from vit_perception.wire.tensors import TensorFields, encode_bytes, encode_tensor

DTYPES = ("float32", "float16", "int8")
DIMS = (128, 64, 32)
IMAGES = "images"
MASKS = "masks"
NODE = "/vit_encoder"


@dataclass(frozen=True, eq=False)
class TokenForm:
    """One form of a frame's tokens."""

    # float32, float16, int8, or basis_64.
    name: str
    # That of tokens in this form.
    layout: Layout
    # The layout's; None if it has none.
    basis: Basis | None

    @classmethod
    def of(cls, name: str, recorded: Layout, basis_file: Path | None) -> "TokenForm":
        """Return the form ``name`` of tokens with the layout ``recorded``."""
        if basis_file is None:
            return cls(name, replace(recorded, dtype=name), None)
        basis = load_basis(basis_file).basis
        layout = replace(recorded, dtype="float32", basis=LayoutBasis(basis.sha256, basis.dims))
        return cls(name, layout, basis)

    def encode(self, tokens: np.ndarray) -> TensorFields:
        """Return the fields of the message for ``tokens`` (N, D) float32, as the node does."""
        if self.basis is None:
            return encode_tensor(tokens, self.layout.dtype)
        return encode_bytes(pack_sequence(tokens, self.layout, self.basis))

    def decode(self, message: Any) -> np.ndarray:
        """Return the tokens (N, D) of a message, as a receiver does."""
        return decode_tokens(message, self.layout, self.basis)

    def messages(self, frames: Iterator[np.ndarray]) -> Iterator[dict[str, tuple[str, Any]]]:
        """Yield type and fields of the messages by topic: first the latched ones, then frames."""
        rows = [topics.LAYOUT, *([topics.BASIS] if self.basis else [])]
        layout_topic = f"{NODE}/{topics.LAYOUT.name}"
        yield {
            f"{NODE}/{row.name}": (
                row.type,
                topics.latched_fields(row, self.layout, layout_topic, self.basis),
            )
            for row in rows
        }
        for tokens in frames:
            fields = topics.image_fields(header_fields(0, ""), self.encode(tokens))
            yield {f"{NODE}/{topics.TOKENS.name}": (topics.TOKENS.type, fields)}


def recorded_tokens(folder: Path, most: int) -> tuple[Layout, list[np.ndarray]]:
    """Return the layout and the tokens (N, D) float32 of the first ``most`` frames of a folder of
    `embed`.
    """
    files = FeatureFiles(folder)
    rows = range(min(most, len(files)))
    tokens = [files.row(row, ("tokens",))["tokens"].astype(np.float32) for row in rows]
    return files.layouts[int(files.layout_index[0])], tokens


def recorded_images(bag_path: Path, most: int) -> list[dict[str, Any]]:
    """Return the CompressedImage messages of the first ``most`` frames of a bag, by topic.

    Images of one recorded time are a frame.
    """
    frames: dict[int, dict[str, Any]] = {}
    with BagReader(bag_path) as bag:
        named = sorted(t for t in bag.topics if bag.type_of(t).endswith("CompressedImage"))
        for recorded in bag.messages(named):
            frames.setdefault(recorded.stamp_ns, {})[recorded.topic] = recorded.message
            if len(frames) > most:
                break
    return [frame for frame in frames.values() if len(frame) == len(named)][:most]
