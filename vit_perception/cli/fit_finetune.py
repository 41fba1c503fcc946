"""`vit-perception fit --method finetune`: set up a run, show progress, evaluate the best epoch."""

import json
import os
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.pipeline_options import by_hand_of
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.fit import Evaluation
from vit_perception.training.curves import CURVES_FILE, METRICS_FILE, draw_curves
from vit_perception.training.finetune import FineTuning, Outcome, Row
from vit_perception.training.finetune import run as run_all
from vit_perception.training.pictures import LabelledSource, Pictures, check_all
from vit_perception.training.probe import summary, unreadable_of
from vit_perception.training.recipe import Recipe, defaults_from_random
from vit_perception.training.run_state import only_run_in, require_new_or_resume, write_whole
from vit_perception.training.start import Start, start_from_checkpoint, start_from_variant
from vit_perception.viewing.fit_report import picture_progress, print_evaluations, print_unreadable

TINY_STEP_FLOP = 2e9


def run(
    args: Namespace, train_source: LabelledSource, test_sources: dict[str, LabelledSource]
) -> int:
    """Train on ``train_source`` and evaluate on ``test_sources``, into ``args.out``; return 0."""
    recipe = recipe_of(args)
    device = device_of(args.device)
    with only_run_in(args.out):
        require_new_or_resume(args.out, args.resume)
        train, tests = check_pictures(train_source, test_sources)
        start = start_of(args, labels_of(train, tests), recipe.seed)
        torch.set_num_threads(threads_of(args.threads, start, recipe.batch))
        tuning = FineTuning(
            start=start, pictures=train, recipe=recipe, device=device, workers=workers()
        )
        print(
            f"{start.source}: {sum(p.numel() for p in tuning.model.parameters()) / 1e6:.2f} M "
            "parameters, classifier "
            f"{start.head}; {len(tuning.train)} pictures to train on, {len(tuning.held_out)} held "
            f"out; on {device} "
            f"in {recipe.precision}"
        )
        try:
            outcome = train_with_bar(tuning, args)
        except KeyboardInterrupt:
            print(
                f"hint: complete epochs are saved in {args.out}; run the same command with "
                "--resume to continue"
            )
            raise
        report(tuning=tuning, outcome=outcome, out=args.out, train=train, tests=tests)
    return 0


def recipe_of(args: Namespace) -> Recipe:
    """Return the recipe: values that the user gave, and defaults for what the run starts from.

    Raises:
        InvalidValue: A value is not accepted.
    """
    values: dict[str, Any] = dict(defaults_from_random()) if args.variant else {}
    given = {each.name: getattr(args, each.name) for each in fields(Recipe)}
    values |= {name: value for name, value in given.items() if value is not None}
    return Recipe(**values)


def device_of(asked: str | None) -> str:
    """Return the device to train on.

    Raises:
        InvalidValue: torch does not have it.
    """
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", asked):
        raise InvalidValue(f"--device is {asked!r}; accepted: cpu, cuda or cuda:<n>")
    try:
        torch.zeros(1, device=asked)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise InvalidValue(
            f"--device is {asked!r}: {str(error).splitlines()[0]}; accepted: cpu"
            + (", cuda" if torch.cuda.is_available() else "")
        ) from error
    return asked


def workers() -> int:
    """Return the number of threads that decode images; they mostly wait for the model."""
    return min(8, max(2, os.cpu_count() or 2))


def threads_of(asked: int | None, start: Start, batch: int) -> int:
    """Return the number of CPU threads for the model.

    Raises:
        InvalidValue: ``asked`` is below 1.
    """
    if asked is not None and asked < 1:
        raise InvalidValue(f"--threads is {asked}; accepted: 1 or more")
    rows, columns = start.model.config.grid_of(*start.rule.network_size_px)
    # Three times the forward pass's two operations a weight and token.
    step_flop = 6 * sum(p.numel() for p in start.model.parameters()) * rows * columns * batch
    # Threads wait for each other after each small product: on two busy cores a tiny model takes
    # five times as long.
    return asked or (1 if step_flop < TINY_STEP_FLOP else torch.get_num_threads())


def check_pictures(
    train: LabelledSource, tests: dict[str, LabelledSource]
) -> tuple[Pictures, dict[str, Pictures]]:
    """Decode every image once, with a progress bar, and print unreadable ones."""
    checked = {}
    with picture_progress() as progress:
        for name, source in {"train": train, **tests}.items():
            bar = progress.add_task(f"checking {source.name}", total=len(source.pictures))
            checked[name] = check_all(source.pictures, workers(), partial(progress.advance, bar))
    print_unreadable(unreadable_of(p.unreadable for p in checked.values()))
    return checked.pop("train"), checked


