"""The text tower of an image tower: prompts to vectors, with the checkpoint's own tokenizer.

The tower and the tokenizer are those of ``transformers``, which is needed for nothing else; the
weights come from the same file as the image tower's, read by this package. Nothing is fetched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vit_perception.checkpoints.clip import tips_text
from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles, is_there
from vit_perception.checkpoints.load_strict import load_strict
from vit_perception.files import telemetry
from vit_perception.files.errors import InvalidValue, UserError
from vit_perception.files.regular_files import IrregularFile, check_itself

# Families whose files hold a text tower that is read -> what a folder must hold for the tokenizer,
# one of each group.
TOKENIZER_FILES = {
    "clip": (("tokenizer.json",), ("vocab.json", "merges.txt")),
    "siglip": (("tokenizer.json",), ("spiece.model",)),
    "tipsv2": (("tokenizer.json",), ("tokenizer.model",)),
}
_PREFIX, _BATCH = "text_model.", 64
# Classes of transformers: the tower's config, and the tower.
_CLASSES = {
    "clip": ("CLIPTextConfig", "CLIPTextModel"),
    "siglip": ("SiglipTextConfig", "SiglipTextModel"),
    "tipsv2": ("Tipsv2TextConfig", "Tipsv2TextModel"),
}
# What a tower is made of. Others name kernels, or classes of a repository's own.
_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "projection_dim",
    "projection_size",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "scale_sqrt_depth",
    "pooling_epsilon",
)
# That of the largest vocabularies takes 40 MB.
_MOST_TOKENIZER_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class TextVectors:
    """What a text tower says of N prompts; logits are ``scale`` · cosine + ``bias``."""

    # (N, E) float32.
    vectors: np.ndarray
    scale: float
    bias: float


def encode_texts(
    files: CheckpointFiles,
    family: str,
    prompts: Sequence[str],
    *,
    needed_by: str = "zero_shot.labels",
) -> TextVectors:
    """Encode ``prompts`` by the text tower of a ``clip``, ``siglip`` or ``tipsv2`` checkpoint.

    ``needed_by`` is what errors say that the tower is for, in the plural.

    Raises:
        CheckpointError: The tower, the tokenizer or the package transformers is missing, or a
            prompt is longer than the tower can read.
    """
    if family == "tipsv2":
        files = tips_text.renamed(files)
    _check_files(files, family, needed_by)
    telemetry.off()
    try:
        import transformers
    except ImportError as error:
        raise CheckpointError(
            f"{needed_by} need the package transformers, whose text towers turn them into "
            "vectors: pip install transformers"
        ) from error
    transformers.logging.set_verbosity_error()
    names = _CLASSES[family]
    if not all(hasattr(transformers, name) for name in names):
        raise CheckpointError(
            f"transformers {transformers.__version__} has no {' and no '.join(names)}, which "
            f"{needed_by} need with a {family} checkpoint; accepted: a newer one"
        )
    kind = tuple(getattr(transformers, name) for name in names)
    config, shapes = _config_and_shapes(files, family, *kind)
    # Version 4 of transformers has the prefix in its modules, too.
    prefix = "" if next(iter(shapes)).startswith(_PREFIX) else _PREFIX
    for name, shape in shapes.items():
        if prefix + name in files.tensors and files.shape(prefix + name) != shape:
            raise CheckpointError(
                f"{files.path}: {prefix}{name} is {files.shape(prefix + name)}; accepted: {shape}, "
                "by text_config of config.json"
            )
    model = kind[1](config).eval().requires_grad_(False)
    tensors = {
        name: files.tensors[prefix + name] for name in shapes if prefix + name in files.tensors
    }
    load_strict(model, tensors, f"{files.path} (text tower)")
    vectors = _run(model, _tokens(files, family, prompts, config.max_position_embeddings))
    if family == "clip":
        vectors = vectors @ files.tensors["text_projection.weight"].float().T
    bias = files.tensors["logit_bias"].float().item() if "logit_bias" in files.tensors else 0.0
    return TextVectors(vectors.numpy(), files.tensors["logit_scale"].float().exp().item(), bias)


def _config_and_shapes(
    files: CheckpointFiles, family: str, config_class: Any, model_class: Any
) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The tower's config and the shapes of its tensors, without allocating what config.json claims.
    CheckpointError.
    """
    try:
        config = config_class(**_text_fields(files.config))
        _check_sizes(files, family, config)
        with torch.device("meta"):
            return config, {
                name: tuple(tensor.shape)
                for name, tensor in model_class(config).state_dict().items()
            }
    except UserError:
        raise
    except Exception as error:  # transformers' own checks, and torch's of sizes
        raise CheckpointError(
            f"{files.folder / CONFIG_FILE}: text_config: {first_line(error)[:200]}; accepted: that "
            "of a text tower which transformers reads"
        ) from error


