"""Tensors into a model. Every name and shape must fit; otherwise all that do not are printed."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, MisfitError, side_by_side
from vit_perception.files.atomic import file_sha256
from vit_perception.files.memory import FilePages
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig

_LOWEST_PRIORITY = 19
_Shapes = Mapping[str, tuple[int, ...]]


def build_strict(
    config: ViTConfig,
    tensors: Mapping[str, Tensor],
    source: str,
    unexpected: _Shapes | None = None,
) -> VisionTransformer:
    """Make a model of ``config`` with the weights ``tensors``: float32, for evaluation only.

    It is made on the meta device and takes the tensors over: no weight is initialised first, and
    float32 ones are not copied.

    Raises:
        CheckpointError: As :func:`load_strict`.
    """
    with torch.device("meta"):
        model = VisionTransformer(config)
    load_strict(model, tensors, source, unexpected)
    return model.eval().requires_grad_(False)


def load_strict(
    model: torch.nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    unexpected: _Shapes | None = None,
) -> None:
    """Give ``model`` the weights ``tensors`` (by the model's names), cast to float32.

    ``source`` names the file in errors. ``unexpected`` are shapes of tensors of the file that no
    name of the model stands for. After an error the model is unchanged.

    Of a file that is mapped, pages that were only cast go back to the system one tensor after
    another: a file of bfloat16 is never in memory beside its float32 copy.

    Raises:
        MisfitError: A name is missing, unexpected or has another shape; they are printed side by
            side.
        CheckpointError: A tensor is not of floating point, or holds NaN or infinity.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    _check_fit(wanted, held, dict(unexpected or {}), source)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{source}: {name} is of {tensor.dtype}; accepted: floating point weights"
            )
        if not _is_finite(tensor):
            raise CheckpointError(
                f"{source}: {name} holds NaN or infinity; accepted: finite weights"
            )
    pages = FilePages()
    weights = {}
    for name, tensor in tensors.items():
        weights[name] = tensor.to(torch.float32).contiguous()
        if tensor.dtype != torch.float32 and tensor.is_contiguous():
            pages.let_go(tensor.data_ptr(), tensor.nbytes)
    model.load_state_dict(weights, assign=True)


def _check_fit(wanted: _Shapes, held: _Shapes, unexpected: _Shapes, source: str) -> None:
    missing = [name for name in wanted if name not in held]
    surplus = {**{name: shape for name, shape in held.items() if name not in wanted}, **unexpected}
    misshaped = [name for name in wanted if name in held and held[name] != wanted[name]]
    if not (missing or surplus or misshaped):
        return
    lines = [
        f"{source} does not fit the model: {len(missing)} missing, {len(surplus)} unexpected, "
        f"{len(misshaped)} mis-shaped; accepted: exactly the model's names and shapes",
        *side_by_side(
            "missing in the file",
            _listed(missing, wanted),
            "unexpected in the file",
            _listed(surplus, surplus),
        ),
        *side_by_side(
            "mis-shaped: the model's",
            _listed(misshaped, wanted),
            "the file's",
            _listed(misshaped, held),
        ),
    ]
    raise MisfitError("\n".join(lines), missing, list(surplus), misshaped)


def _listed(names: Iterable[str], shapes: _Shapes) -> list[str]:
    return [f"{name} {shapes[name]}" for name in names]


def _is_finite(tensor: Tensor) -> bool:
    # One pass without a temporary, a tenth of isfinite's time: NaN is minimum and maximum, infinity
    # one of them.
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def files_sha256(paths: Sequence[Path]) -> str:
    """Compute the sha256 of one file; of several, that of their digests and names, a line each."""
    if len(paths) == 1:
        return file_sha256(paths[0])
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in sorted(paths)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor], names: Iterable[str]) -> Callable[[], str]:
    """Give what computes the sha256 of the tensors ``names``: of each name, dtype, shape and bytes.

    The returned function calls nothing of torch, whose code does not bear the end of the process in
    another thread. Pages of a mapped file go back to the system, but for float32's, which a model
    holds.
    """
    parts: list[tuple[bytes | np.ndarray, bool]] = []
    for name in sorted(names):
        tensor = tensors[name]
        parts.append((f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(), False))
        content = tensor.contiguous().flatten().view(torch.uint8).numpy()
        parts.append((content, tensor.dtype != torch.float32))
    pages = FilePages()  # after the copies, so that none can be taken for pages of a file

    def digest() -> str:
        found = hashlib.sha256()
        for part, is_needed_once in parts:
            found.update(part)
            if is_needed_once and isinstance(part, np.ndarray):
                pages.let_go(part.ctypes.data, part.nbytes)
        parts.clear()
        return found.hexdigest()

    return digest


def sha256_in_background(digest: Callable[[], str]) -> Callable[[], str]:
    """Start ``digest`` in a thread, and return a function that waits for the result.

    A gigabyte takes most of a second.

    Raises:
        CheckpointError: By the returned function, if a file cannot be read.
    """
    outcome: list[str | OSError | CheckpointError] = []

    def run() -> None:
        # Linux has a priority for each thread: this one must not slow the model down.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        try:
            outcome.append(digest())
        except (OSError, CheckpointError) as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="weights digest", daemon=True)
    thread.start()

    def wait() -> str:
        thread.join()
        found = outcome[0]
        if isinstance(found, CheckpointError):
            raise found
        if isinstance(found, OSError):
            raise CheckpointError(f"{found}; accepted: a readable file") from found
        return found

    return wait
