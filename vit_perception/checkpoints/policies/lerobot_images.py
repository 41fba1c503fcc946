"""How LeRobot normalises the images of a policy: by statistics of its data set, camera by camera.

An encoder has one normalisation, so the statistics of all cameras must be equal. They are where
LeRobot trained with the statistics of ImageNet, as it does by default.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles, optional_json
from vit_perception.checkpoints.policies.lerobot_state import (
    PROCESSOR_FILE,
    normalizer_step,
    statistics_tensors,
)
from vit_perception.checkpoints.policies.policy_files import config_path
from vit_perception.heads.policy_state import NORMALISATIONS

_Numbers = tuple[float, ...]
# LeRobot's steps that change no pixels, and the one that normalises.
_STEPS = (
    "rename_observations_processor",
    "to_batch_processor",
    "tokenizer_processor",
    "device_processor",
    "normalizer_processor",
)
_EPS = 1e-8
_EQUAL = 1e-6


def cameras_of(files: CheckpointFiles) -> dict[str, tuple[int, int, int]]:
    """Give the cameras that the policy was trained with, and their (3, height, width).

    Raises:
        CheckpointError: config.json names none, or a shape is none of an image.
    """
    features = (files.config or {}).get("input_features")
    found = {}
    for name, feature in (features if isinstance(features, Mapping) else {}).items():
        if not isinstance(feature, Mapping) or feature.get("type") != "VISUAL":
            continue
        shape = feature.get("shape")
        is_list = isinstance(shape, list) and len(shape) == 3
        if not is_list or shape[0] != 3 or any(type(n) is not int or n < 1 for n in shape):
            raise CheckpointError(
                f"{config_path(files)}: the shape of {name[:80]} is {shape!r:.80}; accepted: [3, "
                "height, width]"
            )
        found[name] = (shape[0], shape[1], shape[2])
    if not found:
        raise CheckpointError(
            f"{config_path(files)}: input_features names no image; accepted: a policy with cameras"
        )
    return found


def mean_and_std_of(files: CheckpointFiles) -> tuple[_Numbers, _Numbers]:
    """Give mean and standard deviation of R, G, B that all cameras are normalised by.

    Raises:
        CheckpointError: Statistics are missing, or differ between cameras; or another step changes
            pixels.
    """
    kind = _kind_of(files)
    if kind == "identity":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found = {name: _statistics_of(files, name, kind) for name in cameras_of(files)}
    first_name, (first, second) = next(iter(found.items()))
    for name, numbers in found.items():
        pairs = zip((*first, *second), (*numbers[0], *numbers[1]))
        if any(abs(ours - theirs) > _EQUAL for ours, theirs in pairs):
            raise CheckpointError(
                f"{files.folder / PROCESSOR_FILE}: {name} is normalised by {numbers} and "
                f"{first_name} by {(first, second)}; accepted: one normalisation for all cameras, "
                "as LeRobot trains with dataset.use_imagenet_stats, or a policy with one camera"
            )
    if kind == "mean_std":
        return first, tuple(value + _EPS for value in second)
    # From the smallest and the largest, or two quantiles, to -1 and 1.
    return (
        tuple((low + high) / 2 for low, high in zip(first, second)),
        tuple((high - low or _EPS) / 2 for low, high in zip(first, second)),
    )


def _kind_of(files: CheckpointFiles) -> str:
    path = files.folder / PROCESSOR_FILE
    processor = optional_json(path, "the steps before the policy")
    if processor is None:
        raise CheckpointError(
            f"{files.folder}: no file {PROCESSOR_FILE}; accepted: all files of the policy, whose "
            "statistics say how images are normalised"
        )
    steps = processor.get("steps")
    for step in steps if isinstance(steps, list) else []:
        name = step.get("registry_name") if isinstance(step, Mapping) else step
        if name not in _STEPS:
            raise CheckpointError(
                f"{path} has the step {name!r:.80}, which may change pixels; accepted: "
                f"{', '.join(_STEPS)}"
            )
    config = normalizer_step(files.folder, processor).get("config")
    settings: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
    if settings.get("normalize_observation_keys") is not None:
        raise CheckpointError(
            f"{path}: normalize_observation_keys is "
            f"{settings['normalize_observation_keys']!r:.80}; accepted: none, so that every camera "
            "is normalised"
        )
    mapping = settings.get("norm_map", (files.config or {}).get("normalization_mapping", {}))
    named = mapping.get("VISUAL", "MEAN_STD") if isinstance(mapping, Mapping) else mapping
    kind = named.lower() if isinstance(named, str) else ""
    if kind not in NORMALISATIONS:
        raise CheckpointError(
            f"{path}: the normalisation of VISUAL is {named!r:.80}; accepted: "
            f"{', '.join(name.upper() for name in NORMALISATIONS)}"
        )
    return kind


def _statistics_of(files: CheckpointFiles, camera: str, kind: str) -> tuple[_Numbers, _Numbers]:
    tensors, prefix, source = statistics_tensors(files, camera)
    found: list[_Numbers] = []
    for name in NORMALISATIONS[kind]:
        tensor = tensors.get(f"{prefix}{name}")
        if tensor is None or tuple(tensor.shape) not in ((3,), (3, 1, 1)):
            held = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise CheckpointError(
                f"{source}: {prefix}{name} is {held}; accepted: three numbers, as LeRobot saves "
                "the statistics of a camera"
            )
        found.append(tuple(tensor.double().flatten().tolist()))
    return found[0], found[1]
