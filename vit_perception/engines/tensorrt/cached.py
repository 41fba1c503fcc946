"""TensorRT engines in the cache: their keys, which engine serves a GPU, and files next to them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vit_perception.engines.building import memory
from vit_perception.engines.cache.neighbours import what_changed
from vit_perception.engines.cache.store import (
    Cached,
    CacheError,
    cache_folder,
    digest_of,
    present,
)
from vit_perception.engines.cuda.gpus import Gpu
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions, build_apart
from vit_perception.files.private_cache import Untrusted

if TYPE_CHECKING:
    from vit_perception.engines.source import EngineSource

ENGINE_NAME = "model.engine"
# Part of the cache's key: raise it when the same options would give another engine.
_RECIPE_VERSION = 1


def engine_key(
    source: "EngineSource",
    precision: str,
    attention: str,
    options: BuildOptions,
    version: str,
    gpu: Gpu | None,
) -> dict:
    """Return what an engine depends on.

    For TensorRT this includes the GPU that it was tuned on, in the state that it had then. An RTX
    engine is for every GPU of its targets. The bytes of the ONNX file and the versions that wrote
    it are left out: the parity gate tests what was built.
    """
    built_for = (
        {"targets": sorted(options.targets)}
        if options.flavour == "tensorrt_rtx"
        else {"gpu": gpu.traits}
    )
    return {
        "kind": "engine",
        **source.graph_key,
        "batch": source.batch,
        "batches": options.batches,
        "runtime": f"{options.flavour} {version}",
        "precision": precision,
        "attention": attention,
        "workspace_bytes": options.workspace_bytes,
        "recipe": _RECIPE_VERSION,
        **built_for,
    }


def cached_engine(
    source: "EngineSource",
    precision: str,
    attention: str,
    options: BuildOptions,
    gpu: Gpu | None,
) -> Cached:
    """Return the engine's file, built at the first call. ``gpu`` may be None for RTX.

    An engine of TensorRT that was built with fewer active multiprocessors is taken, too. Export and
    build are processes of their own, which end when this one does.

    Raises:
        EngineError: As ``build_engine`` and ``call_in_child``; or too little memory is free.
        CacheError: The cache cannot be used.
        Exception: What the exporter itself raises.
    """
    version = tensorrt_api.load_api(options.flavour).__version__
    key = engine_key(source, precision, attention, options, version, gpu)
    if "gpu" in key and (found := _of_fewer_multiprocessors(source, key)):
        return Cached(found / ENGINE_NAME, was_cached=True)

    def build(folder: Path) -> None:
        if changed := what_changed(key, source.folder or cache_folder()):
            source.log.info(changed)
        doing = f"building the {options.flavour} engine in {precision}"
        if source.check_memory:  # before the export, which would be useless
            # TensorRT tries kernels on the GPU, and on a Jetson that is the host's memory. RTX
            # tries none.
            workspace_bytes = options.workspace_bytes if options.flavour == "tensorrt" else 0
            memory.check(
                doing,
                memory.build_bytes(memory.weights_of(source.graph), precision, workspace_bytes),
            )
        onnx_path = source.onnx_file(precision, attention, apart=True).path
        device = 0
        if options.flavour == "tensorrt":
            import torch

            device = torch.cuda.current_device() if torch.cuda.is_available() else 0
        took_bytes = build_apart(onnx_path, options, folder / ENGINE_NAME, source.log, device)
        source.log.info(f"{doing}: done, in up to {memory.gib(took_bytes)} of memory")

    entry = source.cached(key, build)
    return Cached(entry.path / ENGINE_NAME, entry.was_cached)


def _of_fewer_multiprocessors(source: "EngineSource", key: dict) -> Path | None:
    """Return the entry for ``key``, or one that was built with fewer active multiprocessors.

    A Jetson's power mode switches multiprocessors off. NVIDIA's guide says to build an engine for
    several GPUs of an architecture on the smallest. With fewer multiprocessors than an engine was
    built for, newer versions warn of errors and of a deadlock.
    """
    active = key["gpu"]["multiprocessors"]
    for built_with in range(active, 0, -1):
        try:
            entry = present(
                {**key, "gpu": {**key["gpu"], "multiprocessors": built_with}}, source.folder
            )
        except Untrusted as error:
            raise CacheError(f"the engine cache is not used: {error}") from error
        if entry is not None:
            if built_with < active:
                source.log.info(
                    f"the engine was built while {built_with} multiprocessors of the GPU were "
                    f"active, and {active} are now (another power mode?): it serves, if perhaps "
                    f"not as fast as one built now; remove {entry} to have that"
                )
            return entry
    return None


def served_by(key: dict, built: Mapping) -> dict:
    """Return ``key`` with the multiprocessors of the engine ``built``, if that engine serves it.

    It does if it was built with as many or fewer.
    """
    wanted = key.get("gpu")
    other = built.get("gpu")
    if not isinstance(wanted, dict) or not isinstance(other, Mapping):
        return key
    count = other.get("multiprocessors")
    if not isinstance(count, int) or not 0 < count <= wanted["multiprocessors"]:
        return key
    return {**key, "gpu": {**wanted, "multiprocessors": count}}


def timing_cache_file(version: str, gpu: Gpu, folder: Path | None = None) -> Path:
    """Return the file of timings for a version of TensorRT and a GPU: others do not apply."""
    name = digest_of({"kind": "timings", "version": version, "gpu": gpu.traits})
    return (folder or cache_folder()) / f"{name}.timings"


def kernels_file(key: dict, gpu: Gpu, folder: Path | None = None) -> Path:
    """Return the file of the kernels that RTX compiled of the engine for ``key`` on this GPU.

    It is next to the engine's folder, which stays as it was built.
    """
    return (folder or cache_folder()) / f"{digest_of(key)}.{digest_of(gpu.traits)[:8]}.kernels"
