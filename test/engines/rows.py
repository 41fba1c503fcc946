"""Rows of the table of backends for engines that a test defines."""

from vit_perception.config.backends import PRECISIONS, Backend


def row(label: str, name: str, kind: str, argument: str | None = "cpu") -> Backend:
    """A row ``label`` of backend ``name``; ``kind`` is the engine's class as module:class."""
    return Backend(
        label=label,
        name=name,
        runtime=(),
        engine=kind,
        argument=argument,
        device="cpu",
        precisions=PRECISIONS,
    )
