"""Engines made from the rows of the table of backends, and what this machine has of each."""

from dataclasses import replace
from importlib import import_module

from vit_perception.config.backends import BACKENDS, Backend
from vit_perception.engines.engine import BackendStatus, Engine


def make_engine(backend: Backend, gpu_index: int = 0) -> Engine:
    """Make the engine of ``backend``, not opened; ``gpu_index`` is the GPU that it will take.

    The engine's module is imported here, its runtime only when it is asked for its status.
    """
    module, _, name = backend.engine.partition(":")
    kind = getattr(import_module(module), name)
    engine = kind() if backend.argument is None else kind(backend.argument)
    engine.gpu_index = gpu_index
    return engine


def available_backends() -> list[BackendStatus]:
    """Say what this machine can run, in the order of ``auto``. Opens nothing.

    ``name`` of each status is the label of its row.
    """
    return [replace(make_engine(row).status(), name=row.label) for row in BACKENDS]
