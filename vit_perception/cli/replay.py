"""Publish a bag's topics with recorded timing and bytes: rosbag2 sqlite3 and MCAP."""

import sys
from argparse import ArgumentParser, Namespace

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.cli.paths import add_bag_argument, user_path
from vit_perception.files.errors import printable

SHOW_EVERY = 20
MOST_LINES = 20
LONGEST_LINE = 500
EXAMPLES = """
vit-perception replay data/demo/pick_place_demo
vit-perception replay data/demo/pick_place_demo --topics /ee_pose --clock --loop
vit-perception replay data/demo/pick_place_demo --remap /ee_pose:=/arm/pose --rate 2 --duration 3
"""


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what is published")
    add_bag_argument(what)
    what.add_argument(
        "--topics", nargs="+", default=[], metavar="TOPIC", help="only these (default: all)"
    )
    what.add_argument(
        "--remap", nargs="+", default=[], metavar="FROM:=TO", help="publish under other names"
    )
    what.add_argument(
        "--qos",
        choices=("recorded", "reliable"),
        default="recorded",
        help="recorded: that of the bag, if it has one; reliable: matches every subscriber "
        "(default: %(default)s)",
    )
    when = parser.add_argument_group("when")
    when.add_argument(
        "--rate", type=float, default=1.0, help="times the recorded speed (default: %(default)s)"
    )
    when.add_argument(
        "--start", type=float, default=0.0, metavar="S", help="seconds into the bag to begin at"
    )
    when.add_argument(
        "--duration", type=float, default=0.0, metavar="S", help="seconds of the bag (default: all)"
    )
    when.add_argument(
        "--loop",
        type=int,
        nargs="?",
        const=0,
        default=1,
        metavar="N",
        help="play N times; without a number, or with 0, until Ctrl-C",
    )
    when.add_argument(
        "--clock",
        type=float,
        nargs="?",
        const=40.0,
        default=0.0,
        metavar="HZ",
        help="publish the bag's time on /clock (without a number at 40 Hz)",
    )
    when.add_argument(
        "--wait-s",
        type=float,
        default=0.0,
        metavar="S",
        help="before playing, wait up to this time for a subscriber on each topic; it is an error "
        "if one has none by then (default: 0, no waiting)",
    )
    parser.add_argument(
        "--log",
        type=user_path,
        metavar="FILE",
        help="write one JSON line per message: topic, stamp_ns, sent_ns",
    )


def tell(what: str, lines: list[str]) -> None:
    """Print the first ``MOST_LINES`` of ``lines``, and how many more there are."""
    for line in lines[:MOST_LINES]:
        print(f"{what}: {printable(line, LONGEST_LINE)}", file=sys.stderr)
    if len(lines) > MOST_LINES:
        print(f"{what}: {len(lines) - MOST_LINES} more", file=sys.stderr)


def run(args: Namespace) -> int:
    from vit_perception.cli.processes import use_large_data_profile
    from vit_perception.ros.playback.bag_player import PlayOptions, parse_remaps, play_bag

    options = PlayOptions(
        topics=tuple(args.topics),
        remaps=parse_remaps(args.remap),
        rate=args.rate,
        start_s=args.start,
        duration_s=args.duration,
        loops=args.loop,
        clock_hz=args.clock,
        qos=args.qos,
        wait_s=args.wait_s,
    )
    use_large_data_profile()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    # On stderr, so that what is said at the end can be piped.
    progress = Progress(*columns, console=Console(stderr=True))
    bar = progress.add_task(args.bag.name, total=None)
    begin_ns = 0
    count = 0

    def began(player) -> None:
        nonlocal begin_ns
        begin_ns = player.start_ns
        tell("not played", player.skipped)
        tell("recorded QoS not used, but that of --qos reliable", player.replaced)
        progress.update(bar, total=player.stop_ns - player.start_ns)
        progress.start()

    def show(message) -> None:
        nonlocal count
        count += 1
        if count % SHOW_EVERY == 0:
            progress.update(bar, completed=max(0, message.stamp_ns - begin_ns))

    try:
        sent, ended = play_bag(
            path=args.bag, options=options, log=args.log, began=began, progress=show
        )
        if ended:
            progress.update(bar, completed=progress.tasks[bar].total)
    finally:
        if progress.live.is_started:  # else it would print an empty line before what is wrong
            progress.stop()
    for topic, number in sorted(sent.items()):
        print(printable(f"{number:>8}  {topic}", keep=""))
    print(f"{sum(sent.values())} messages sent" + ("" if ended else ", interrupted"))
    # A loop without an end has no other way to end.
    return 0 if ended or options.loops == 0 else 130
