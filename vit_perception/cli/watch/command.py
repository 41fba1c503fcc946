"""Options and run of `vit-perception watch`."""

import os
import signal
import sys
from argparse import ArgumentParser, Namespace

from vit_perception.cli.processes import use_large_data_profile
from vit_perception.cli.watch.viewer import Viewer, ViewerOptions
from vit_perception.files.errors import InvalidValue, OperationFailed

DELIVERED_S = 2.0  # a viewer that has not taken a moment's messages by then is waited for
EXAMPLES = """
vit-perception watch
vit-perception watch /vit_encoder --web
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
        "--web", action="store_true", help="serve a page for a browser instead of opening a window"
    )
    page = parser.add_argument_group("with --web: the page")
    page.add_argument(
        "--bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="of this machine, for --web; 0.0.0.0 lets everybody in the network look, without a "
        "password (default: %(default)s, this machine alone)",
    )
    page.add_argument(
        "--web-port",
        type=int,
        default=9090,
        metavar="PORT",
        help="of the page (default: %(default)s)",
    )
    page.add_argument(
        "--data-port",
        type=int,
        default=9876,
        metavar="PORT",
        help="from which the page takes what it shows (default: %(default)s)",
    )
    parser.add_argument(
        "--rate-hz",
        type=float,
        default=5.0,
        metavar="HZ",
        help="how often each topic's newest message is shown, at most (default: %(default)s)",
    )
    parser.add_argument(
        "--memory-mb",
        type=int,
        default=500,
        metavar="MB",
        help="for what the viewer keeps; the oldest goes first (default: %(default)s)",
    )
    parser.add_argument(
        "--wait-s",
        type=float,
        default=5.0,
        metavar="S",
        help="how long to look for the node (default: %(default)s)",
    )


def run(args: Namespace) -> int:
    options = ViewerOptions(
        web=args.web,
        bind=args.bind,
        web_port=args.web_port,
        data_port=args.data_port,
        memory_mb=args.memory_mb,
    )
    check(args, options)
    # Without its own end of SIGTERM and SIGHUP the viewer's process would stay behind.
    for sent in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sent, signal.default_int_handler)
    try:
        return watch(args, options)
    except KeyboardInterrupt:
        return 0


def check(args: Namespace, options: ViewerOptions) -> None:
    """Check what can be checked before the node is looked for.

    Raises:
        InvalidValue: An option is not accepted.
        OperationFailed: rerun-sdk is not installed, or there is no display.
    """
    from vit_perception.viewing.live_log import NEEDED_BY
    from vit_perception.viewing.rerun_entities import rerun_sdk

    try:
        rerun_sdk(NEEDED_BY)
    except ImportError as error:
        raise OperationFailed(str(error)) from error
    if not 0.0 <= args.wait_s < float("inf"):
        raise InvalidValue(f" is {args.wait_s}; accepted: seconds from 0", argument="wait_s")
    if not 0.1 <= args.rate_hz <= 100.0:
        raise InvalidValue(f" is {args.rate_hz}; accepted: 0.1 to 100", argument="rate_hz")
    options.check()
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET")
    if sys.platform == "linux" and not args.web and not any(map(os.environ.get, displays)):
        raise OperationFailed(
            "there is no display for the viewer's window; --web serves a page for a browser"
        )


def watch(args: Namespace, options: ViewerOptions) -> int:
    """Show the node until the viewer is closed."""
    from vit_perception.ros.suggest.ros_start import check_middleware

    check_middleware()
    use_large_data_profile()
    from vit_perception.ros.health.status_watch import StatusWatch
    from vit_perception.ros.watch.live_topics import LiveTopics
    from vit_perception.ros.watch.shown import Shown
    from vit_perception.viewing.live_log import LiveLog

    with StatusWatch() as graph:
        node = graph.find(args.node, args.wait_s)
    with (
        Viewer(options) as viewer,
        LiveTopics(node) as topics,
        LiveLog(viewer.data_url, node) as log,
    ):
        print(f"watching {node}: {viewer.says}; Ctrl-C ends it", flush=True)
        shown = Shown(topics, log)
        behind = False
        while viewer.is_open():
            topics.listen(1.0 / args.rate_hz)
            # Nothing is sent to a viewer that still has something to take: memory stays bounded.
            if log.delivered(DELIVERED_S):
                for line in shown.update():
                    print(line, flush=True)
                behind = False
            elif not behind:
                behind = True
                print("the viewer takes nothing at the moment; waiting for it", flush=True)
    return 0
