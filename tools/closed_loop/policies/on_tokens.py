"""The policies beside the recommended one that also get the node's tokens."""

from collections.abc import Callable

import torch
from chunk_policy import ChunkExamples, ChunkPolicy
from demonstrations import unit_blocks
from knn_policy import KnnPolicy
from spatial_policy import SpatialPolicy
from torch import Tensor, nn

from vit_perception.wire.layout import Layout

# What a kind of policy is told beside the sizes that all have.
Arguments = Callable[[Layout, ChunkExamples], dict]
CLS_FEATURES = 64
NEIGHBOURS = 5


class NoPosePolicy(SpatialPolicy):
    """The recommended policy, but where the hand is must be seen: its position is masked."""

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the policy says of the mean position."""
        body = inputs["body"].clone()
        body[:, :3] = self.body_mean[:3]
        return super().forward(inputs | {"body": body})


class ClsPolicy(ChunkPolicy):
    """Takes the CLS token of each camera instead of its patches."""

    takes = ("tokens", "mask")

    def __init__(self, rows: list[int], token_width: int, body_count: int, steps: int):
        super().__init__(CLS_FEATURES * len(rows), body_count, steps)
        self.rows = rows
        self.look = nn.ModuleList(nn.Linear(token_width, CLS_FEATURES) for _ in rows)

    def features(self, inputs: dict[str, Tensor], body: Tensor) -> Tensor:
        """Return numbers of each camera's token; zeros where it is missing."""
        parts = [
            nn.functional.gelu(look(inputs["tokens"][:, row])) * inputs["mask"][:, row, None]
            for row, look in zip(self.rows, self.look)
        ]
        return torch.cat(parts, dim=1)


class NeighbourPolicy(ChunkPolicy):
    """Does what was done in the demonstrations' most similar moments. It is not trained.

    Similar are the CLS tokens, the pose and the joints, each made unit length.
    """

    takes = ("tokens", "mask")

    def __init__(
        self, rows: list[int], token_width: int, body_count: int, steps: int, moments: int
    ):
        super().__init__(0, body_count, steps)
        self.rows = rows
        self.token_width = token_width
        self.register_buffer("bank", torch.zeros(moments, len(rows) * token_width))
        self.register_buffer("answers", torch.zeros(moments, steps, 4))

    def remember(self, examples: ChunkExamples) -> None:
        """Take the demonstrations."""
        self.learn_scales(examples)
        self.bank.copy_(torch.from_numpy(self._similar(examples.inputs["tokens"])))
        self.answers[..., :3] = torch.from_numpy(examples.moves_m)
        self.answers[..., 3] = torch.from_numpy(examples.closed)

    def _similar(self, tokens):
        chosen = tokens[..., self.rows, :].reshape(*tokens.shape[:-2], -1)
        return unit_blocks(chosen, self.token_width)

    def act(self, inputs):
        """Return targets (S, 3) in m and closed (S,) bool, for inputs without a batch axis."""
        known = KnnPolicy(
            self.bank.double().numpy(), self.answers.flatten(1).double().numpy(), NEIGHBOURS
        )
        answer = known.act(self._similar(inputs["tokens"])).reshape(self.steps, 4)
        return inputs["body"][:3] + answer[:, :3].astype("float32"), answer[:, 3] > 0.5


def spatial_arguments(layout: Layout, examples: ChunkExamples) -> dict:
    groups = [group for group in layout.groups if group.kind == "patch"]
    return {"patches": [(group.start, group.stop, *group.grid) for group in groups]}


def cls_arguments(layout: Layout, examples: ChunkExamples) -> dict:
    return {"rows": rows_of(layout, "cls")}


def neighbour_arguments(layout: Layout, examples: ChunkExamples) -> dict:
    rows = rows_of(layout, *({group.kind for group in layout.groups} - {"patch"}))
    return {"rows": rows, "moments": len(examples.moves_m)}


def rows_of(layout: Layout, *kinds: str) -> list[int]:
    """Return the rows of all groups of these kinds."""
    chosen = [group for group in layout.groups if group.kind in kinds]
    return [row for group in chosen for row in range(group.start, group.stop)]
