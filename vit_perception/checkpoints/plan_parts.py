"""The parts of a loaded checkpoint: tensors by each part's own names, and a policy's modules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from vit_perception.checkpoints.family import (
    CONNECTOR,
    DENSE,
    PROJECTION,
    SECOND,
    STATE,
    LoadPlan,
)
from vit_perception.checkpoints.load_strict import build_strict, load_strict
from vit_perception.heads.connectors import Connector, make_connector
from vit_perception.heads.policy_state import StateProjection, make_state_projection
from vit_perception.model.second_encoder import SecondEncoder


class TensorsOfParts(NamedTuple):
    """The tensors of a file, part by part."""

    encoder: dict[str, Tensor]
    projection: Tensor | None
    # Each by its own names: dense head, connector, state projection, second encoder.
    dense: dict[str, Tensor]
    connector: dict[str, Tensor]
    state: dict[str, Tensor]
    second: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class PolicyParts:
    """What a policy has besides its encoder; None for what it has not."""

    connector: Connector | None
    state: StateProjection | None
    second: SecondEncoder | None


def split_tensors(tensors: Mapping[str, Tensor], plan: LoadPlan) -> TensorsOfParts:
    """Split ``tensors``, by the model's names, into the parts that ``plan`` has."""
    encoder = {name: tensor for name, tensor in tensors.items() if name != PROJECTION}
    of = {}
    for prefix, present in (
        (DENSE, plan.dense is not None),
        (CONNECTOR, plan.connector is not None),
        (STATE, plan.state is not None),
        (SECOND, plan.second is not None),
    ):
        names = [name for name in encoder if present and name.startswith(prefix)]
        of[prefix] = {name.removeprefix(prefix): encoder.pop(name) for name in names}
    return TensorsOfParts(
        encoder=encoder,
        projection=tensors.get(PROJECTION),
        dense=of[DENSE],
        connector=of[CONNECTOR],
        state=of[STATE],
        second=of[SECOND],
    )


def policy_parts(plan: LoadPlan, parts: TensorsOfParts, source: str) -> PolicyParts:
    """Make the parts that ``plan`` has, with their weights; ``source`` names the file in errors.

    Raises:
        CheckpointError: As :func:`vit_perception.checkpoints.load_strict.load_strict`.
    """
    connector = make_connector(plan.connector) if plan.connector else None
    if connector is not None:
        load_strict(connector, parts.connector, f"{source} (connector)")
        connector.eval().requires_grad_(False)
    state = make_state_projection(plan.state) if plan.state else None
    if state is not None:
        load_strict(state, parts.state, f"{source} (state projection)")
        state.eval().requires_grad_(False)
    second = None
    if plan.second is not None:
        model = build_strict(plan.second.config, parts.second, f"{source} (second encoder)")
        second = SecondEncoder(model, plan.second.mean, plan.second.std)
    return PolicyParts(connector, state, second)
