"""Which cells the table has."""

from argparse import Namespace
from dataclasses import replace

from tools.closed_loop.cell import Cell
from tools.closed_loop.forms import TRAINED_ON, USUAL
from tools.closed_loop.interface import CONDITIONS

# These see nothing, so that no condition changes anything for them.
BLIND = ("pose only",)
# What is tried with other forms of tokens, and under trouble.
RECOMMENDED = "spatial"


def cells_of(args: Namespace) -> list[Cell]:
    """Return the cells, in the order in which they are run: what decides comes first."""
    seen = [
        Cell(
            task=task,
            policy=policy,
            demonstrations=args.demos,
            training_seed=seed,
            condition=condition,
            real_time=args.real_time,
            filmed=args.film,
            longest_steps=args.longest_steps,
            form=TRAINED_ON.get(policy, USUAL),
        )
        for condition in args.conditions
        for task in args.tasks
        for policy in args.policies
        for seed in range(args.training_seeds)
        if condition == CONDITIONS[0] or policy not in BLIND
    ]
    best = [cell for cell in seen if cell.condition == CONDITIONS[0] and cell.policy == RECOMMENDED]
    cells = [cell for cell in seen if cell.form in args.forms and "none" in args.troubles]
    cells += [replace(cell, form=form) for form in args.forms if form != USUAL for cell in best]
    cells += [
        replace(cell, trouble=trouble)
        for trouble in args.troubles
        if trouble != "none"
        for cell in best
    ]
    return cells
