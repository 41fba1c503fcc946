"""Tensors into a model: every name and shape must fit, or all that does not is printed."""

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, side_by_side
from vit_perception.files.atomic import file_sha256
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig

_LOWEST_PRIORITY = 19


def build_strict(
    config: ViTConfig,
    tensors: Mapping[str, Tensor],
    source: str,
    unexpected: Mapping[str, tuple[int, ...]] | None = None,
) -> VisionTransformer:
    """A model of ``config`` with the weights ``tensors``, float32, in evaluation mode, without
    gradients.

    It is made on the meta device and takes the tensors over, so that no weight is initialised first
    or copied twice. Raises CheckpointError as :func:`load_strict`.
    """
    with torch.device("meta"):
        model = VisionTransformer(config)
    load_strict(model, tensors, source, unexpected)
    return model.eval().requires_grad_(False)


def load_strict(
    model: torch.nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    unexpected: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Give ``model`` the weights ``tensors`` (by the model's names), cast to float32.

    ``unexpected`` are shapes of tensors of the file that no name of the model stands for.
    ``source`` names the file in errors. Raises CheckpointError when a name is missing, unexpected
    or mis-shaped (they are printed, side by side), and when a tensor is not of floating point or
    holds NaN or infinity; the model is then unchanged.
    """
    wanted = model.state_dict()
    missing = [f"{name} {_shape(wanted[name])}" for name in wanted if name not in tensors]
    surplus = {
        **{name: tuple(t.shape) for name, t in tensors.items() if name not in wanted},
        **(unexpected or {}),
    }
    extra = [f"{name} {shape}" for name, shape in surplus.items()]
    shared = [name for name in wanted if name in tensors]
    misshaped = [name for name in shared if wanted[name].shape != tensors[name].shape]
    if missing or extra or misshaped:
        raise CheckpointError(
            "\n".join(
                [
                    f"{source} does not fit the model: {len(missing)} missing, {len(extra)} "
                    "unexpected, "
                    f"{len(misshaped)} mis-shaped; accepted: exactly the model's names and shapes",
                    *side_by_side("missing in the file", missing, "unexpected in the file", extra),
                    *side_by_side(
                        "mis-shaped: the model's",
                        [f"{n} {_shape(wanted[n])}" for n in misshaped],
                        "the file's",
                        [f"{n} {_shape(tensors[n])}" for n in misshaped],
                    ),
                ]
            )
        )
    for name in shared:
        if not tensors[name].is_floating_point():
            raise CheckpointError(
                f"{source}: {name} is of {tensors[name].dtype}; accepted: floating point weights"
            )
        if not _is_finite(tensors[name]):
            raise CheckpointError(
                f"{source}: {name} holds NaN or infinity; accepted: finite weights"
            )
    model.load_state_dict(
        {name: tensors[name].to(torch.float32).contiguous() for name in shared}, assign=True
    )


def _is_finite(tensor: Tensor) -> bool:
    # One pass without a temporary, a tenth of isfinite's time: NaN comes out of both ends, infinity
    # out of one.
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def files_sha256(paths: Sequence[Path]) -> str:
    """The sha256 of one file; of several, that of their digests and names, a line each."""
    if len(paths) == 1:
        return file_sha256(paths[0])
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in sorted(paths)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256_in_background(paths: Sequence[Path]) -> Callable[[], str]:
    """Start :func:`files_sha256` in a thread; what is returned waits for it. A gigabyte takes most
    of a second.

    The wait raises CheckpointError where a file cannot be read.
    """
    outcome: list[str | OSError] = []

    def run() -> None:
        # Linux has a priority for each thread: whoever runs the model meanwhile is not to share his
        # cores with this.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        try:
            outcome.append(files_sha256(paths))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="weights digest", daemon=True)
    thread.start()

    def wait() -> str:
        thread.join()
        if isinstance(outcome[0], OSError):
            raise CheckpointError(
                f"{paths[0]}: {outcome[0]}; accepted: a readable file"
            ) from outcome[0]
        return outcome[0]

    return wait


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
