"""The start of a learned policy: a torch transformer decoder that looks at the encoder's tokens.

    python examples/transformer_policy.py                # random weights: the plumbing alone
    python examples/transformer_policy.py --weights policy.safetensors

Learned queries, one for each of the next `--steps` actions, attend to ~/tokens; ~/token_mask
(missing cameras and arms) becomes memory_key_padding_mask, so that what is missing has no
influence. The action chunk (steps × 7: position and quaternion, as an ACT-like policy has it) goes
out as a tensor on /transformer_policy/actions. Nothing here is trained: the weights are the policy
author's. transformer_chunk_policy.py trains this network on demonstrations.
"""

import argparse
import array
import contextlib
import signal
import time
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vit_perception.policy.live import LiveDecoder, Observation
from vit_perception.wire import encode_tensor

ACTION_WIDTH = 7


class TransformerPolicy(nn.Module):
    """``tokens`` (batch, N, D) and ``mask`` (batch, N), True where valid -> actions (batch, steps,
    7).
    """

    def __init__(
        self,
        token_width: int,
        steps: int = 8,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        out_width: int = ACTION_WIDTH,
    ):
        super().__init__()
        self.project = nn.Linear(token_width, width)
        self.queries = nn.Parameter(torch.randn(steps, width) * 0.02)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.head = nn.Linear(width, out_width)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.decode(self.project(tokens), mask)

    def decode(self, memory: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Let the queries attend to ``memory`` (batch, N, width)."""
        queries = self.queries.expand(len(memory), -1, -1)
        # torch's mask says what to leave out, ours what is there.
        return self.head(self.decoder(queries, memory, memory_key_padding_mask=~mask))


def load_policy(token_width: int, steps: int, weights: Path | None) -> TransformerPolicy:
    """The policy for tokens of ``token_width``, with ``weights`` (safetensors) or, without, the
    same random ones.
    """
    torch.manual_seed(0)
    policy = TransformerPolicy(token_width, steps).eval()
    if weights:
        from safetensors.torch import load_file

        policy.load_state_dict(load_file(weights))
    return policy


class PolicyNode:
    """Tokens in, action chunk out, newest observation first; prints its latency every few
    seconds.
    """

    def __init__(self, encoder: str, steps: int, weights: Path | None):
        import rclpy
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import Image
        from std_msgs.msg import String

        self.node = rclpy.create_node("transformer_policy")
        self._steps, self._weights = steps, weights
        self._policy: TransformerPolicy | None = None
        # This policy has no use for the poses as numbers: their tokens are among the tokens.
        self._decoder = LiveDecoder(encoder, body=False)
        self._publisher = self.node.create_publisher(Image, "~/actions", 1)
        self.infer_ms: deque[float] = deque(maxlen=500)
        self.acted = 0
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(String, self._decoder.layout_topic, self._on_layout, latched)
        # ~/basis, of a node that sends patch tokens as coefficients.
        for topic in self._decoder.latched - {self._decoder.layout_topic}:
            add = partial(self._decoder.add, topic)
            self.node.create_subscription(Image, topic, add, latched)
        self._tokens_topic = f"{encoder}/tokens"
        # Depth 1: what is older than the newest has no use.
        self.node.create_subscription(
            Image, self._tokens_topic, self._on_tokens, QoSProfile(depth=1)
        )
        self.node.create_timer(2.0, self._print_latency)

    def _on_layout(self, message) -> None:
        before = self._decoder.layout
        self._decoder.add(self._decoder.layout_topic, message)
        layout = self._decoder.layout
        if before is None or before.width != layout.width:
            self._policy = load_policy(layout.width, self._steps, self._weights)
            with (
                torch.inference_mode()
            ):  # the first run takes longest: now, not with the first image
                self._policy(
                    torch.zeros(1, layout.token_count, layout.width),
                    torch.ones(1, layout.token_count, dtype=torch.bool),
                )
            names = ", ".join(group.name for group in layout.groups)
            print(f"{layout.token_count} tokens of {layout.width}: {names}", flush=True)

    def _on_tokens(self, message) -> None:
        observation = self._decoder.add(self._tokens_topic, message)
        if observation is not None:
            self._send(message.header, self.act(observation))

    def act(self, observation: Observation) -> np.ndarray:
        """The action chunk (steps, 7) float32."""
        started = time.perf_counter()
        tokens = torch.from_numpy(observation.tokens.astype(np.float32))[None]
        with torch.inference_mode():
            actions = self._policy(tokens, torch.from_numpy(observation.mask)[None])[0].numpy()
        self.infer_ms.append(1e3 * (time.perf_counter() - started))
        self.acted += 1
        return actions

    def _send(self, header, actions: np.ndarray) -> None:
        from sensor_msgs.msg import Image

        fields = encode_tensor(actions)
        message = Image(
            header=header,
            height=fields.height,
            width=fields.width,
            encoding=fields.encoding,
            step=fields.step,
        )
        message.data = array.array("B", fields.data)
        self._publisher.publish(message)

    def _print_latency(self) -> None:
        if self.infer_ms:
            p50, p99 = np.percentile(self.infer_ms, [50, 99])
            print(f"{self.acted} chunks, policy p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--node", default="/vit_encoder", help="the encoder's full name (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=8, help="actions in a chunk (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", type=Path, help="safetensors file of the policy's weights (default: random)"
    )
    args = parser.parse_args()

    import rclpy
    from rclpy.executors import ExternalShutdownException

    rclpy.init()
    runner = PolicyNode(args.node, args.steps, args.weights)
    print("listening", flush=True)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(runner.node)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner._print_latency()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
