"""A transformer over all tokens, trained on demonstrations: one query for each step of the chunk.

    python examples/transformer_chunk_policy.py train FEATURES --out policy.safetensors
    python examples/transformer_chunk_policy.py run policy.safetensors

The network is that of transformer_policy.py, with a learnt number for each row of the tokens, which
tells it where a patch is. FEATURES is as for spatial_policy.py.

A policy that answers with moves can run away at the edge of what was demonstrated: each answer
leads a little further to where there is no demonstration, and nothing leads back. So targets are
kept within the box of the demonstrated ones, and the hand's position is given as if it were there.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from chunk_policy import ChunkExamples, ChunkPolicy, fit, load, load_examples, save
from torch import Tensor, nn
from transformer_policy import TransformerPolicy

NUMBERS_A_STEP = 32


class TransformerChunkPolicy(ChunkPolicy):
    """``token_count`` and ``token_width`` as the layout has them."""

    takes = ("tokens", "mask")

    def __init__(
        self, token_count: int, token_width: int, body_count: int, steps: int, width: int = 128
    ):
        super().__init__(steps * NUMBERS_A_STEP, body_count, steps)
        self.network = TransformerPolicy(token_width, steps, width, out_width=NUMBERS_A_STEP)
        self.place = nn.Parameter(torch.randn(token_count, width) * 0.02)
        self.register_buffer("body_low", torch.full((body_count,), -torch.inf))
        self.register_buffer("body_high", torch.full((body_count,), torch.inf))
        self.register_buffer("target_low_m", torch.full((3,), -torch.inf))
        self.register_buffer("target_high_m", torch.full((3,), torch.inf))

    def learn_scales(self, examples: ChunkExamples) -> None:
        """Also take the boxes of what was demonstrated."""
        super().learn_scales(examples)
        body = examples.inputs["body"]
        targets_m = (body[:, None, :3] + examples.moves_m).reshape(-1, 3)
        for low, high, values in (
            (self.body_low, self.body_high, body),
            (self.target_low_m, self.target_high_m, targets_m),
        ):
            low.copy_(torch.from_numpy(values.min(0)))
            high.copy_(torch.from_numpy(values.max(0)))

    def features(self, inputs: dict[str, Tensor], body: Tensor) -> Tensor:
        memory = self.network.project(inputs["tokens"]) + self.place
        return self.network.decode(memory, inputs["mask"]).flatten(1)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        body = inputs["body"].clamp(self.body_low, self.body_high)
        return super().forward(inputs | {"body": body})

    def act(self, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        targets_m, closed = super().act(inputs)
        return targets_m.clip(self.target_low_m.numpy(), self.target_high_m.numpy()), closed


KINDS = {"transformer": TransformerChunkPolicy}


def train(features: Path, out: Path, iterations: int, seed: int) -> float:
    """Train on a folder of `embed`, write the policy, and return its last loss."""
    torch.manual_seed(seed)
    examples = load_examples(features, target="target", gripper="fingers")
    layout = examples.layouts[0]
    arguments = {
        "token_count": layout.token_count,
        "token_width": layout.width,
        "body_count": examples.inputs["body"].shape[1],
        "steps": examples.moves_m.shape[1],
    }
    policy = TransformerChunkPolicy(**arguments)
    loss = fit(policy, examples, iterations)
    save(policy, out, "transformer", arguments, examples.layouts)
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
    running = commands.add_parser("run", help="answer the encoder's tokens with chunks")
    running.add_argument("policy", type=Path, help="what train has written")
    running.add_argument(
        "--node", default="/vit_encoder", help="the encoder (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.command == "train":
        print(f"loss {train(args.features, args.out, args.iterations, args.seed):.4f}")
        return 0
    from chunk_node import run_on_tokens

    return run_on_tokens(*load(args.policy, KINDS), encoder=args.node)


if __name__ == "__main__":
    raise SystemExit(main())
