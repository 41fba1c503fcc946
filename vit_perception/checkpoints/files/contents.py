"""What a weights file holds, whatever its format: tensors by name, each read when it is asked
for.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by name, each read when it is asked for. An error in one becomes a CheckpointError
    that names it.

    ``shapes`` are those that the format tells without reading the tensor.
    """

    def __init__(
        self,
        readers: Mapping[str, Callable[[], Tensor]],
        source: str,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ):
        self._readers, self._source, self._shapes = dict(readers), source, dict(shapes or {})

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is read only where the format does not tell it."""
        return self._shapes[name] if name in self._shapes else tuple(self[name].shape)

    def __getitem__(self, name: str) -> Tensor:
        reader = self._readers[name]
        try:
            return reader()
        except (
            Exception
        ) as error:  # each library and each kind of damage has an exception class of its own
            raise CheckpointError(
                f"{self._source}: {name}: {first_line(error)}; accepted: a whole file"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The shape of a tensor of a file, without reading it where its format allows."""
    return tensors.shape(name) if isinstance(tensors, LazyTensors) else tuple(tensors[name].shape)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a weights file holds: ``tensors`` by its own names, and the texts beside them, by
    name.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
