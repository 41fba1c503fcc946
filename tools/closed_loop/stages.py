"""What comes before the loop: demonstrations, features, trained policies. Each is made once."""

from pathlib import Path

from tools.closed_loop.forms import FORMS, TRAINED_ON, USUAL
from tools.closed_loop.policies.train import POLICIES
from tools.closed_loop.work import Work
from vit_perception.files.atomic import put_in_place


def record(work: Work, task: str, count: int) -> None:
    """Record ``count`` demonstrations of ``task``."""
    if len(work.bags(task, count)) < count:
        folder = work.folder / "demonstrations" / task
        module = "tools.closed_loop.simulator.record"
        work.run_sim(module, "--task", task, "--count", str(count), "--out", str(folder))


def embed(work: Work, task: str, count: int, augmented: bool, form: str = USUAL) -> None:
    """Encode them; with ``augmented`` as they are and once more with changed pictures."""
    out = work.features(task, count, augmented, form)
    out.parent.mkdir(parents=True, exist_ok=True)
    bags = [str(path) for path in work.bags(task, count)]
    options = ["--params", str(work.node_file(task, form)), "--features", "tokens"]
    options += ["--format", "safetensors"] + ["--augment", "1"] * augmented
    if directions := FORMS[form].directions:
        options += ["--store", "basis", "--basis", str(work.basis(task, directions))]
    # A finished folder is only looked at.
    work.run_here("vit_perception.cli.main", "embed", *bags, *options, "--out", str(out))


def learn_basis(work: Work, task: str, count: int, directions: int) -> None:
    """Learn a basis of the patch tokens of the demonstrations."""
    out = work.basis(task, directions)
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        features = str(work.features(task, count, augmented=False))
        options = ["--dims", str(directions), "--out", str(out)]
        work.run_here("vit_perception.cli.main", "basis", features, *options)


def train(work: Work, task: str, name: str, count: int, seed: int, iterations: int) -> Path:
    """Train a policy, and return its file."""
    path = work.policy(task, name, count, seed)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    arguments = [name, "--bags", *map(str, work.bags(task, count)), "--out", str(part)]
    arguments += ["--seed", str(seed), "--iterations", str(iterations)]
    row = POLICIES[name]
    if row.on_tokens or row.augmented:
        form = TRAINED_ON.get(name, USUAL)
        arguments += ["--features", str(work.features(task, count, row.augmented, form))]
    work.run_here("tools.closed_loop.policies.train", *arguments)
    put_in_place(part, path)
    return path
