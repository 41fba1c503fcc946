"""``vit-perception``: perception with Vision Transformers for ROS 2."""

import argparse
import importlib
import sys
import textwrap

from vit_perception import __version__
from vit_perception.engines.cuda import fault as cuda_fault
from vit_perception.files import telemetry
from vit_perception.files.errors import UserError, missing_package, printable

SUBCOMMANDS = {
    "build": "build and verify an engine ahead of the first start",
    "demo": "replay a recorded robot through the node and show what it sees",
    "doctor": "say what this machine can run; write parameters for the topics that are there",
    "embed": "features of bags, pictures or a LeRobot data set as files",
    "explain": "show what a model does with one picture: a figure, and the shape at each step",
    "extract": "write the encoder that a policy carries as a checkpoint of its own",
    "fit": "make a classifier from labelled pictures or a bag: a head, or the complete model",
    "basis": "a basis of patch tokens, to send them as few coefficients",
    "inspect": "look at a recording: an .rrd for Rerun, and an HTML report",
    "reference": "learn what is normal for each camera, for an alarm when the world has moved",
    "replay": "publish a bag's topics with recorded timing",
    "search": "find frames in features: like a picture or a text; copies; bad episodes",
    "status": "one screen about a running node: state, inputs, drops, outputs",
    "watch": "a running node live in the Rerun viewer, in a window or a browser",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and return its exit status.

    Errors that a user can fix print one line, and a hint if there is one. A bug keeps its
    traceback. If the process loses the GPU, it prints one line and ends with
    ``cuda_fault.EXIT_STATUS``.
    """
    telemetry.off()
    for stream in (sys.stdout, sys.stderr):
        # Names from strangers may hold characters that a terminal's encoding does not have.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    # Options before the subcommand end the program; else it is the first word.
    program = " ".join(["vit-perception", *(name for name in given[:1] if name in SUBCOMMANDS)])
    try:
        parsed = parser_of(given[:1]).parse_args(given)
        return cuda_fault.run_program(lambda: parsed.run(parsed), program)
    except (UserError, OSError) as error:
        text = error.for_command_line() if isinstance(error, UserError) else printable(str(error))
        print(f"{program}: {text}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(missing_package(program, error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130


def parser_of(asked: list[str]) -> argparse.ArgumentParser:
    """Return the parser; of the subcommands, only those in ``asked`` have their options."""
    parser = argparse.ArgumentParser(
        prog="vit-perception",
        description="Perception with Vision Transformers for ROS 2.",
        epilog="vit-perception SUBCOMMAND --help shows the options, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"vit-perception {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, summary in SUBCOMMANDS.items():
        if name not in asked:
            subparsers.add_parser(name, help=summary)
            continue
        # Only what is asked for is imported: torch alone takes seconds.
        module = importlib.import_module(f"vit_perception.cli.{name}")
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=f"examples:\n{textwrap.indent(module.EXAMPLES.strip(), '  ')}",
            formatter_class=HelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


class HelpFormatter(argparse.HelpFormatter):
    """Keeps the paragraphs of a description, and the lines of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(
            super(HelpFormatter, self)._fill_text(p, width, indent) for p in paragraphs
        )


if __name__ == "__main__":
    sys.exit(main())