def _text_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The part of config.json that describes the text tower, without what would make transformers
    fetch or run code.
    """
    given = fields.get("text_config") or {}
    if not isinstance(given, Mapping):
        raise InvalidValue(f"text_config of config.json is {given!r:.80}; accepted: an object")
    return {name: value for name, value in given.items() if name in _TEXT_FIELDS}


def tokenizer_paths(files: CheckpointFiles) -> tuple[str, ...]:
    """The names of the files beside the weights that a tokenizer may be made from, those that are
    there.
    """
    names = {name for groups in TOKENIZER_FILES.values() for group in groups for name in group}
    names |= {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
    return tuple(sorted(name for name in names if _is_usable(files.folder / name)))


def _is_usable(path: Path) -> bool:
    """Whether a file of the tokenizer is there. Raises CheckpointError for what only stands for it,
    or is too long.
    """
    if not is_there(path):
        return False
    try:
        length = check_itself(path)
    except IrregularFile as error:
        raise CheckpointError(str(error)) from error
    if length > _MOST_TOKENIZER_BYTES:
        raise CheckpointError(
            f"{path} is {length} bytes long; accepted: up to {_MOST_TOKENIZER_BYTES}"
        )
    return True


def _check_files(files: CheckpointFiles, family: str, needed_by: str) -> None:
    whole = ["text_model.embeddings.token_embedding.weight", "logit_scale"]
    whole += {"clip": ["text_projection.weight"], "siglip": ["logit_bias"]}.get(family, [])
    missing = [name for name in whole if name not in files.tensors]
    if missing:
        raise CheckpointError(
            f"{files.path} has no tensor {', '.join(missing)}: it is an image tower alone; "
            f"accepted with {needed_by}: a whole CLIP or SigLIP, image and text"
        )
    groups = TOKENIZER_FILES[family]
    there = tokenizer_paths(files)
    if not any(all(name in there for name in group) for group in groups):
        raise CheckpointError(
            f"{files.folder}: no file {' and no '.join(' with '.join(group) for group in groups)}, "
            f"which {needed_by} need; accepted: the tokenizer's files as the model's author "
            "published them, beside the weights"
        )


def _check_sizes(files: CheckpointFiles, family: str, config: Any) -> None:
    """What the file holds beside the tower, and the sizes that config.json claims before anything
    is made of them.
    """
    path, table = files.path, "text_model.embeddings.token_embedding.weight"
    depth = files.count(f"{_PREFIX}encoder.layers.")
    if config.num_hidden_layers != depth or files.shape(table) != (
        config.vocab_size,
        config.hidden_size,
    ):
        raise CheckpointError(
            f"{path}: text_config of config.json has num_hidden_layers {config.num_hidden_layers}, "
            f"vocab_size {config.vocab_size} and hidden_size {config.hidden_size}; accepted: "
            f"{depth} "
            f"and {files.shape(table)}, as the file holds"
        )
    if family == "clip":
        width = files.shape("visual_projection.weight")[0]
        _check_numbers(files, "text_projection.weight", (width, config.hidden_size))
    for name in ("logit_scale", *(("logit_bias",) if "logit_bias" in files.tensors else ())):
        _check_numbers(files, name, ())


def _check_numbers(files: CheckpointFiles, name: str, shape: tuple[int, ...]) -> None:
    tensor, accepted = files.tensors[name], shape or "one number"
    if tuple(tensor.shape) != shape and (shape or tensor.numel() != 1):
        raise CheckpointError(
            f"{files.path}: {name} has the shape {tuple(tensor.shape)}; accepted: {accepted}"
        )
    if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
        raise CheckpointError(
            f"{files.path}: {name} is of {tensor.dtype} or holds NaN or infinity; accepted: finite "
            "numbers"
        )


def _tokens(files: CheckpointFiles, family: str, prompts: Sequence[str], longest: int) -> Any:
    """The tokenizer's output for all prompts, padded as the family was trained."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(files.folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # OSError, ValueError, ImportError and others
        raise CheckpointError(
            f"{files.folder}: {first_line(error)}; accepted: a tokenizer that transformers "
            f"{transformers.__version__} reads"
        ) from error
    lengths = [len(tokens) for tokens in tokenizer(list(prompts))["input_ids"]]
    if max(lengths) > longest:
        prompt = prompts[lengths.index(max(lengths))]
        raise CheckpointError(
            f"the prompt {prompt!r} is {max(lengths)} tokens long; accepted by {files.name}: up to "
            f"{longest}"
        )
    padding = (
        {"padding": "max_length", "max_length": longest}
        if family in ("siglip", "tipsv2")
        else {"padding": True}
    )
    return tokenizer(list(prompts), return_tensors="pt", **padding)


@torch.no_grad()
def _run(model: torch.nn.Module, tokens: Any) -> torch.Tensor:
    count = len(tokens["input_ids"])
    batches = [
        {
            name: values[start : start + _BATCH]
            for name, values in tokens.items()
            if name in ("input_ids", "attention_mask")
        }
        for start in range(0, count, _BATCH)
    ]
    return torch.cat([model(**batch).pooler_output.float() for batch in batches])
