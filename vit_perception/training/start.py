"""What a run starts from: a checkpoint with a classifier, or a variant with random weights."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.by_hand import NOTHING_GIVEN, ByHand
from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.model.vit_config import POOLINGS, ViTConfig


@dataclass(frozen=True, eq=False)
class Start:
    """A model with a classifier, its preprocessing, and where it comes from."""

    # float32.
    model: VisionTransformer
    # The classes, in the order of the classifier's outputs.
    labels: tuple[str, ...]
    # How images are resized.
    rule: ResizeRule
    # Of each channel, for pixels from 0 to 1.
    mean: tuple[float, ...]
    std: tuple[float, ...]
    # The checkpoint's name, or that of the variant.
    source: str
    # Digest of the checkpoint's weights; "" for random ones.
    weights_sha256: str
    # Of the checkpoint; "" if it says none.
    license: str
    # Whose classifier it is, for people: ``new`` or ``that of the checkpoint``.
    head: str

    @property
    def model_sha256(self) -> str:
        """A digest of the model's configuration and preprocessing, which weights do not hold."""
        parts = {
            "config": asdict(self.model.config),
            "rule": self.rule.fields(),
            "mean": self.mean,
            "std": self.std,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def start_from_checkpoint(
    checkpoint: str,
    labels: tuple[str, ...],
    pooling: str | None,
    seed: int,
    family: str = "auto",
    by_hand: ByHand = NOTHING_GIVEN,
) -> Start:
    """Start from the model of a checkpoint.

    Its classifier is kept if it has the same labels, else a new one starts at 0. With ``pooling``
    None the new classifier gets what the checkpoint's classifier gets, or ``cls_mean`` if it has
    none. ``by_hand`` is the preprocessing that the checkpoint does not say.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        BadSetting: ``by_hand`` lacks a part, or says something else than the checkpoint.
        InvalidValue: The model has no such pooling.
    """
    loaded = load_checkpoint(checkpoint, family, by_hand)
    given = loaded.model.config
    card = loaded.card
    config = classifier_config(given, len(labels), pooling)
    same = card.labels == labels and given.pooling == config.pooling and given.head != "none"
    if same:
        config = given
    model = fresh(config, seed)
    theirs = {
        name: tensor
        for name, tensor in loaded.model.state_dict().items()
        if same or not name.startswith("head")
    }
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if same or not name.startswith("head")
    }
    odd = sorted(
        name
        for name in {*theirs, *wanted}
        if name not in theirs or name not in wanted or theirs[name].shape != wanted[name].shape
    )
    if odd:
        raise InvalidValue(
            f" is {config.pooling!r}, for which the weights of {checkpoint} do not fit "
            f"({', '.join(odd[:3])}); accepted: {given.pooling}",
            argument="feature",
        )
    # Copied: the loaded tensors may be a read-only mapping of the file.
    model.load_state_dict({**model.state_dict(), **theirs})
    if not same:
        nn.init.zeros_(model.head.weight)
    head = "that of the checkpoint" if same else "new"
    return Start(
        model=model,
        labels=labels,
        rule=card.rule,
        mean=card.mean,
        std=card.std,
        source=card.name,
        weights_sha256=card.weights_sha256,
        license=card.license,
        head=head,
    )


def start_from_variant(
    variant: str, image_size_px: int | None, labels: tuple[str, ...], pooling: str | None, seed: int
) -> Start:
    """Start from random weights of a variant in ``VARIANTS``, for squares of ``image_size_px``.

    Pixels are scaled to −1..1. Images are stretched to the square, since a robot's scene reaches to
    the edge.

    Raises:
        InvalidValue: There is no such variant, or the size does not fit its patches.
    """
    if variant not in VARIANTS:
        raise InvalidValue(
            f" is {variant!r}; accepted: {', '.join(VARIANTS)}",
            argument="variant",
            hint=nearest(variant, VARIANTS),
        )
    shape = VARIANTS[variant]
    if image_size_px is not None:
        if image_size_px < 1 or image_size_px % shape.patch_size_px:
            raise InvalidValue(
                f" is {image_size_px}; accepted: multiples of the patch size {shape.patch_size_px}",
                argument="image_size",
            )
        shape = replace(shape, image_size_px=(image_size_px, image_size_px))
    config = classifier_config(shape, len(labels), pooling)
    model = fresh(config, seed)
    half = (0.5, 0.5, 0.5)
    rule = ResizeRule(config.image_size_px, "stretch")
    return Start(
        model=model,
        labels=labels,
        rule=rule,
        mean=half,
        std=half,
        source=f"random {variant}",
        weights_sha256="",
        license="",
        head="new",
    )


def classifier_config(config: ViTConfig, classes: int, pooling: str | None) -> ViTConfig:
    """Return ``config`` with a linear classifier.

    Raises:
        InvalidValue: ``pooling`` is unknown.
    """
    if pooling is None:
        undecided = (
            config.head == "none"
            and config.pooling == "cls"
            and config.cls_token
            and not config.norm_pooled
        )
        pooling = "cls_mean" if undecided else config.pooling
    if pooling not in POOLINGS:
        raise InvalidValue(f" is {pooling!r}; accepted: {', '.join(POOLINGS)}", argument="feature")
    changes: dict[str, int | str] = {"pooling": pooling, "head": "linear", "classes": classes}
    changes["head_hidden_width"] = 0
    if pooling != config.pooling:
        # What belongs to the checkpoint's own pooling goes with it.
        changes |= {"cls_set": 0, "pooling_heads": 0, "pooling_mlp_width": 0}
    return replace(config, **changes)


def fresh(config: ViTConfig, seed: int) -> VisionTransformer:
    """Make a model with random weights, which depend on ``seed`` alone.

    Matrices by Glorot's rule and biases 0, as in Dosovitskiy et al. 2021; embeddings as the model
    makes them. torch's own generator is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer(config)
        for part in model.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
    return model
