"""Show one screen about a running node: state, engine, inputs, drops, outputs.

It needs no `ros2` command.
"""

import sys
import time
from argparse import ArgumentParser, Namespace

from vit_perception.files.errors import InvalidValue

PERIOD_S = 1.0
EXAMPLES = """
vit-perception status
vit-perception status /vit_encoder --watch
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "node",
        nargs="?",
        default="",
        metavar="NODE",
        help="the node's full name (default: the encoder that is there)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="show it again each second, until Ctrl-C"
    )
    parser.add_argument(
        "--wait-s",
        type=float,
        default=5.0,
        metavar="S",
        help="how long to look for the node (default: %(default)s)",
    )


def run(args: Namespace) -> int:
    from rich.live import Live
    from rich.text import Text

    from vit_perception.ros.health.status_screen import screen
    from vit_perception.ros.health.status_watch import StatusWatch

    if not 0.0 <= args.wait_s < float("inf"):
        raise InvalidValue(f" is {args.wait_s}; accepted: seconds from 0", argument="wait_s")
    with StatusWatch() as watch:
        node = watch.find(args.node, args.wait_s)
        if not args.watch:
            print(screen(watch.look(node)))
            return 0
        try:
            if not sys.stdout.isatty():  # a file or a pipe: one screen after the other
                while True:
                    print(screen(watch.look(node)), end="\n\n", flush=True)
                    time.sleep(PERIOD_S)
            with Live(auto_refresh=False, screen=False) as live:
                while True:
                    live.update(Text(screen(watch.look(node))), refresh=True)
                    time.sleep(PERIOD_S)
        except KeyboardInterrupt:
            return 0
