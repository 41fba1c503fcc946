"""Show what a model does with one image: a figure, and the shape that was measured at each step.

The figure has the network's view, its patches, PCA of the patch tokens, top classes, the shapes,
similarity of the positions, how far each head looks, and where each head of one block looks.
docs/vit.md explains one image step by step.
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch

from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.cli.paths import add_checkpoint_option, add_family_option, user_path
from vit_perception.cli.pipeline_options import add_by_hand_arguments, by_hand_of
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    ModelSettings,
    ZeroShotSettings,
)
from vit_perception.engines.reference import encoder_digest
from vit_perception.files.atomic import REPLACEABLE, kind_of
from vit_perception.files.errors import InvalidValue, printable
from vit_perception.heads.classification import Head, load_head, scores_of, top_classes
from vit_perception.heads.text_weights import ZeroShotHead
from vit_perception.image.picture_files import PICTURE_SUFFIXES, is_picture_name, read_picture
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.zero_shot_heads import zero_shot_heads
from vit_perception.training.pictures import decode
from vit_perception.viewing.figure import draw_figure
from vit_perception.viewing.figure_panels import FigureContent
from vit_perception.viewing.measures import position_similarity
from vit_perception.viewing.model_trace import ModelTrace, trace_model
from vit_perception.wire.records import BadInput, ClassScore, RgbImage

EXAMPLES = """
vit-perception explain picture.jpg
vit-perception explain picture.jpg --block 5 --out block_5.png
vit-perception explain picture.jpg --head heads/wrist --top-k 3
"""
NO_CLASSES = "no classes: the model has no classifier; see --head and --labels"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "image", type=user_path, metavar="IMAGE", help=f"a picture: {', '.join(PICTURE_SUFFIXES)}"
    )
    model = parser.add_argument_group("model")
    add_checkpoint_option(model)
    add_family_option(model)
    add_by_hand_arguments(model)
    named = parser.add_argument_group("classes")
    named.add_argument(
        "--top-k", type=int, default=5, help="number of classes shown (default: %(default)s)"
    )
    classes = named.add_mutually_exclusive_group()
    classes.add_argument(
        "--head",
        type=user_path,
        metavar="FOLDER",
        help="of a head that `vit-perception fit` made",
    )
    classes.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="names of classes, without any training (CLIP, SigLIP)",
    )
    figure = parser.add_argument_group("result")
    figure.add_argument(
        "--block",
        type=int,
        default=-1,
        help="block whose tokens and heads are drawn (default: the last)",
    )
    figure.add_argument(
        "--head-grid", type=int, metavar="COLUMNS", help="heads in one row (default: up to 8)"
    )
    figure.add_argument(
        "--out",
        type=user_path,
        metavar="FILE.png",
        help="the figure (default: <image>_explained.png here)",
    )
    figure.add_argument(
        "--json", action="store_true", help="print everything measured as JSON instead of the table"
    )


def run(args: Namespace) -> int:
    out = args.out or Path(f"{args.image.stem}_explained.png")
    check(args, out)
    image = decoded_picture(args.image)
    head = load_head(args.head) if args.head else None
    loaded = load_checkpoint(args.checkpoint, args.family, by_hand_of(args))
    card = loaded.card
    model = loaded.model
    network_rgb = Preprocessor(card.rule)(image)  # (3, H, W) uint8
    trace = trace_model(
        model=model,
        images=normalised(network_rgb, card.mean, card.std),
        block=args.block,
        dense=loaded.dense,
    )
    texts = zero_shot_head(args, loaded)
    classes = classes_of(trace=trace, loaded=loaded, head=head or texts, count=args.top_k)
    config = model.config
    content = FigureContent(
        title=card.name,
        subtitle=f"{args.image.name}  ·  {card.family}, width {config.width}, {config.depth} "
        f"blocks of {config.heads} heads, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M "
        "parameters",
        rgb=np.ascontiguousarray(network_rgb.permute(1, 2, 0).numpy()),
        patch_size_px=config.patch_size_px,
        trace=trace,
        positions=position_similarity(model, trace.grid),
        classes=classes,
        classes_of=f"of the head {args.head.name}"
        if head
        else "zero-shot, of the labels given"
        if texts
        else "of the model's own head",
    )
    if not args.json:
        print_table(content, image)
    draw_figure(content, out, args.head_grid)
    print(
        json.dumps(as_json(content=content, loaded=loaded, image=image, out=out), indent=1)
        if args.json
        else f"figure: {out}"
    )
    return 0


def check(args: Namespace, out: Path) -> None:
    """Check what would fail only after the model has run.

    Raises:
        InvalidValue: An option is not accepted.
    """
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise InvalidValue(
            f"--out is {out}; accepted: a file that ends in .png, in a folder that exists"
        )
    if (kind := kind_of(out)) not in REPLACEABLE:
        raise InvalidValue(f"--out is {out}, {kind}; accepted: a file, new or to be replaced")
    if out.exists() and args.image.exists() and out.samefile(args.image):
        raise InvalidValue(f"--out is {out}, the picture itself; accepted: another file")
    for name, value in (("--head-grid", args.head_grid), ("--top-k", args.top_k)):
        if value is not None and value < 1:
            raise InvalidValue(f"{name} is {value}; accepted: 1 or more")


def decoded_picture(path: Path) -> RgbImage:
    """Read and decode an image file.

    Raises:
        InvalidValue: It cannot be used; the message names the file.
    """
    if not path.is_file():
        raise InvalidValue(f"{path} is no file; accepted: a picture, {', '.join(PICTURE_SUFFIXES)}")
    if not is_picture_name(path):
        raise InvalidValue(f"{path} is no picture; accepted: {', '.join(PICTURE_SUFFIXES)}")
    try:
        return decode(read_picture(path))
    except BadInput as error:
        raise InvalidValue(f"{path}: {error}") from error


def normalised(
    network_rgb: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Turn (3, H, W) uint8 into the model's input: (1, 3, H, W) float32, (x / 255 − mean) / std."""
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return ((network_rgb.float() / 255 - mean) / std)[None]


