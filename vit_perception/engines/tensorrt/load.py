"""Serialised TensorRT engines loaded, from the cache or from a file that was built elsewhere."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from vit_perception.engines.cache.engine_file import EngineFile, recipe
from vit_perception.engines.cache.store import Cached, discard
from vit_perception.engines.engine import EngineError
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.buffers import TensorFacts
from vit_perception.engines.tensorrt.cached import served_by
from vit_perception.files.log import Log

# What TensorRT 10 and 11 and TensorRT-RTX 1 say about a file that is damaged, of another version or
# for another GPU. Other errors, such as too little memory or a failing driver, are not the file's.
_FILE_REFUSED = re.compile(
    r"Serialization assertion|(Version|Magic) tag does not match|plan file is (not "
    r"compatible|generated)"
    r"|newer plan file|hardware-compatible engine|rebuild",
    re.IGNORECASE,
)


class EngineFileRefused(EngineError):
    """The runtime refuses the file: it is damaged, of another version, or for another GPU."""


class LoadedEngine(NamedTuple):
    """An engine of NVIDIA's runtime. Keep both as long as either is used."""

    runtime: Any
    engine: Any


class EngineOfFile(NamedTuple):
    """A loaded engine, and where it came from."""

    loaded: LoadedEngine
    path: Path
    was_cached: bool | None  # None for a carried file


def load_engine(api: ModuleType, content: bytes) -> LoadedEngine:
    """Load a serialised engine.

    Raises:
        EngineFileRefused: The file itself is at fault.
        EngineError: Anything else, with what the runtime says.
    """
    logger = tensorrt_api.logger_of(api)
    logger.take_errors()
    try:
        runtime = api.Runtime(logger)
    except TypeError as error:  # pybind11's answer to a null pointer
        raise EngineError(
            f"{api.__name__} {api.__version__} does not start: {logger.take_errors()}"
        ) from error
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        said = logger.take_errors()
        kind = EngineFileRefused if _FILE_REFUSED.search(said) else EngineError
        raise kind(f"{api.__name__} {api.__version__} cannot load the engine: {said}")
    return LoadedEngine(runtime, engine)


def load_cached(api: ModuleType, get: Callable[[], Cached], log: Log) -> EngineOfFile:
    """Load the engine that ``get`` finds in the cache or builds.

    If the runtime refuses an engine that was there, the engine is removed, and the next is asked
    for.

    Raises:
        EngineError: As :func:`load_engine`, and what ``get`` raises.
    """
    while True:
        path, was_cached = get()
        try:
            return EngineOfFile(load_engine(api, path.read_bytes()), path, was_cached)
        except EngineFileRefused as error:
            if not was_cached:
                raise
            discard(path.parent, str(error), log)


def load_carried(api: ModuleType, carried: EngineFile, key: dict) -> EngineOfFile:
    """Load an engine that was built elsewhere, if it is the one that ``key`` asks for.

    Raises:
        EngineError: It is another engine, damaged, or refused by the runtime.
    """
    content = carried.content_for(served_by(key, carried.key))
    try:
        return EngineOfFile(load_engine(api, content), carried.path, was_cached=None)
    except EngineFileRefused as error:
        raise EngineError(
            f"engine.file {carried.path}: {error}; accepted: one that this makes here: "
            f"{recipe(key)}"
        ) from error


def tensor_facts(engine) -> tuple[TensorFacts, ...]:
    """Return what ``engine`` says about its inputs and outputs."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return tuple(
        TensorFacts(
            name,
            engine.get_tensor_mode(name).name == "INPUT",
            engine.get_tensor_dtype(name).name,
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    )
