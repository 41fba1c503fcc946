"""The policy that we recommend for patch tokens: where is what matters, and what is there?

    python examples/spatial_policy.py train FEATURES --out policy.safetensors
    python examples/spatial_policy.py run policy.safetensors

Each of a few learnt maps weighs the patches of a camera by a softmax (after Finn et al., "Deep
Spatial Autoencoders for Visuomotor Learning", 2016). A map gives the mean place of its patches,
and a mean of a value of theirs. A small network turns these numbers, the hand's position and the
joints into a chunk of targets. FEATURES is a folder of `vit-perception embed` with the tokens and
columns of chunks (docs/closed_loop.md says how they are recorded).

`train --coefficients` is for features of `embed --store basis`: the maps then weigh the few
numbers of each patch themselves, and the policy needs no basis (docs/thin_link.md).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from chunk_policy import ChunkPolicy, fit, load, load_examples, save
from torch import Tensor, nn

MAPS = 32


class SpatialPolicy(ChunkPolicy):
    """``patches``: for each camera, first row, row after the last one, and the grid's rows and
    columns, as the layout has them. ``coefficients``: for each camera, the group whose coefficients
    it takes in the place of these rows; none if it takes the rows. ``token_width``: of either.
    """

    def __init__(
        self,
        patches: list,
        token_width: int,
        body_count: int,
        steps: int,
        coefficients: Sequence[str] = (),
    ):
        super().__init__(3 * MAPS * len(patches), body_count, steps)
        self.takes = (*(coefficients or ("tokens",)), "mask")
        self.expand = not coefficients
        self.coefficients = coefficients
        self.patches = patches
        self.look = nn.ModuleList(nn.Linear(token_width, MAPS) for _ in patches)
        self.value = nn.ModuleList(nn.Linear(token_width, MAPS) for _ in patches)

    def features(self, inputs: dict[str, Tensor], body: Tensor) -> Tensor:
        parts = []
        for camera, (start, stop, rows, columns) in enumerate(self.patches):
            if self.coefficients:
                tokens = inputs[self.coefficients[camera]]  # (B, P, K)
            else:
                tokens = inputs["tokens"][:, start:stop]  # (B, P, D)
            there = inputs["mask"][:, start:stop].all(dim=1)  # (B,)
            weights = self.look[camera](tokens).softmax(dim=1)  # (B, P, maps)
            y, x = torch.meshgrid(
                torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij"
            )
            place = torch.stack([x.flatten(), y.flatten()], dim=1)  # (P, 2)
            places = torch.einsum("bpm,pc->bmc", weights, place).flatten(1)
            values = (weights * self.value[camera](tokens)).sum(dim=1)
            # A camera that is missing gives zeros.
            parts.append(torch.cat([places, values], dim=1) * there[:, None])
        return torch.cat(parts, dim=1)


KINDS = {"spatial": SpatialPolicy}


def train(
    features: Path, out: Path, iterations: int, seed: int, coefficients: bool = False
) -> float:
    """Train on a folder of `embed`, write the policy, and return its last loss."""
    torch.manual_seed(seed)
    examples = load_examples(features, target="target", gripper="fingers", expand=not coefficients)
    layout = examples.layouts[0]
    groups = [group for group in layout.groups if group.kind == "patch"]
    arguments = {
        "patches": [(group.start, group.stop, *group.grid) for group in groups],
        "token_width": layout.width,
        "body_count": examples.inputs["body"].shape[1],
        "steps": examples.moves_m.shape[1],
    }
    if coefficients:
        if layout.basis is None:
            raise SystemExit(f"{features} has no coefficients; accepted: `embed --store basis`")
        arguments["token_width"] = layout.basis.dims
        arguments["coefficients"] = [group.name for group in groups]
    policy = SpatialPolicy(**arguments)
    loss = fit(policy, examples, iterations)
    save(policy, out, "spatial", arguments, examples.layouts)
    return loss


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="on a folder of `vit-perception embed`")
    training.add_argument("features", type=Path)
    training.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    training.add_argument("--iterations", type=int, default=1000, help="(default: %(default)s)")
    training.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    training.add_argument(
        "--coefficients", action="store_true", help="learn from those of `embed --store basis`"
    )
    running = commands.add_parser("run", help="answer the encoder's tokens with chunks")
    running.add_argument("policy", type=Path, help="what train has written")
    running.add_argument(
        "--node", default="/vit_encoder", help="the encoder (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.command == "train":
        given = (args.features, args.out, args.iterations, args.seed, args.coefficients)
        print(f"loss {train(*given):.4f}")
        return 0
    from chunk_node import run_on_tokens

    return run_on_tokens(*load(args.policy, KINDS), encoder=args.node)


if __name__ == "__main__":
    raise SystemExit(main())
