"""LeRobot's own training script on a data set, and what the trained policy answers."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tools.lerobot_check.sets import REPO_ID, ROOT, data_set


class _Losses(logging.Handler):
    """Keeps the losses that LeRobot's training script logs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if loss := getattr(record.msg, "metrics", {}).get("loss"):
            self.found.append(float(loss.avg))


def trained(root: Path, out: Path, steps: int, batch: int) -> Iterator[dict[str, Any]]:
    """Train ACT with the settings that it has by itself."""
    from lerobot.scripts import lerobot_train

    losses = _Losses()
    every = max(1, steps // 6)
    sys.argv = [
        "lerobot-train",
        f"--dataset.repo_id={REPO_ID}",
        f"--dataset.root={root}",
        "--policy.type=act",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        f"--output_dir={out}",
        f"--steps={steps}",
        f"--batch_size={batch}",
        "--num_workers=0",
        f"--log_freq={every}",
        f"--save_freq={steps}",
        "--wandb.enable=false",
    ]
    kept = logging.Logger.callHandlers

    def heard(logger: logging.Logger, record: logging.LogRecord) -> None:
        losses.emit(record)  # the script makes the handlers of its own anew
        kept(logger, record)

    logging.Logger.callHandlers = heard  # type: ignore[method-assign]
    try:
        lerobot_train.main()
    finally:
        logging.Logger.callHandlers = kept  # type: ignore[method-assign]
    found = losses.found
    yield {
        "what": f"lerobot-train, ACT as it is, {steps} steps of {batch}: loss",
        "found": " → ".join(f"{loss:.1f}" for loss in found),
        "ok": len(found) > 1 and found[-1] < 0.5 * found[0],
    }
    yield _acts(root, out)


def _acts(root: Path, out: Path) -> dict[str, Any]:
    """Compare the example's answers with those that LeRobot itself gives for the same frames."""
    import torch
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    sys.path.insert(0, str(ROOT / "examples"))
    from lerobot_policy import LeRobotPolicy

    model = out / "checkpoints/last/pretrained_model"
    policy = ACTPolicy.from_pretrained(model)
    policy.eval()
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(model))
    example = LeRobotPolicy(model)
    data = data_set(root)
    worst = 0.0
    for k in range(0, len(data), 50):
        item = {key: v for key, v in data[k].items() if key.startswith("observation.")}
        with torch.inference_mode():
            expected = after(policy.predict_action_chunk(before(dict(item))))[0].numpy()
        found = example.chunk({key: value.numpy() for key, value in item.items()})
        worst = max(worst, float(np.abs(found - expected).max()))
    return {
        "what": "examples/lerobot_policy.py against LeRobot's own answers, largest difference",
        "found": f"{worst:.1e}, of chunks of {len(expected)} actions",
        "ok": worst < 1e-5,
    }
