"""Write the encoder that a policy carries as a checkpoint of its own.

Vision tower, connector, state projection and preprocessing become a folder for model.checkpoint, so
that a robot needs a tenth of the policy's file. Its tokens are equal, bit for bit.
"""

from argparse import ArgumentParser, Namespace

from vit_perception.checkpoints.extract import write_extract
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.paths import add_family_option, user_path
from vit_perception.cli.pipeline_options import add_by_hand_arguments, by_hand_of

EXAMPLES = """
vit-perception extract /models/my_smolvla --out models/encoder
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "policy",
        metavar="POLICY",
        help="the policy's checkpoint: a folder, a file, or hf://owner/name",
    )
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="FOLDER", help="a new or an empty folder"
    )
    add_family_option(parser)
    add_by_hand_arguments(parser.add_argument_group("preprocessing"))


def run(args: Namespace) -> int:
    loaded = load_checkpoint(args.policy, args.family, by_hand_of(args))
    weights = write_extract(loaded, args.out)
    files = loaded.files.weights_files if loaded.files else ()
    policy_mb = sum(path.stat().st_size for path in files) / 1e6
    encoder_mb = weights.stat().st_size / 1e6
    print(
        f"{args.out}: the encoder of {loaded.card.name} ({loaded.card.family}), "
        f"{encoder_mb:.1f} MB of {policy_mb:.1f} MB in the policy's files here; "
        f"model.checkpoint: {args.out}"
    )
    return 0
