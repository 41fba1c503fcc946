"""Which cells the table has."""

from argparse import Namespace

from tools.closed_loop.cell import Cell
from tools.closed_loop.interface import CONDITIONS

# These see nothing, so that no condition changes anything for them.
BLIND = ("pose only",)


def cells_of(args: Namespace) -> list[Cell]:
    """Return the cells, in the order in which they are run: what decides comes first."""
    return [
        Cell(
            task=task,
            policy=policy,
            demonstrations=args.demos,
            training_seed=seed,
            condition=condition,
            real_time=args.real_time,
        )
        for condition in args.conditions
        for task in args.tasks
        for policy in args.policies
        for seed in range(args.training_seeds)
        if condition == CONDITIONS[0] or policy not in BLIND
    ]
