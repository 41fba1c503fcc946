"""Fine-tuning with cross-entropy of all weights of a Vision Transformer and its classifier.

The same start, images and recipe give the same weights: order, crops and colours of each epoch are
drawn from generators seeded by run, epoch and image. So a run that is killed resumes after its last
complete epoch, and ends with the weights that it would have had without the interruption.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vit_perception.files.errors import InvalidValue, OperationFailed
from vit_perception.heads.fit import Evaluation, held_out
from vit_perception.image.preprocess import Preprocessor
from vit_perception.training.augment import Augment, generator_of
from vit_perception.training.batches import batches, order_of
from vit_perception.training.checkpoint_writer import write_description, write_weights
from vit_perception.training.curves import write_metrics
from vit_perception.training.optimiser import learning_rate_at, make_optimiser, set_learning_rate
from vit_perception.training.pictures import Pictures
from vit_perception.training.recipe import Recipe
from vit_perception.training.run_state import load_state, require_room, save_state
from vit_perception.training.start import Start

Row = dict[str, float]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished run."""

    # One row per epoch.
    history: list[Row]
    # From 1.
    best_epoch: int
    # Why the run ended.
    stopped: str
    # How many epochs were done by an earlier process.
    resumed_at: int


class FineTuning:
    """One run, epoch by epoch. ``start.model`` is trained in place, on ``device``."""

    def __init__(
        self,
        start: Start,
        pictures: Pictures,
        recipe: Recipe,
        device: str = "cpu",
        workers: int = 2,
    ):
        """Split the images into those to train on and those held out.

        Raises:
            InvalidValue: No image can be held out.
        """
        mask = held_out(pictures.labels, pictures.stretches, recipe.held_out)
        if not mask.any():
            raise InvalidValue(
                "no picture can be held out, so nothing says when to stop; accepted: two or more "
                "pictures of a class"
            )
        self.start = start
        self.pictures = pictures
        self.recipe = recipe
        self.device = torch.device(device)
        self.train = np.flatnonzero(~mask)
        self.held_out = np.flatnonzero(mask)
        self.model = start.model.to(self.device)
        self.model.requires_grad_(True)
        self.optimiser = make_optimiser(self.model, recipe)
        self.steps_per_epoch = -(-len(self.train) // recipe.batch)
        self._classes = torch.tensor([start.labels.index(label) for label in pictures.labels])
        self._augment = Augment(start.rule, recipe)
        self._workers = workers

    def epoch(self, number: int, advance: Callable[[int], None] = lambda count: None) -> Row:
        """Train once on every image in epoch ``number`` (from 1), and evaluate the held-out ones.

        ``advance`` is called with the number of images of each step.

        Raises:
            OperationFailed: The loss is not finite.
        """
        started = time.monotonic()
        self.model.train()
        step = (number - 1) * self.steps_per_epoch
        order = self.train[order_of(len(self.train), self.recipe.seed, number)]
        total = 0.0
        right = 0
        rate = 0.0
        with ThreadPoolExecutor(self._workers) as pool:
            for indices, images in batches(
                order, self.recipe.batch, lambda k: self._augmented(k, number), pool
            ):
                rate = learning_rate_at(
                    step, self.steps_per_epoch * self.recipe.epochs, self.recipe
                )
                loss, hits = self._step(images, self._classes[indices].to(self.device), rate)
                if not math.isfinite(loss):
                    raise OperationFailed(
                        f"the loss is {loss} in epoch {number}, at a learning rate of {rate:.2g}; "
                        "accepted: a finite one",
                        hint=" may be too high, or the warmup too short",
                        hint_argument="learning_rate",
                    )
                total = total + loss * len(indices)
                right = right + hits
                step = step + 1
                advance(len(indices))
        evaluation, loss = self.evaluate(self.pictures, self.held_out, advance)
        return {
            "epoch": number,
            "learning_rate": rate,
            "train_loss": total / len(order),
            "train_accuracy": right / len(order),
            "held_out_loss": loss,
            "held_out_accuracy": evaluation.accuracy,
            "seconds": round(time.monotonic() - started, 2),
        }

    def _step(self, images: Tensor, classes: Tensor, rate: float) -> tuple[float, int]:
        set_learning_rate(self.optimiser, rate)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"
        ):
            logits = self.model(self._normalised(images)).logits
        loss = functional.cross_entropy(
            logits.float(), classes, label_smoothing=self.recipe.label_smoothing
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        return loss.item(), int((logits.argmax(dim=1) == classes).sum())

    @torch.inference_mode()
    def evaluate(
        self,
        pictures: Pictures,
        indices: Sequence[int],
        advance: Callable[[int], None] = lambda count: None,
    ) -> tuple[Evaluation, float]:
        """Return the evaluation and the mean cross-entropy of images, in float32.

        They are resized as the node resizes them.
        """
        self.model.eval()
        names = self.start.labels
        resize = Preprocessor(self.start.rule)
        confusion = np.zeros((len(names),) * 2, int)
        total = 0.0
        with ThreadPoolExecutor(self._workers) as pool:
            for part, images in batches(
                indices, self.recipe.batch, lambda k: resize(pictures.decoded(k)), pool
            ):
                truth = torch.tensor([names.index(pictures.items[k].label) for k in part])
                logits = self.model(self._normalised(images)).logits.float().cpu()
                total += functional.cross_entropy(logits, truth, reduction="sum").item()
                np.add.at(confusion, (truth.numpy(), logits.argmax(dim=1).numpy()), 1)
                advance(len(part))
        return Evaluation(names, confusion), total / len(indices)

    def _augmented(self, index: int, epoch: int) -> Tensor:
        return self._augment(
            self.pictures.decoded(index), generator_of(self.recipe.seed, epoch, index)
        )

    def _normalised(self, images: Tensor) -> Tensor:
        """Turn uint8 (B, 3, H, W) into (x / 255 − mean) / std, float32, on the device."""
        mean, std = (
            torch.tensor(v, device=self.device)[:, None, None]
            for v in (self.start.mean, self.start.std)
        )
        return (images.to(self.device, non_blocking=True).float() / 255 - mean) / std


def run(
    tuning: FineTuning,
    folder: Path,
    resume: bool,
    on_epoch: Callable[[Row, bool], None] = lambda row, best: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Outcome:
    """Train until the last epoch, or until ``patience`` epochs were not better.

    The best weights are in ``folder``. The state is on the disk before the first epoch and after
    each; with ``resume`` the run continues from there. ``on_epoch`` gets each epoch's row, and
    whether it is the best so far: the highest accuracy, then the lowest loss.

    Raises:
        InvalidValue: The state in ``folder`` is that of another run.
        OutputError: ``folder`` cannot be written.
    """
    identity = identity_of(tuning)
    state = load_state(folder, identity) if resume else None
    history, best = (state["history"], state["best_epoch"]) if state else ([], 0)
    if state and state["model"]:
        tuning.model.load_state_dict(state["model"])
        tuning.optimiser.load_state_dict(state["optimiser"])
    elif not history:
        require_room(folder, sum(p.numel() for p in tuning.model.parameters()))
        # Before every other file, so that a run killed in its first epoch can be resumed, too.
        save_state(folder, {"identity": identity, "history": [], "best_epoch": 0, "model": None})
        write_description(folder, tuning.start)
    resumed_at = len(history)
    while not (stopped := _why_stop(history, best, tuning.recipe)):
        row = tuning.epoch(len(history) + 1, advance)
        is_best = not history or _rank(row) > _rank(history[best - 1])
        history.append(row)
        if is_best:
            best = len(history)
            # Before the state: a run that is killed in between repeats this epoch and writes the
            # same.
            write_weights(folder, tuning.start)
        save_state(
            folder,
            {
                "identity": identity,
                "history": history,
                "best_epoch": best,
                "model": tuning.model.state_dict(),
                "optimiser": tuning.optimiser.state_dict(),
            },
        )
        write_metrics(folder, history)
        on_epoch(row, is_best)
    if resumed_at < len(history):
        # Weights and moments are two thirds of the folder's size, and no longer needed.
        save_state(
            folder, {"identity": identity, "history": history, "best_epoch": best, "model": None}
        )
    return Outcome(history=history, best_epoch=best, stopped=stopped, resumed_at=resumed_at)


def identity_of(tuning: FineTuning) -> Mapping[str, Any]:
    """Return what a resumed run must have in common with the one that began."""
    start = tuning.start
    return {
        **asdict(tuning.recipe),
        "labels": ", ".join(start.labels),
        "pictures": len(tuning.pictures.items),
        "pictures_sha256": tuning.pictures.sha256,
        "start": start.source,
        "start_sha256": start.weights_sha256,
        "start_model": start.model_sha256,
        "pooling": start.model.config.pooling,
        "network_size_px": "x".join(map(str, start.rule.network_size_px)),
    }


def _rank(row: Row) -> tuple[float, float]:
    return row["held_out_accuracy"], -row["held_out_loss"]


def _why_stop(history: list[Row], best: int, recipe: Recipe) -> str:
    if len(history) >= recipe.epochs:
        return "all epochs are done"
    if len(history) - best >= recipe.patience:
        return f"{recipe.patience} epochs brought nothing better"
    return ""