def zero_shot_head(args: Namespace, loaded: LoadedModel) -> ZeroShotHead | None:
    """Return the head of --labels; None without them.

    Raises:
        InvalidValue: The model has no text encoder.
    """
    if not args.labels:
        return None
    settings = EncoderSettings(
        (CameraSettings("picture", "file"),),
        zero_shot=ZeroShotSettings(tuple(args.labels)),
        model=ModelSettings(args.checkpoint, block=args.block, family=args.family),
    )
    return zero_shot_heads(settings, loaded)["picture"]


def classes_of(
    trace: ModelTrace, loaded: LoadedModel, head: Head | ZeroShotHead | None, count: int
) -> tuple[ClassScore, ...]:
    """Return the best classes of ``head``, or of the model's own head if there is none.

    Without either there are none.

    Raises:
        InvalidValue: The head does not fit the model.
    """
    output = trace.output
    card = loaded.card
    if head is not None:
        encoder = encoder_digest(loaded, trace.block)
        if isinstance(head, Head) and head.encoder_sha256 not in ("", encoder):
            raise InvalidValue(
                f"--head was fitted on the features of encoder {head.encoder_sha256[:12]}; "
                "accepted: "
                f"one fitted on {encoder[:12]}, which is {card.name} at block {trace.block}"
            )
        return top_classes(
            head.scores(output.cls_token[0].numpy(), output.patch_tokens[0].numpy()),
            head.labels,
            count,
        )
    if output.logits is None:
        return ()
    scores = scores_of(output.logits[0].numpy(), card.scores)
    return top_classes(
        scores, card.labels or tuple(f"class {k}" for k in range(len(scores))), count
    )


def print_table(content: FigureContent, image: RgbImage) -> None:
    """Print the shapes, one step per line, and the best classes."""
    print(printable(f"{content.title}: {content.subtitle}", keep=""))
    print(
        f"picture {image.size[0]} × {image.size[1]} px, network {content.rgb.shape[0]} × "
        f"{content.rgb.shape[1]} px, "
        f"{content.trace.grid[0]} × {content.trace.grid[1]} patches of {content.patch_size_px} px"
    )
    shapes = [" × ".join(map(str, step.shape)) for step in content.trace.steps]
    names_wide = max(len(s.name) for s in content.trace.steps)
    shapes_wide = max(map(len, shapes))
    for step, shape in zip(content.trace.steps, shapes):
        print(f"  {step.name:{names_wide}}  {shape:{shapes_wide}}  {step.what}")
    if not content.classes:
        print(NO_CLASSES)
    for result in content.classes:
        print(f"  {result.score:.3f}  {result.class_id}")


def as_json(content: FigureContent, loaded: LoadedModel, image: RgbImage, out: Path) -> dict:
    """Return everything measured that is not an image."""
    trace = content.trace
    positions = content.positions
    return {
        "model": content.title,
        "family": loaded.card.family,
        "weights_sha256": loaded.card.weights_sha256,
        "picture_size_px": list(image.size),
        "network_size_px": list(content.rgb.shape[:2]),
        "patch_size_px": content.patch_size_px,
        "grid": list(trace.grid),
        "block": trace.block,
        "shapes": [{"step": s.name, "shape": list(s.shape), "what": s.what} for s in trace.steps],
        "positions": positions.kind if positions else "none",
        "attention": {
            "asked_by": trace.asked_by,
            "share_on_patches": [round(float(row.sum()), 4) for row in trace.attention],
        },
        "attention_distance_px": trace.distance_px.round(2).tolist(),
        "top_classes": [{"label": c.class_id, "score": round(c.score, 6)} for c in content.classes],
        "figure": str(out),
    }
