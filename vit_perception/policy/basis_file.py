"""The file of a basis: safetensors with ``mean`` (D,) and ``directions`` (K, D) in float32."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import InvalidValue
from vit_perception.wire.basis import Basis

FORMAT = "vit_perception.basis"
# Of the file that `embed` puts beside features that are coefficients.
FILE_NAME = "basis.safetensors"


@dataclass(frozen=True)
class BasisFile:
    """A basis, and what its file says of its origin."""

    basis: Basis
    # Of the checkpoint whose encoder it is, for people.
    model: str


def save_basis(path: Path, basis: Basis, model: str) -> None:
    """Write ``basis``, the one of the encoder of ``model``, to a complete file or none."""
    from safetensors.numpy import save

    metadata = {"format": FORMAT, "encoder_sha256": basis.encoder_sha256, "model": model}
    tensors = {"mean": basis.mean, "directions": np.ascontiguousarray(basis.directions)}
    content = save(tensors, metadata)
    write_whole(path, lambda partial: partial.write_bytes(content))


def load_basis(path: str | Path) -> BasisFile:
    """Read the file of a basis.

    Raises:
        InvalidValue: It is another file, or its numbers are no basis; the message names it.
    """
    # Needs safetensors, which readers of other features do without.
    from vit_perception.files.weights import check_shapes, read_weights

    file = read_weights(str(path))
    if file.metadata.get("format") != FORMAT:
        raise InvalidValue(
            f"{path} has format {file.metadata.get('format')!r}; accepted: {FORMAT}, the file of "
            "`vit-perception basis`"
        )
    check_shapes(file, {"mean": ("D",), "directions": ("K", "D")})
    try:
        basis = Basis(
            file.tensors["mean"],
            file.tensors["directions"],
            file.metadata.get("encoder_sha256", ""),
        )
    except InvalidValue as error:
        raise InvalidValue(f"{path}: {error}") from error
    return BasisFile(basis, file.metadata.get("model", ""))
