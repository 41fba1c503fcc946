"""OpenVLA and Prismatic: DINOv2 and SigLIP side by side, and the projector behind both.

Both see the same pixels, each with its normalisation. Of each, the patch tokens of the block before
the last go on, without the final norm; the last block is not run. The towers are those of timm
0.9.10, which the policy's code asks for: both have the exact GELU.

Source: https://github.com/openvla/openvla (prismatic/extern/hf/modeling_prismatic.py and
processing_prismatic.py).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    CONNECTOR,
    SECOND,
    Converter,
    Family,
    KeyMap,
    LoadPlan,
    Preprocessing,
    SecondPlan,
    positions_of_patches,
)
from vit_perception.checkpoints.files.checkpoint_files import PREPROCESSOR_FILE, CheckpointFiles
from vit_perception.checkpoints.huggingface.config import license_of, numbers_of
from vit_perception.checkpoints.policies.policy_files import (
    config_path,
    refuse_quantised,
    refuse_unmerged,
    require,
)
from vit_perception.checkpoints.timm.names import key_map as timm_key_map
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.connectors import ConnectorSpec
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.second_encoder import check_pair
from vit_perception.model.vit_config import ViTConfig

TYPES = ("openvla", "prismatic")
_SCOPE = "vision_backbone."
_FIRST = "featurizer."
_SECOND = "fused_featurizer."
_PROJECTOR = "projector."
_HEADS = {1152: 16}
# What is read of a tower's names; the final norm and the pooling are not used.
_PARTS = ("patch_embed", "blocks", "cls_token", "reg_token", "pos_embed")
_UNUSED = ("norm.*", "attn_pool.*", "fc_norm.*")


class _Tower(NamedTuple):
    """One of the two encoders."""

    config: ViTConfig
    # From the file's names, below ``vision_backbone.``, to the model's.
    names: dict[str, tuple[str, ...]]
    converters: dict[str, Converter]
    unused: tuple[str, ...]


def recognises(files: CheckpointFiles) -> bool:
    """Tell by ``model_type``; without a config.json by the names of the tensors."""
    if files.config is not None:
        return files.config.get("model_type") in TYPES
    return files.has(f"{_SCOPE}{_FIRST}patch_embed.proj.weight", f"{_PROJECTOR}fc1.weight")


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan both encoders, the projector, and the pixels that both see.

    Raises:
        CheckpointError: An adapter, quantised weights, a missing part, or other towers.
    """
    refuse_unmerged(files)
    refuse_quantised(files, (_SCOPE, _PROJECTOR))
    _check_towers(files)
    first = _tower_of(files, _FIRST, "")
    is_fused = any(name.startswith(f"{_SCOPE}{_SECOND}") for name in files.tensors)
    second = _tower_of(files, _SECOND, SECOND) if is_fused else None
    if second is not None:
        check_pair(first.config, second.config)
    layers = 3 if is_fused else 2
    connector = _connector_of(files, layers)
    connector.check_tower(first.config.width + (second.config.width if second else 0))
    rule, statistics = _preprocessing_of(files, first.config.image_size_px, 1 + is_fused)
    names: dict[str, tuple[str, ...]] = {
        f"{_PROJECTOR}fc{index + 1}.{part}": (f"{CONNECTOR}layers.{index}.{part}",)
        for index in range(layers)
        for part in ("weight", "bias")
    }
    towers = (first,) if second is None else (first, second)
    for tower in towers:
        names |= tower.names
    return LoadPlan(
        config=first.config,
        key_map=names,
        preprocessing=Preprocessing(rule, *statistics[0]),
        prefixes=(_SCOPE,),
        unused=tuple(pattern for tower in towers for pattern in tower.unused),
        converters={name: c for tower in towers for name, c in tower.converters.items()},
        license=license_of(files.folder),
        connector=connector,
        second=None if second is None else SecondPlan(second.config, *statistics[1]),
        scope=(_SCOPE, _PROJECTOR),
    )


def _check_towers(files: CheckpointFiles) -> None:
    """Refuse towers whose tensors are those of DINOv2 or SigLIP and that compute otherwise."""
    fields = files.config or {}
    for name in fields.get("timm_model_ids") or ():
        if not isinstance(name, str) or not ("dinov2" in name or "siglip" in name):
            raise CheckpointError(
                f"{config_path(files)}: timm_model_ids has {name!r:.80}; accepted: DINOv2 and "
                "SigLIP, as in OpenVLA"
            )
    if any(fields.get("timm_override_act_layers") or ()):
        raise CheckpointError(
            f"{config_path(files)}: timm_override_act_layers is "
            f"{fields['timm_override_act_layers']!r:.80}; accepted: null for each tower"
        )


