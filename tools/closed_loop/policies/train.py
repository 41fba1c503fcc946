"""Train one policy of the table, as a process."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import spatial_policy
import torch
import transformer_chunk_policy
from chunk_policy import ChunkExamples, fit, load_examples, save

from tools.closed_loop.policies.baselines import PixelPolicy, PosePolicy
from tools.closed_loop.policies.on_tokens import (
    Arguments,
    ClsPolicy,
    NeighbourPolicy,
    NoPosePolicy,
    cls_arguments,
    neighbour_arguments,
    spatial_arguments,
)
from tools.closed_loop.policies.recorded import load_augmented, load_recorded

ITERATIONS = 1000


class Row(NamedTuple):
    """A row of the table."""

    train: Callable[[argparse.Namespace], float]
    on_tokens: bool = False  # it needs the encoder node, and the features of `embed`
    augmented: bool = False  # learns from the features of `embed --augment`, or their pictures


def on_tokens(kind: type, name: str, arguments_of: Arguments) -> Callable:
    """Return the training of a policy of tokens."""

    def train(args: argparse.Namespace) -> float:
        torch.manual_seed(args.seed)
        examples = load_examples(args.features, target="target", gripper="fingers")
        layout = examples.layouts[0]
        arguments = {
            **arguments_of(layout, examples),
            "token_width": layout.width,
            **_sizes(examples),
        }
        policy = kind(**arguments)
        loss = fit(policy, examples, args.iterations)
        save(policy, args.out, name, arguments, examples.layouts)
        return loss

    return train


def train_neighbours(args: argparse.Namespace) -> float:
    examples = load_examples(args.features, target="target", gripper="fingers")
    layout = examples.layouts[0]
    arguments = neighbour_arguments(layout, examples) | _sizes(examples)
    arguments["token_width"] = layout.width
    policy = NeighbourPolicy(**arguments)
    policy.remember(examples)
    save(policy, args.out, "neighbours", arguments, examples.layouts)
    return 0.0


def train_spatial(args: argparse.Namespace) -> float:
    return spatial_policy.train(args.features, args.out, args.iterations, args.seed)


def train_coefficients(args: argparse.Namespace) -> float:
    return spatial_policy.train(
        args.features, args.out, args.iterations, args.seed, coefficients=True
    )


def train_transformer(args: argparse.Namespace) -> float:
    return transformer_chunk_policy.train(args.features, args.out, args.iterations, args.seed)


def train_pose(args: argparse.Namespace) -> float:
    return _train_recorded(PosePolicy, "pose", load_recorded(args.bags), {}, args)


def pixels(change: str, augmented: bool = False) -> Callable[[argparse.Namespace], float]:
    """Return the training of the network from scratch with that change of its pictures."""

    def train(args: argparse.Namespace) -> float:
        load = load_augmented(args.bags, args.features) if augmented else load_recorded(args.bags)
        return _train_recorded(PixelPolicy, "pixels", load, {"augment": change}, args)

    return train


def _train_recorded(
    kind: type, name: str, examples: ChunkExamples, others: dict, args: argparse.Namespace
) -> float:
    torch.manual_seed(args.seed)
    arguments = _sizes(examples) | others
    policy = kind(**arguments)
    loss = fit(policy, examples, args.iterations)
    save(policy, args.out, name, arguments)
    return loss


def _sizes(examples: ChunkExamples) -> dict:
    return {
        "body_count": examples.inputs["body"].shape[1],
        "steps": examples.moves_m.shape[1],
    }


POLICIES: dict[str, Row] = {
    "spatial": Row(train_spatial, on_tokens=True),
    "spatial, augmented": Row(train_spatial, on_tokens=True, augmented=True),
    "spatial, coefficients": Row(train_coefficients, on_tokens=True),
    "spatial, no pose": Row(on_tokens(NoPosePolicy, "no pose", spatial_arguments), on_tokens=True),
    "transformer": Row(train_transformer, on_tokens=True),
    "cls": Row(on_tokens(ClsPolicy, "cls", cls_arguments), on_tokens=True),
    "neighbours": Row(train_neighbours, on_tokens=True),
    "pose only": Row(train_pose),
    "cnn": Row(pixels("none")),
    "cnn, jitter": Row(pixels("jitter")),
    "cnn, permuted": Row(pixels("permute")),
    "cnn, augmented": Row(pixels("none", augmented=True), augmented=True),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.closed_loop.policies.train")
    parser.add_argument("name", choices=POLICIES)
    parser.add_argument("--bags", type=Path, nargs="+", required=True, help="demonstrations")
    parser.add_argument("--features", type=Path, help="of the bags, by embed")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    begun_s = time.process_time()
    loss = POLICIES[args.name].train(args)
    print(f"{args.name}: loss {loss:.4f}, {time.process_time() - begun_s:.0f} CPU s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
