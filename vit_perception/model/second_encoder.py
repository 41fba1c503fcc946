"""A second encoder on the same pixels, whose patch tokens stand beside the first's (OpenVLA)."""

from dataclasses import dataclass

from vit_perception.files.errors import InvalidValue
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.model.vit_config import ViTConfig


@dataclass(frozen=True, eq=False)
class SecondEncoder:
    """A model, and the normalisation of its own."""

    # float32, in evaluation mode.
    model: VisionTransformer
    # Of R, G, B, for pixels scaled to [0, 1].
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check_pair(first: ViTConfig, second: ViTConfig) -> None:
    """Check that the patches of both are the same pixels.

    Raises:
        ValueError: They are not.
    """
    for name in ("patch_size_px", "image_size_px"):
        given = (getattr(first, name), getattr(second, name))
        if given[0] != given[1]:
            raise InvalidValue(
                f"{name} of the two encoders is {given[0]} and {given[1]}; accepted: encoders of "
                "one size, whose tokens stand side by side"
            )
