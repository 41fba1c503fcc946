"""Cameras as token sources: the CLS token and the patch tokens, of each encoder."""

from collections.abc import Mapping, Sequence

from vit_perception.config.cameras.transports import TRANSPORTS
from vit_perception.tokens.frame import EncoderGrid, FrameInputs
from vit_perception.tokens.source import TokenRows, TokenSource, register
from vit_perception.tokens.tokenizer import Tokenizer
from vit_perception.wire.records import TokenGroup

TYPES = {name: row.type for name, row in TRANSPORTS.items()}


@register
class CameraSource(TokenSource):
    """One camera. Its images are grouped by stamp and batched; the encoders give its tokens."""

    group = "cameras"
    label = "camera"
    rank = 0

    @property
    def message_type(self) -> str:
        """The type of its images, by the transport."""
        kind: str = self.settings.message_type
        return kind

    @property
    def wants(self) -> str:
        """The parameter that decides on the type."""
        return f"transport {self.settings.transport}"

    def token_rows(
        self, encoders: Sequence[EncoderGrid], tokenizers: Mapping[str, Tokenizer]
    ) -> tuple[TokenRows, ...]:
        """Return one CLS token, then the patches row by row, of one encoder after another."""
        rows: list[TokenRows] = []
        for encoder in encoders:
            grid = encoder.grid
            count = grid[0] * grid[1]
            rows.append(TokenRows("cls", 1, encoder=encoder.name))
            rows.append(TokenRows("patch", count, grid, embedded=False, encoder=encoder.name))
        return tuple(rows)

    def token_groups(self, frame: FrameInputs) -> list[TokenGroup]:
        """Return views of the encoders' outputs."""
        row = frame.rows[self.name]
        is_present = self.name in frame.present
        groups: list[TokenGroup] = []
        for encoder, output in zip(frame.encoders, frame.output.each, strict=True):
            cls_token = output.cls_token[row][None]
            patches = output.patch_tokens[row]
            name = encoder.name
            groups.append(TokenGroup("cls", self.name, cls_token, is_present, encoder=name))
            groups.append(
                TokenGroup(
                    kind="patch",
                    source=self.name,
                    tokens=patches,
                    valid=is_present,
                    grid=encoder.grid,
                    embedded=False,
                    encoder=name,
                )
            )
        return groups
