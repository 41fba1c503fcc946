"""Novelty and camera shift of tokens that went through a form of the wire (docs/thin_link.md).

benchmarks/monitor_bench.py runs it with ``--features`` and ``--basis``. The same pictures are
judged after their patch tokens were encoded and decoded by the wire's own code, with the reference
that is given, which was learnt from float32 features; and with references learnt from the features
as `embed --store basis` stores them. Such a reference judges the node's float32 tokens, too, as the
node compares tokens before it reduces them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.monitor_changes import MOVES
from tools.thin_link.forms import TokenForm
from vit_perception.datasets.reference.learn import learn_reference
from vit_perception.datasets.reference.turned import with_gain_on
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.pipeline.monitor.reference import CameraReference
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.layout import Layout

EXACT = "float32"
CAMERA, MOVING = "agentview", "wrist"
# Patch tokens (frames, P, D) by variant and camera.
Tokens = Mapping[str, Mapping[str, np.ndarray]]
Monitors = Mapping[str, CameraMonitor]
Turned = Callable[[str], Sequence[tuple[float, np.ndarray]]]


def received(form: TokenForm, tokens: np.ndarray) -> np.ndarray:
    """Return what a receiver has of ``tokens`` (N, D) that were sent in ``form``."""
    return form.decode(SimpleNamespace(**form.encode(tokens)._asdict()))


class Stored(FeatureFiles):
    """Float32 features as they are read where `embed` has stored them in a form."""

    def __init__(self, folder: Path, form: TokenForm):
        super().__init__(folder)
        self._form = form

    def row(self, index: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        row = super().row(index, names)
        return {**row, "tokens": received(self._form, row["tokens"])}


def forms_of(features: Path, bases: Sequence[Path]) -> list[TokenForm]:
    """Return float32, int8, and a form of each file of a basis.

    Raises:
        InvalidValue: The features are not float32, or a basis is of another encoder.
    """
    layout = FeatureFiles(features).layouts[-1]
    if layout.dtype != EXACT or layout.basis:
        raise InvalidValue(
            f"{features} is not stored as float32; accepted: `embed` without --store"
        )
    forms = [TokenForm.of(name, layout, None) for name in (EXACT, "int8")]
    for path in bases:
        form = TokenForm.of("basis", layout, path)
        if form.basis.encoder_sha256 != layout.encoder_sha256:
            raise InvalidValue(
                f"{path} is a basis of another encoder; accepted: one of the encoder of {features}"
            )
        forms.append(TokenForm(f"basis_{form.basis.dims}", form.layout, form.basis))
    return forms


def sent(form: TokenForm, tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the patch tokens (frames, P, D) of all cameras after they were sent in ``form``."""
    layout: Layout = form.layout
    groups = {camera: layout.group(f"{camera}/patch") for camera in tokens}
    restored = {camera: np.empty_like(rows) for camera, rows in tokens.items()}
    for number in range(len(next(iter(tokens.values())))):
        # All other tokens of the sequence are missing.
        frame = np.zeros((layout.token_count, layout.width), np.float32)
        for camera, group in groups.items():
            frame[group.start : group.stop] = tokens[camera][number]
        frame = received(form, frame)
        for camera, group in groups.items():
            restored[camera][number] = frame[group.start : group.stop]
    return restored


def learnt_from(features: Path, form: TokenForm, turned: Turned) -> dict[str, CameraMonitor]:
    """Return monitors with the reference of features that are stored in ``form``.

    ``turned`` gives the turned pictures of a camera, which `reference --recording` encodes.
    """
    cameras: dict[str, CameraReference] = learn_reference(Stored(features, form)).reference.cameras
    return {
        name: CameraMonitor(with_gain_on(camera, turned(name)) if camera.has_background else camera)
        for name, camera in cameras.items()
    }


def form_cases(
    judge: Callable[[Tokens, Monitors], dict[str, Any]],
    tokens: Tokens,
    monitors: Monitors,
    features: Path,
    bases: Sequence[Path],
    turned: Turned,
) -> list[dict[str, Any]]:
    """Return what ``judge`` measures with each form of the reference's features and the tokens."""
    forms = forms_of(features, bases)
    by_reference = {EXACT: monitors}
    for form in forms:
        if form.basis:
            by_reference[form.name] = learnt_from(features, form, turned)
            print(f"learnt from: {form.name}", flush=True)
    cases: dict[tuple[str, str], dict[str, Any]] = {}
    for form in forms:
        judged = {variant: sent(form, rows) for variant, rows in tokens.items()}
        for name, each in by_reference.items():
            if EXACT in (form.name, name) or form.name == name:
                cameras = judge(judged, each)
                for row in cameras.values():
                    row.pop("monitor_cpu_ms")  # the form has no part in it
                cases[name, form.name] = {
                    "reference": name,
                    "tokens": form.name,
                    "cameras": cameras,
                }
                print(f"judged: {form.name}, by the reference of {name}", flush=True)
    order = list(by_reference)
    return sorted(cases.values(), key=lambda case: order.index(case["reference"]))


def forms_table(report: Mapping[str, Any]) -> str:
    """Return the table of docs/monitor.md."""
    lines = [
        "| reference learnt from | tokens judged | unchanged, warned of | changes, warned of "
        "| AUROC, lowest | shift error, median / worst px | rotation error, median / worst ° "
        "| wrist, AUROC, mean |",
        f"|{' --- |' * 8}",
    ]
    for case in report["cases"]:
        still, moving = case["cameras"][CAMERA], case["cameras"][MOVING]
        rows = still["variants"]
        moves = [row for row in rows if row["variant"] in MOVES]
        cells = [
            title(case["reference"]),
            title(case["tokens"]),
            _percent(still["false_alarms"]),
            _percent(np.mean([row["alarms"] for row in rows])),
            f"{min(row['auroc'] for row in rows):.2f}",
            *(
                f"{_largest(moves, f'{error}_median')} / {_largest(moves, f'{error}_worst')}"
                for error in ("error_px", "rotation_error_deg")
            ),
            f"{np.mean([row['auroc'] for row in moving['variants']]):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def title(form: str) -> str:
    """Return the name of a form as the docs have it."""
    kind, _, dims = form.partition("_")
    return f"{kind}, {dims} directions" if dims else kind


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _largest(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The largest of all changes; a change without any shift found has none."""
    found = [row[name] for row in rows if name in row]
    return f"{max(found):.1f}" if found else "–"
