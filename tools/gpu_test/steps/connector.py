"""A tower with a policy's connector behind it, in one engine: tokens of the connector's width,
which pass the gate, and which are those of their input.
"""

from dataclasses import asdict, replace
from functools import partial

import torch

from tools.gpu_test.inside import copies
from tools.gpu_test.machine import Machine, Runtime
from tools.gpu_test.note import Note
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.engines.parity_gate import ParityLimits, measure
from vit_perception.engines.reference import reference_outputs
from vit_perception.heads.connectors import Connector, ConnectorSpec
from vit_perception.wire.records import EncoderOutput

BATCH = 2
WIDTH = 96


def specs_of(width: int) -> dict[str, ConnectorSpec]:
    """One connector of each form behind a tower of ``width`` channels, by its name."""
    square = 4 * width
    return {
        "projector": ConnectorSpec(widths=(width, WIDTH)),
        "pixel shuffle": ConnectorSpec(widths=(square, WIDTH), shuffle=2, bias=False, scale=8.0),
        "merger with RMSNorm": ConnectorSpec(widths=(square, square, WIDTH), shuffle=2, norm="rms"),
        "merger with LayerNorm": ConnectorSpec(
            widths=(square, square, WIDTH), shuffle=2, norm="layer"
        ),
        "projector with the norm of a square": ConnectorSpec(
            widths=(square, WIDTH, WIDTH), shuffle=2, norm="layer", norm_place="square"
        ),
    }


def with_connector(loaded: LoadedModel, spec: ConnectorSpec) -> LoadedModel:
    """``loaded`` with a connector of seeded random weights."""
    torch.manual_seed(0)
    return replace(loaded, connector=Connector(spec).eval().requires_grad_(False))


def run(machine: Machine, note: Note) -> None:
    """Each form of connector, for each runtime and precision."""
    loaded = machine.random()
    for name, spec in specs_of(loaded.model.config.width).items():
        connected = with_connector(loaded, spec)
        for runtime, precision in machine.each():
            note.attempt(
                f"{runtime.label} {precision}: {name}",
                partial(_one, machine, note, runtime, precision, name, connected),
            )


def _one(
    machine: Machine,
    note: Note,
    runtime: Runtime,
    precision: str,
    name: str,
    loaded: LoadedModel,
) -> None:
    label = f"{runtime.label} {precision}: {name}"
    with machine.opened(runtime, loaded, BATCH, precision) as opened:
        note.figure(f"{label}: parity", asdict(opened.report))
        graph = opened.source.graph
        rows, columns = loaded.connector.spec.grid_of(graph.grid)
        images = opened.two[1]
        found = copies(opened.engine.infer(images))
        shape = found["patch_tokens"].shape
        wanted = (BATCH, rows * columns, loaded.connector.spec.width)
        note.check(shape == wanted, f"{label}: tokens are {wanted}", shape)
        report = measure(EncoderOutput(**found), reference_outputs(graph, images))
        failures = report.failures(ParityLimits.for_precision(precision))
        note.check(not failures, f"{label}: those of its input, as the gate asks", failures)
