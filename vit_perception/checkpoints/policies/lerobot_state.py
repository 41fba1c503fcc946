"""The robot's state as a LeRobot policy takes it: its width, and how it is normalised.

The statistics are in a safetensors file that policy_preprocessor.json names, or, of policies before
LeRobot 0.4, among the policy's own tensors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import (
    CheckpointFiles,
    is_there,
    optional_json,
)
from vit_perception.checkpoints.files.formats import read_safetensors
from vit_perception.checkpoints.policies.policy_files import config_path
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.policy_state import NORMALISATIONS, StateSpec

PROCESSOR_FILE = "policy_preprocessor.json"
FEATURE = "observation.state"
_BUFFERS = "normalize_inputs.buffer_"


def state_of(
    files: CheckpointFiles, weight: str, inputs: int, default: str = "MEAN_STD"
) -> StateSpec | None:
    """Plan the state projection whose matrix is the tensor ``weight``; None if there is none.

    ``inputs`` is the width that config.json says, ``default`` the normalisation that it leaves out.

    Raises:
        CheckpointError: Widths differ, or statistics are missing.
    """
    config = files.config
    feature = (config or {}).get("input_features", {}).get(FEATURE)
    if config is None or feature is None or weight not in files.tensors:
        return None
    path = config_path(files)
    width, taken = files.shape(weight)
    shape = feature.get("shape") if isinstance(feature, Mapping) else None
    if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int:
        raise CheckpointError(f"{path}: the shape of {FEATURE} is {shape!r:.80}; accepted: [count]")
    if taken != inputs or not 0 < shape[0] <= inputs:
        raise CheckpointError(
            f"{path}: {FEATURE} has {shape[0]} numbers and max_state_dim is {inputs}, and {weight} "
            f"takes {taken}; accepted: a state projection of the policy's own width"
        )
    mapping = config.get("normalization_mapping", {})
    named = mapping.get("STATE", default) if isinstance(mapping, Mapping) else mapping
    kind = named.lower() if isinstance(named, str) else ""
    if kind not in NORMALISATIONS:
        raise CheckpointError(
            f"{path}: normalization_mapping of STATE is {named!r:.80}; accepted: "
            f"{', '.join(name.upper() for name in NORMALISATIONS)}"
        )
    try:
        first, second = _statistics(files, kind, shape[0])
        return StateSpec(
            count=shape[0],
            inputs=inputs,
            width=width,
            normalisation=kind,
            first=first,
            second=second,
            names=_names(feature.get("names")),
        )
    except InvalidValue as error:
        raise CheckpointError(f"{path}: {error}") from error


def _names(given: Any) -> tuple[Any, ...]:
    """Give the names of the numbers: a list, or, as in a data set's info.json, an object with one
    list. LeRobot's own policies leave them out.
    """
    if isinstance(given, Mapping) and len(given) == 1:
        given = next(iter(given.values()))
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list) else (given,)


def _statistics(
    files: CheckpointFiles, kind: str, count: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    names = NORMALISATIONS[kind]
    if not names:
        return (), ()
    tensors, prefix, source = statistics_tensors(files, FEATURE)
    found = []
    for name in names:
        tensor = tensors.get(f"{prefix}{name}")
        if tensor is None or tuple(tensor.shape) != (count,):
            held = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise CheckpointError(
                f"{source}: {prefix}{name} is {held}; accepted: the statistics of the {count} "
                "numbers of the state, as LeRobot saves them with the policy"
            )
        found.append(tuple(tensor.double().tolist()))
    return found[0], found[1]


def statistics_tensors(
    files: CheckpointFiles, feature: str
) -> tuple[Mapping[str, Tensor], str, Path]:
    """Open what holds the statistics of ``feature``.

    Gives the tensors, what their names begin with, and the file.

    Raises:
        CheckpointError: policy_preprocessor.json names no such file, or it is missing.
    """
    processor = optional_json(files.folder / PROCESSOR_FILE, "the steps before the policy")
    if processor is None:
        return files.tensors, f"{_BUFFERS}{feature.replace('.', '_')}.", files.path
    name = normalizer_step(files.folder, processor)["state_file"]
    path = files.folder / name
    if not is_there(path):
        raise CheckpointError(
            f"{files.folder}: no file {name}, which {PROCESSOR_FILE} names; accepted: all files of "
            "the policy"
        )
    return read_safetensors(path).tensors, f"{feature}.", path


def normalizer_step(folder: Path, processor: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the step that normalises, whose ``state_file`` is a name in ``folder``.

    Raises:
        CheckpointError: There is none, or several, or its file is elsewhere.
    """
    steps: Any = processor.get("steps")
    found = [
        step
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, Mapping) and step.get("registry_name") == "normalizer_processor"
    ]
    named = [step.get("state_file") for step in found]
    name = named[0] if len(named) == 1 else None
    if not isinstance(name, str) or Path(name).name != name or "\0" in name:
        raise CheckpointError(
            f"{folder / PROCESSOR_FILE} names {named!r:.80} as the file of statistics; "
            "accepted: one step normalizer_processor with a state_file beside it"
        )
    return found[0]
