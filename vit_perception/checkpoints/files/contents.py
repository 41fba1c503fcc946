"""What a weights file holds, in any format: tensors by name, each read when it is asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by name, each read when it is asked for.

    ``shapes`` are those that the format tells without reading the tensor.

    Raises:
        CheckpointError: A tensor cannot be read; the error names it.
    """

    def __init__(
        self,
        readers: Mapping[str, Callable[[], Tensor]],
        source: str,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ):
        self._readers = dict(readers)
        self._source = source
        self._shapes = dict(shapes or {})

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor, reading it only if the format does not tell its shape."""
        return self._shapes[name] if name in self._shapes else tuple(self[name].shape)

    def __getitem__(self, name: str) -> Tensor:
        reader = self._readers[name]
        try:
            return reader()
        except Exception as error:  # each library and kind of damage has a class of its own
            raise CheckpointError(
                f"{self._source}: {name}: {first_line(error)}; accepted: a whole file"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Give the shape of a file's tensor, without reading it if the format allows."""
    return tensors.shape(name) if isinstance(tensors, LazyTensors) else tuple(tensors[name].shape)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a weights file holds."""

    # By the file's own names.
    tensors: Mapping[str, Tensor]
    # The texts in the file, by name.
    metadata: Mapping[str, str] = field(default_factory=dict)