def labels_of(
    train: Pictures | LabelledSource, tests: Mapping[str, Pictures | LabelledSource]
) -> tuple[str, ...]:
    """Return the classes in the order of their names.

    Raises:
        InvalidValue: There is only one class, or one that occurs only in the tests.
    """
    labels = tuple(sorted(set(train.labels)))
    if len(labels) < 2:
        raise InvalidValue(f"the labels are {', '.join(labels)}; accepted: at least two classes")
    unknown = sorted({label for test in tests.values() for label in test.labels} - set(labels))
    if unknown:
        raise InvalidValue(
            f"label {', '.join(unknown)} is only in what is tested on; accepted: "
            f"{', '.join(labels)}"
        )
    return labels


def start_of(args: Namespace, labels: tuple[str, ...], seed: int) -> Start:
    """Return the model to train, from a variant or a checkpoint."""
    if args.variant:
        return start_from_variant(
            variant=args.variant,
            image_size_px=args.image_size,
            labels=labels,
            pooling=args.feature,
            seed=seed,
        )
    return start_from_checkpoint(
        checkpoint=args.checkpoint or "demo",
        labels=labels,
        pooling=args.feature,
        seed=seed,
        family=args.family or "auto",
        by_hand=by_hand_of(args),
    )


def train_with_bar(tuning: FineTuning, args: Namespace) -> Outcome:
    """Run all epochs with a progress bar, and print one line per epoch."""
    epochs = tuning.recipe.epochs
    pictures = len(tuning.train) + len(tuning.held_out)
    done = 0
    with picture_progress() as progress:
        bar = progress.add_task(f"of at most {epochs} epochs", total=epochs * pictures)

        def on_epoch(row: Row, best: bool) -> None:
            nonlocal done
            done = int(row["epoch"])
            progress.update(bar, completed=done * pictures)
            progress.console.print(
                f"epoch {done:3d}  loss {row['train_loss']:.4f}  held out: loss "
                f"{row['held_out_loss']:.4f} accuracy "
                f"{row['held_out_accuracy']:.4f}  {row['seconds']:.1f} s{'  best' if best else ''}",
                highlight=False,
            )

        outcome = run_all(
            tuning, args.out, args.resume, on_epoch, lambda count: progress.advance(bar, count)
        )
        progress.update(bar, completed=epochs * pictures)
    return outcome


def report(
    tuning: FineTuning, outcome: Outcome, out: Path, train: Pictures, tests: dict[str, Pictures]
) -> None:
    """Evaluate the saved checkpoint as the node would load it; write report.json and curves.png."""
    tuning.model.load_state_dict(load_checkpoint(str(out)).model.state_dict())
    evaluations: dict[str, Evaluation] = {"held_out": tuning.evaluate(train, tuning.held_out)[0]}
    for name, test in tests.items():
        evaluations[name] = tuning.evaluate(test, range(len(test.items)))[0]
    start = tuning.start
    history = outcome.history
    facts = {
        "method": "finetune",
        "start": start.source,
        "start_sha256": start.weights_sha256,
        "labels": list(start.labels),
        "pictures": len(train.items),
        "trained_on": len(tuning.train),
        "epochs": len(history),
        "best_epoch": outcome.best_epoch,
        "stopped": outcome.stopped,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "recipe": asdict(tuning.recipe),
        "device": str(tuning.device),
        "unreadable": unreadable_of(p.unreadable for p in (train, *tests.values())),
        **{name: summary(e) for name, e in evaluations.items()},
        "history": history,
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    write_whole(out / "report.json", lambda path: path.write_text(text, encoding="utf-8"))
    missing = draw_curves(out, history, outcome.best_epoch)
    print_evaluations(evaluations)
    print(
        f"{outcome.stopped}; best epoch {outcome.best_epoch} of {len(history)}"
        + (f", {outcome.resumed_at} of them from before" if outcome.resumed_at else "")
    )
    print(
        missing
        or f"curves in {out / CURVES_FILE}, figures in {out / METRICS_FILE} and "
        f"{out / 'report.json'}"
    )
    print(
        f"checkpoint of {len(start.labels)} classes saved in {out}: model.checkpoint: "
        f"{out.resolve()}"
    )
