"""A family of Hugging Face transformers: recognised by ``model_type``, read by its JSON files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from vit_perception.checkpoints.by_hand import by_hand_hint
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, KeyMap, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
from vit_perception.checkpoints.huggingface.config import (
    labels_of,
    license_of,
    refuse_other_functions,
    scores_of,
)
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """What differs between the families of transformers."""

    model_type: str
    # Further values of ``model_type``.
    other_types: tuple[str, ...] = ()
    # Before the backbone's names in files with a head on top.
    prefixes: tuple[str, ...]
    # Reads ViTConfig's fields from config.json, without pooling and head.
    config_fields: Callable[[Mapping[str, Any]], dict[str, Any]]
    # Every key alias that files use.
    key_map: Callable[[ViTConfig], KeyMap]
    signature_keys: tuple[str, ...]
    # Whether the names of the tensors tell the family without a config.json.
    known_by_names: bool = True
    # Names or patterns of tensors that no output needs.
    unused: tuple[str, ...] = ()
    # What the classifier sees, and its kind.
    head_pooling: str = "cls"
    head: str = "linear"
    # A file with this name has a classifier.
    head_weights: str = "classifier.weight"
    # Fields of ViTConfig that differ with a classifier.
    with_head: Mapping[str, Any] = field(default_factory=dict)
    # Turns the fields of a processor of the family's own into those of a known one.
    processor_fields: Callable[[Mapping[str, Any], ViTConfig], Mapping[str, Any]] = field(
        default=lambda fields, config: fields
    )
    # Of the resize, if the preprocessing does not name one.
    interpolation: str = "bicubic"
    scores: str = "softmax"
    # Of the LoadPlan.
    converters: Callable[[ViTConfig], Mapping[str, Converter]] = field(default=lambda config: {})
    zeros: Callable[[ViTConfig], Mapping[str, tuple[int, ...]]] = field(default=lambda config: {})
    requires_projection: Callable[[CheckpointFiles], bool] = field(default=lambda files: False)

    def family(self) -> Family:
        """Make the entry of the table of families, named by the ``model_type``."""
        return Family(
            name=self.model_type,
            recognises=self.recognises,
            read=self.read,
            signature_keys=self.signature_keys,
            model_type=self.model_type,
        )

    def recognises(self, files: CheckpointFiles) -> bool:
        """Tell by ``model_type``.

        Without a config.json the names decide, so that the error is about the missing file.
        """
        if files.config is not None:
            return files.config.get("model_type") in (self.model_type, *self.other_types)
        return self.known_by_names and any(
            files.has(*(f"{prefix}{key}" for key in self.signature_keys))
            for prefix in ("", *self.prefixes)
        )

    def read(self, files: CheckpointFiles) -> LoadPlan:
        """Plan the model, its preprocessing, labels and licence.

        Raises:
            CheckpointError: A file is missing, or a field is wrong.
        """
        if files.config is None:
            raise CheckpointError(
                f"{files.folder}: no file {CONFIG_FILE}; accepted: one with the model's sizes"
            )
        config, labels, scores = self._classifier_config(files, files.config)
        return LoadPlan(
            config=config,
            key_map=self.key_map(config),
            preprocessing=preprocessing_of(
                files.folder,
                self.interpolation,
                as_known=lambda fields: self.processor_fields(fields, config),
                hint=by_hand_hint(
                    files.folder, self.model_type, config.image_size_px, files.by_hand
                ),
                by_hand=files.by_hand,
            ),
            labels=labels,
            scores=scores,
            prefixes=self.prefixes,
            unused=self.unused,
            converters=self.converters(config),
            zeros=self.zeros(config),
            license=license_of(files.folder),
            requires_projection=self.requires_projection(files),
        )

    def _classifier_config(self, files: CheckpointFiles, fields: Mapping[str, Any]) -> "_Sizes":
        path = files.folder / CONFIG_FILE
        # config.json names a classifier, or the file holds one.
        has_head = self.head_weights in files.tensors or any(
            name.endswith("ForImageClassification") for name in fields.get("architectures") or ()
        )
        try:
            if fields.get("num_channels", 3) != 3:
                raise InvalidValue(f"num_channels is {fields['num_channels']}; accepted: 3")
            refuse_other_functions(fields)
            config = ViTConfig(**self.config_fields(fields))
            if not has_head:
                return _Sizes(config, (), self.scores)
            labels = labels_of(fields)
            head = {"pooling": self.head_pooling, "head": self.head, "classes": len(labels)}
            config = replace(config, **head, **self.with_head)
            return _Sizes(config, labels, scores_of(fields, self.scores))
        except KeyError as error:
            raise CheckpointError(
                f"{path} has no {error.args[0]!r}; accepted: all sizes of a {self.model_type} model"
            ) from error
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise CheckpointError(f"{path}: {error}") from error


class _Sizes(NamedTuple):
    config: ViTConfig
    labels: tuple[str, ...]
    scores: str
