"""A linear head on the features of an encoder that is not changed: fit, evaluate, save."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

from vit_perception.files.errors import InvalidValue
from vit_perception.heads.classification import (
    LABELS_FILE,
    WEIGHTS_FILE,
    Head,
    OutdatedHead,
    load_head,
    save_head,
)
from vit_perception.heads.fit import Evaluation, evaluate, fit_head, held_out
from vit_perception.training.features import Features, FeatureSource
from vit_perception.training.pictures import LabelledSource, Unreadable
from vit_perception.training.run_state import OutputError, write_whole

REPORT_FILE = "report.json"


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted head and how good it is."""

    # Fitted on all images of ``train``.
    head: Head
    # By what they were evaluated on: ``held_out`` and the names of the tests.
    evaluations: dict[str, Evaluation]
    # By source: ``train`` and the names of the tests.
    features: dict[str, Features]


def fit_probe(
    source: FeatureSource,
    train: LabelledSource,
    tests: Mapping[str, LabelledSource],
    method: str,
    feature: str,
    share: float,
    progress: Callable[[str, int], Callable[[], None]],
) -> Probe:
    """Fit a head on ``train``, and evaluate it on held-out images and on ``tests``.

    A ``share`` of ``train`` is evaluated by a head that has not seen it; the saved head has seen
    all. ``progress(what, total)`` gives a function that is called once per image.
    """
    features = {
        "train": source.features(
            train.pictures, feature, progress(f"features of {train.name}", len(train.pictures))
        )
    }
    values = features["train"].values
    labels = features["train"].labels
    mask = held_out(labels, features["train"].stretches, share)
    evaluations = {}
    if mask.any():
        judged = fit_head(
            features=values[~mask],
            labels=[la for la, out in zip(labels, mask) if not out],
            feature=feature,
            method=method,
        )
        evaluations["held_out"] = evaluate(
            judged, values[mask], [la for la, out in zip(labels, mask) if out]
        )
    head = replace(
        fit_head(features=values, labels=labels, feature=feature, method=method),
        encoder_sha256=source.encoder_sha256,
    )
    for name, test in tests.items():
        features[name] = source.features(
            test.pictures, feature, progress(f"features of {test.name}", len(test.pictures))
        )
        evaluations[name] = evaluate(head, features[name].values, features[name].labels)
    return Probe(head, evaluations, features)


def require_head_folder(folder: Path) -> None:
    """Make ``folder`` for a head: new or empty, or with a complete head and nothing else.

    Raises:
        InvalidValue: It holds something else.
        OutputError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        held = {p.name for p in folder.iterdir()}
    except OSError as error:
        raise OutputError(
            f": {folder} cannot be written: {error}; accepted: a writable folder", argument="out"
        ) from error
    accepted = "accepted: a new or an empty folder, or a head that is to be replaced"
    if others := sorted(held - {WEIGHTS_FILE, LABELS_FILE, REPORT_FILE}):
        raise InvalidValue(f": {folder} holds {', '.join(others[:3])}; {accepted}", argument="out")
    if held:
        try:
            load_head(folder)
        except OutdatedHead:
            pass  # its own message asks for a new fit
        except ValueError as error:
            raise InvalidValue(
                f": {folder} holds {', '.join(sorted(held))}, which is no whole head "
                f"({str(error).partition('; accepted')[0]}); {accepted}",
                argument="out",
            ) from error


def save_probe(probe: Probe, folder: Path, method: str, model: str) -> dict:
    """Write the head and report.json into ``folder``, and return the report.

    Raises:
        InvalidValue, OutputError: As :func:`require_head_folder`.
    """
    require_head_folder(folder)
    save_head(folder, probe.head)
    head = probe.head
    train = probe.features["train"]
    report = {
        "method": method,
        "feature": head.feature,
        "labels": list(head.labels),
        "pictures": len(train.labels),
        "model": model,
        "encoder_sha256": head.encoder_sha256,
        "features_from_cache": {name: f.from_cache for name, f in probe.features.items()},
        "unreadable": unreadable_of(f.unreadable for f in probe.features.values()),
        **{name: summary(e) for name, e in probe.evaluations.items()},
    }
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / REPORT_FILE, lambda file: file.write_text(text, encoding="utf-8"))
    return report


def unreadable_of(groups: Iterable[Iterable[Unreadable]]) -> list[dict[str, str]]:
    """Return unreadable images as JSON, group after group."""
    return [{"picture": u.name, "why": u.why} for group in groups for u in group]


def summary(evaluation: Evaluation) -> dict:
    """Return an evaluation as JSON."""
    return {
        "accuracy": round(evaluation.accuracy, 4),
        "pictures": int(evaluation.confusion.sum()),
        "confusion": evaluation.confusion.tolist(),
    }
