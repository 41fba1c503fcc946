"""A family of Hugging Face transformers: recognised by ``model_type``, read by config.json and its
fellows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, KeyMap, Reading
from vit_perception.checkpoints.files.opened import CONFIG_FILE, Found
from vit_perception.checkpoints.huggingface.config import (
    labels_of,
    license_of,
    refuse_other_functions,
    scores_of,
)
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vision_transformer import ViTConfig


@dataclass(frozen=True)
class HuggingFace:
    """What differs between the families of transformers.

    ``prefixes`` stand before the backbone's names in files with a head on top; ``shape_of`` reads
    ViTConfig's fields from config.json, but for pooling and head; ``key_map`` has every spelling
    that files use; ``unused`` are names or patterns of tensors that no output needs;
    ``head_pooling`` is what the classifier sees, ``head`` its kind and ``head_weights`` the name by
    which the file tells that it has one; ``interpolation`` is the resize where the preprocessing
    does not name one. ``converters`` and ``zeros`` are those of a Reading, from the config.
    ``other_types`` are further values of ``model_type``; ``with_head`` fields of ViTConfig that
    differ with a head. ``projected`` says whether a file must hold a projection.
    """

    model_type: str
    prefixes: tuple[str, ...]
    shape_of: Callable[[Mapping[str, Any]], dict[str, Any]]
    key_map: Callable[[ViTConfig], KeyMap]
    marks: tuple[str, ...]
    unused: tuple[str, ...] = ()
    head_pooling: str = "cls"
    head: str = "linear"
    head_weights: str = "classifier.weight"
    interpolation: str = "bicubic"
    scores: str = "softmax"
    converters: Callable[[ViTConfig], Mapping[str, Converter]] = field(default=lambda config: {})
    zeros: Callable[[ViTConfig], Mapping[str, tuple[int, ...]]] = field(default=lambda config: {})
    other_types: tuple[str, ...] = ()
    with_head: Mapping[str, Any] = field(default_factory=dict)
    projected: Callable[[Found], bool] = field(default=lambda found: False)

    def family(self) -> Family:
        """The entry of the table of families, named by the ``model_type``."""
        return Family(self.model_type, self.recognises, self.read, self.marks, self.model_type)

    def recognises(self, found: Found) -> bool:
        """By ``model_type``; without a config.json by the names, so that the missing file is what
        the error is of.
        """
        if found.config is not None:
            return found.config.get("model_type") in (self.model_type, *self.other_types)
        return any(
            found.has(*(f"{prefix}{mark}" for mark in self.marks))
            for prefix in ("", *self.prefixes)
        )

    def read(self, found: Found) -> Reading:
        """Model, names, preprocessing, labels and licence. Raises CheckpointError naming the file
        and the field.
        """
        if found.config is None:
            raise CheckpointError(
                f"{found.folder}: no file {CONFIG_FILE}; accepted: one with the model's sizes"
            )
        config, labels, scores = self._config_labels_and_scores(found)
        rule, mean, std = preprocessing_of(found.folder, self.interpolation)
        return Reading(
            config,
            self.key_map(config),
            rule,
            mean,
            std,
            labels,
            scores,
            self.prefixes,
            self.unused,
            self.converters(config),
            self.zeros(config),
            license_of(found.folder),
            projected=self.projected(found),
        )

    def _config_labels_and_scores(self, found: Found) -> tuple[ViTConfig, tuple[str, ...], str]:
        """The model's config, its labels and what makes scores of logits.

        It has a classifier where config.json names one or the file holds one.
        """
        fields, path = found.config, found.folder / CONFIG_FILE
        has_head = self.head_weights in found.tensors or any(
            name.endswith("ForImageClassification") for name in fields.get("architectures") or ()
        )
        try:
            if fields.get("num_channels", 3) != 3:
                raise InvalidValue(f"num_channels is {fields['num_channels']}; accepted: 3")
            refuse_other_functions(fields)
            config = ViTConfig(**self.shape_of(fields))
            if not has_head:
                return config, (), self.scores
            labels, scores = labels_of(fields), scores_of(fields, self.scores)
            return (
                replace(
                    config,
                    pooling=self.head_pooling,
                    head=self.head,
                    classes=len(labels),
                    **self.with_head,
                ),
                labels,
                scores,
            )
        except KeyError as error:
            raise CheckpointError(
                f"{path} has no {error.args[0]!r}; accepted: all sizes of a {self.model_type} model"
            ) from error
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise CheckpointError(f"{path}: {error}") from error
