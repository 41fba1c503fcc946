"""The text tower of TIPS v2, under the names that transformers gives the parts of text towers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.files.contents import LazyTensors
from vit_perception.checkpoints.huggingface.config import number_of

_PREFIX = "text_encoder."
_TEMPERATURE = "temperature"
# transformers' own, where neither the file nor config.json has one.
_DEFAULT_TEMPERATURE = 0.005065968260169029
# In this order, each once.
_RENAMED = (
    ("transformer.resblocks.", "encoder.layers."),
    ("token_embedding.", "embeddings.token_embedding."),
    ("ln_final.", "final_layer_norm."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".attn.", ".self_attn."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
_STACKED = ("q_proj", "k_proj", "v_proj")


def renamed(files: CheckpointFiles) -> CheckpointFiles:
    """Give ``files`` with the text tower's tensors alone, as ``text_model.*``, and ``logit_scale``.

    Nothing is read. Stacked queries, keys and values become three tensors.
    """
    readers: dict[str, Callable[[], Tensor]] = {}
    for name in files.tensors:
        if not name.startswith(_PREFIX):
            continue
        new = name.removeprefix(_PREFIX)
        for old, of_transformers in _RENAMED:
            new = new.replace(old, of_transformers, 1)
        head, stacked, kind = new.partition("in_proj_")
        if not stacked:
            readers[f"text_model.{new}"] = partial(files.tensors.__getitem__, name)
            continue
        for index, part in enumerate(_STACKED):
            readers[f"text_model.{head}{part}.{kind}"] = partial(_third, files, name, index)
    readers["logit_scale"] = partial(_logit_scale, files)
    return replace(files, tensors=LazyTensors(readers, str(files.path)))


def _third(files: CheckpointFiles, name: str, index: int) -> Tensor:
    return files.tensors[name].chunk(3)[index]


def _logit_scale(files: CheckpointFiles) -> Tensor:
    """The logarithm of what multiplies a cosine, 1 / temperature, as CLIP's files hold it."""
    if _TEMPERATURE in files.tensors:
        return -torch.log(files.tensors[_TEMPERATURE].float())
    fields = files.config or {}
    given = number_of(fields, "temperature_init_value", _DEFAULT_TEMPERATURE, 1e-9, 1e9)
    return -torch.log(torch.tensor(float(given)))
