"""Cameras as token sources: the CLS token, and the patch tokens."""

from collections.abc import Mapping

from vit_perception.tokens.source import FrameInputs, TokenRows, TokenSource, register
from vit_perception.tokens.tokenizer import Tokenizer
from vit_perception.wire.records import TokenGroup

TYPES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}


@register
class CameraSource(TokenSource):
    """One camera. Its images are grouped by stamp and batched; the encoder gives its tokens."""

    group = "cameras"
    label = "camera"
    rank = 0

    @property
    def message_type(self) -> str:
        """Image or CompressedImage, by the transport."""
        return TYPES[self.settings.transport]

    @property
    def wants(self) -> str:
        """The parameter that decides on the type."""
        return f"transport {self.settings.transport}"

    def token_rows(
        self, grid: tuple[int, int], tokenizers: Mapping[str, Tokenizer]
    ) -> tuple[TokenRows, ...]:
        """Return one CLS token, then the patches row by row."""
        patches = TokenRows("patch", grid[0] * grid[1], grid, embedded=False)
        return (TokenRows("cls", 1), patches)

    def token_groups(self, frame: FrameInputs) -> list[TokenGroup]:
        """Return views of the encoder's output."""
        row = frame.rows[self.name]
        is_present = self.name in frame.present
        cls_token = frame.output.cls_token[row][None]
        patches = frame.output.patch_tokens[row]
        return [
            TokenGroup("cls", self.name, cls_token, is_present),
            TokenGroup("patch", self.name, patches, is_present, frame.grid, embedded=False),
        ]
