"""Train one policy of the table, as a process."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import spatial_policy
import torch
from chunk_policy import fit, save

from tools.closed_loop.interface import STEPS
from tools.closed_loop.policies.baselines import PixelPolicy, PosePolicy
from tools.closed_loop.policies.recorded import load_recorded

BODY_COUNT = 4
ITERATIONS = 1000


def train_spatial(args: argparse.Namespace) -> float:
    return spatial_policy.train(args.features, args.out, args.iterations, args.seed)


def train_pose(args: argparse.Namespace) -> float:
    arguments = {"body_count": BODY_COUNT, "steps": STEPS}
    return _train_recorded(PosePolicy, "pose", arguments, args)


def pixels(augment: str) -> Callable[[argparse.Namespace], float]:
    """Return the training of the network from scratch with that augmentation."""

    def train(args: argparse.Namespace) -> float:
        arguments = {"body_count": BODY_COUNT, "steps": STEPS, "augment": augment}
        return _train_recorded(PixelPolicy, "pixels", arguments, args)

    return train


def _train_recorded(kind: type, name: str, arguments: dict, args: argparse.Namespace) -> float:
    torch.manual_seed(args.seed)
    policy = kind(**arguments)
    loss = fit(policy, load_recorded(args.bags), args.iterations)
    save(policy, args.out, name, arguments)
    return loss


# The rows of the table.
POLICIES: dict[str, Callable[[argparse.Namespace], float]] = {
    "spatial": train_spatial,
    "pose only": train_pose,
    "cnn": pixels("none"),
    "cnn, jitter": pixels("jitter"),
    "cnn, permuted": pixels("permute"),
}
# Those that need the encoder node, and the features of `embed`.
ON_TOKENS = ("spatial",)


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
    loss = POLICIES[args.name](args)
    print(f"{args.name}: loss {loss:.4f}, {time.process_time() - begun_s:.0f} CPU s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
