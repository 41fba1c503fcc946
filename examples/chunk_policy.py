"""What policies that answer an observation with a chunk of targets have in common: the
demonstrations, the training, the file.

A chunk is one target position of the hand and one gripper command for each of the next control
steps. Targets are learnt as moves from where the hand is, in units of their deviation.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vit_perception.policy.dataset import FeatureDataset
from vit_perception.wire.layout import Layout

LONGEST_SAID_S = 5.0
GRIPPER_WEIGHT = 0.3
# Errors below this many deviations count squared, larger ones linearly.
SMOOTH_L1_BETA = 0.1


@dataclass(frozen=True, eq=False)
class ChunkExamples:
    """M observations of demonstrations, and the chunk of S control steps that answers each."""

    inputs: dict[str, np.ndarray]  # by name, (M, ...); "body" (M, n) is there always
    moves_m: np.ndarray  # (M, S, 3): target minus the hand's position
    closed: np.ndarray  # (M, S) bool
    quaternion: np.ndarray  # (4,) xyzw: the hand's orientation in every target
    layouts: tuple[Layout, ...] = ()  # how to read "tokens"


class ChunkPolicy(nn.Module):
    """The parts around a policy's own ``features``: what the body is, and what comes out.

    ``body`` is the hand's position in m, then the numbers of all joint states.
    """

    # Which of the inputs ``features`` reads.
    takes: tuple[str, ...] = ()
    # False: it takes the coefficients of a basis as they are, each group under its own name.
    expand = True

    def __init__(self, feature_count: int, body_count: int, steps: int):
        super().__init__()
        self.steps = steps
        self.register_buffer("body_mean", torch.zeros(body_count))
        self.register_buffer("body_deviation", torch.ones(body_count))
        self.register_buffer("move_deviation", torch.ones(steps, 3))
        self.register_buffer("quaternion", torch.tensor([0.0, 0.0, 0.0, 1.0]))
        self.head = nn.Sequential(
            nn.Linear(feature_count + body_count, 256),
            nn.GELU(),
            nn.Linear(256, 256),
            nn.GELU(),
            nn.Linear(256, 4 * steps),
        )

    def features(self, inputs: dict[str, Tensor], body: Tensor) -> Tensor:
        """Return (B, feature_count) of the inputs and the normalised ``body`` (B, n)."""
        raise NotImplementedError

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return moves (B, S, 3) in deviations, and the gripper's logits (B, S)."""
        body = (inputs["body"] - self.body_mean) / self.body_deviation
        out = self.head(torch.cat([self.features(inputs, body), body], dim=1))
        out = out.view(len(body), self.steps, 4)
        return out[..., :3], out[..., 3]

    def learn_scales(self, examples: ChunkExamples) -> None:
        """Take means and deviations from the demonstrations."""
        body = examples.inputs["body"]
        self.body_mean.copy_(torch.from_numpy(body.mean(0)))
        self.body_deviation.copy_(torch.from_numpy(body.std(0).clip(1e-6)))
        self.move_deviation.copy_(torch.from_numpy(examples.moves_m.std(0).clip(1e-6)))
        self.quaternion.copy_(torch.from_numpy(examples.quaternion))

    @torch.inference_mode()
    def act(self, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return targets (S, 3) in m and closed (S,) bool, for inputs without a batch axis."""
        tensors = {name: as_tensor(inputs[name][None]) for name in (*self.takes, "body")}
        moves, logits = self(tensors)
        moves_m = (moves[0] * self.move_deviation).numpy()
        return inputs["body"][:3] + moves_m, (logits[0] > 0).numpy()


def as_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor of what models take; half precision is only how tokens are stored."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array)


def load_examples(
    folder: Path | str, target: str, gripper: str, expand: bool = True
) -> ChunkExamples:
    """Read a folder of `embed` whose columns ``target`` (poses) and ``gripper`` have the chunks.

    With ``expand`` False, coefficients of a basis are inputs by the name of their group.
    """
    data = FeatureDataset(folder, columns=(target, gripper), expand=expand)
    items = [data[index] for index in range(len(data))]
    arm = data.arms[0]
    poses = np.stack([item["poses"][arm][0] for item in items])
    states = [np.stack([item["states"][n][0] for item in items]) for n in items[0]["states"]]
    body = np.concatenate([poses[:, :3], *states], axis=1).astype(np.float32)
    targets = np.stack([item[target][0] for item in items]).reshape(len(items), -1, 7)
    # A JointTrajectoryPoint's first number is its position.
    grippers = np.stack([item[gripper][0] for item in items])
    grippers = grippers.reshape(len(items), targets.shape[1], -1)[:, :, 0]
    known = ~np.isnan(body).any(axis=1)
    coefficients = {
        name: np.stack([item["coefficients"][name][0] for item in items])[known]
        for name in items[0].get("coefficients", ())
    }
    return ChunkExamples(
        inputs={
            "tokens": np.stack([item["tokens"][0] for item in items])[known],
            "mask": np.stack([item["mask"][0] for item in items])[known],
            "body": body[known],
            **coefficients,
        },
        moves_m=(targets[:, :, :3] - poses[:, None, :3])[known].astype(np.float32),
        closed=(grippers > 0)[known],
        quaternion=targets[0, 0, 3:].astype(np.float32),
        layouts=data.layouts,
    )


def fit(
    policy: ChunkPolicy,
    examples: ChunkExamples,
    iterations: int = 1000,
    batch: int = 64,
    say: Callable[[str], None] = print,
) -> float:
    """Train, and return the mean loss of the last tenth."""
    policy.learn_scales(examples)
    policy.train()
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=iterations)
    deviation = policy.move_deviation
    losses: list[float] = []
    begun_s = said_s = time.monotonic()
    for iteration in range(iterations):
        rows = torch.randint(len(examples.moves_m), (batch,)).numpy()
        taken = (*policy.takes, "body")
        inputs = {name: as_tensor(examples.inputs[name][rows]) for name in taken}
        moves, logits = policy(inputs)
        wanted = torch.from_numpy(examples.moves_m[rows]) / deviation
        closed = torch.from_numpy(examples.closed[rows].astype(np.float32))
        loss = nn.functional.smooth_l1_loss(moves, wanted, beta=SMOOTH_L1_BETA)
        gripper = nn.functional.binary_cross_entropy_with_logits(logits, closed)
        loss = loss + GRIPPER_WEIGHT * gripper
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if time.monotonic() - said_s > LONGEST_SAID_S:
            said_s = time.monotonic()
            left_s = (said_s - begun_s) / (iteration + 1) * (iterations - iteration - 1)
            recent = np.mean(losses[-50:])
            say(
                f"iteration {iteration + 1} of {iterations}, loss {recent:.3f}; {left_s:.0f} s left"
            )
    policy.eval()
    return float(np.mean(losses[-max(1, iterations // 10) :]))


def save(policy: ChunkPolicy, path: Path, kind: str, arguments: dict, layouts=()) -> None:
    """Write a policy with what ``load`` needs to make it again."""
    head = {
        "kind": kind,
        "arguments": arguments,
        "layouts": [layout.to_json() for layout in layouts],
    }
    save_file(policy.state_dict(), str(path), metadata={"policy": json.dumps(head)})


def load(path: Path, kinds: dict[str, type]) -> tuple[ChunkPolicy, tuple[Layout, ...]]:
    """Return a saved policy, and the layouts of the tokens that it was trained on."""
    with safe_open(path, framework="pt") as file:
        head = json.loads(file.metadata()["policy"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    policy = kinds[head["kind"]](**head["arguments"])
    policy.load_state_dict(weights)
    return policy.eval(), tuple(Layout.from_json(text) for text in head["layouts"])