def _tower_of(files: CheckpointFiles, below: str, target: str) -> _Tower:
    prefix = f"{_SCOPE}{below}"
    for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight"):
        require(files, f"{prefix}{name}", "the vision tower")
    width, _, patch, _ = files.shape(f"{prefix}patch_embed.proj.weight")
    patches = files.shape(f"{prefix}pos_embed")[1]
    side = round(patches**0.5)
    if side**2 != patches:
        raise CheckpointError(
            f"{files.path}: {prefix}pos_embed has {patches} positions; accepted: those of a square "
            "of patches alone"
        )
    blocks = files.count(f"{prefix}blocks.")
    has_cls = f"{prefix}cls_token" in files.tensors
    registers = f"{prefix}reg_token"
    config = ViTConfig(
        width=width,
        depth=blocks - 1,
        heads=_HEADS.get(width, width // 64),
        mlp_width=files.shape(f"{prefix}blocks.0.mlp.fc1.weight")[0],
        patch_size_px=patch,
        image_size_px=(side * patch, side * patch),
        layer_scale=any(name.startswith(f"{prefix}blocks.0.ls1.") for name in files.tensors),
        cls_token=has_cls,
        register_tokens=files.shape(registers)[1] if registers in files.tensors else 0,
        pooling="cls" if has_cls else "mean",
        position_interpolation="bicubic_antialias",
        final_norm=False,
    )
    return _Tower(
        config=config,
        names={
            f"{below}{theirs}": tuple(f"{target}{name}" for name in ours)
            for theirs, ours in _names_of(config).items()
        },
        converters={f"{target}position_embedding": positions_of_patches(config)},
        unused=tuple(f"{below}{name}" for name in (*_UNUSED, f"blocks.{blocks - 1}.*")),
    )


def _names_of(config: ViTConfig) -> KeyMap:
    names = {
        name: targets
        for name, targets in timm_key_map(config).items()
        if name.split(".")[0] in _PARTS
    }
    # The policy's code renames what transformers would take for something else.
    for index in range(config.depth):
        block = f"blocks.{index}"
        names[f"{block}.ls1.scale_factor"] = (f"{block}.scale_attention.factor",)
        names[f"{block}.ls2.scale_factor"] = (f"{block}.scale_mlp.factor",)
    return names


def _connector_of(files: CheckpointFiles, layers: int) -> ConnectorSpec:
    widths = []
    for index in range(layers):
        name = f"{_PROJECTOR}fc{index + 1}.weight"
        require(files, name, "the projector behind the vision towers")
        given, taken = files.shape(name)
        widths += [given] if index else [taken, given]
    return ConnectorSpec(widths=tuple(widths))


def _preprocessing_of(
    files: CheckpointFiles, size_px: tuple[int, int], count: int
) -> tuple[ResizeRule, list[tuple[tuple[float, ...], tuple[float, ...]]]]:
    """Read the rule that both share, and mean and standard deviation of each tower."""
    path = files.folder / PREPROCESSOR_FILE
    fields = files.preprocessor
    if fields is None:
        raise CheckpointError(
            f"{files.folder}: no file {PREPROCESSOR_FILE}; accepted: the one of the policy"
        )
    try:
        strategy = fields.get("image_resize_strategy", "letterbox")
        if strategy != "resize-naive":
            raise InvalidValue(
                f"image_resize_strategy is {strategy!r:.80}; accepted: resize-naive, OpenVLA's, "
                "with which both towers see the same pixels"
            )
        _same(fields, "input_sizes", [3, *size_px], count)
        _same(fields, "interpolations", "bicubic", count)
        statistics = [
            (_numbers(fields, "means", index), _numbers(fields, "stds", index))
            for index in range(count)
        ]
    except (InvalidValue, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return ResizeRule(size_px, "stretch", interpolation="bicubic"), statistics


def _same(fields: Mapping[str, Any], name: str, wanted: object, count: int) -> None:
    if fields.get(name) != [wanted] * count:
        raise InvalidValue(
            f"{name} is {fields.get(name)!r:.80}; accepted: {wanted} for each of {count} towers"
        )


def _numbers(fields: Mapping[str, Any], name: str, index: int) -> tuple[float, ...]:
    given = fields.get(name)
    if not isinstance(given, list) or len(given) <= index:
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: three numbers for each tower")
    return numbers_of({name: given[index]}, name, 3)


FAMILY = Family(
    name="openvla",
    recognises=recognises,
    read=read,
    signature_keys=(
        f"{_SCOPE}{_FIRST}patch_embed.proj.weight",
        f"{_SCOPE}{_FIRST}pos_embed",
        f"{_PROJECTOR}fc1.weight",
        f"{_PROJECTOR}fc2.weight",
    ),
    model_type="openvla",
)
