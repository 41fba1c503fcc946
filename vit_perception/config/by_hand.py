"""What a user says of a checkpoint's preprocessing, where the checkpoint itself does not say it."""

from typing import NamedTuple


class ByHand(NamedTuple):
    """The parameters ``model.mean``, ``model.std`` and ``model.size``; what is not given is ()."""

    # Of R, G, B, for pixels scaled to [0, 1]: input = (pixel / 255 − mean) / std.
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    # (height, width) of the images that the model was trained on.
    size_px: tuple[int, ...] = ()

    @property
    def is_given(self) -> bool:
        """Whether at least one of the three is given."""
        return any(self)


NOTHING_GIVEN = ByHand()
