"""Make a classification head from labelled pictures (a folder with a subfolder a class) or a labelled bag.

The encoder stays as it is; a linear classifier is fitted on its features. Accuracy and confusion are of held-out
pictures: about a quarter of each class (whole stretches of a bag where there are several) and a second bag. The
head that is saved has seen all of the first source. Use it with the node's parameter cameras.<name>.head.
"""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vit_perception.bags.labelled import encode_labelled, labelled_folder, labelled_frames
from vit_perception.bags.reader import BagReader
from vit_perception.model.fit_head import METHODS, Evaluation, evaluate, fit_head, held_out
from vit_perception.model.heads import FEATURES, save_head
from vit_perception.pipeline import Pipeline
from vit_perception.settings import CameraSettings, EncoderSettings, EngineSettings, ModelSettings


def add_arguments(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, help="folder with a subfolder of JPEG or PNG files a class")
    source.add_argument("--bag", type=Path, help="rosbag2 folder with an image topic and a label topic")
    parser.add_argument("--topic", help="image topic of the bag")
    parser.add_argument("--labels", default="/task_stage", help="its std_msgs/String topic (default: %(default)s)")
    parser.add_argument("--test-bag", type=Path, help="a bag that is only tested on")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image of the bag")
    parser.add_argument("--out", type=Path, required=True, help="folder for head.safetensors, labels.json, report.json")
    parser.add_argument("--method", choices=METHODS, default="logistic")
    parser.add_argument("--feature", choices=FEATURES, default="cls_mean")
    parser.add_argument("--checkpoint", default="demo", help="as the node's model.checkpoint (default: %(default)s)")
    parser.add_argument("--backend", default="auto", help="as the node's engine.backend (default: %(default)s)")


def run(args: Namespace) -> int:
    if args.bag and not args.topic:
        raise ValueError("--bag needs --topic, the image topic in it")
    if args.every < 1:
        raise ValueError(f"--every is {args.every}; accepted: 1 or more")
    settings = settings_of(args.bag, args.topic, args.checkpoint, args.backend)
    pipeline = Pipeline.open(settings)
    try:
        fit(pipeline, args)
    finally:
        pipeline.close()
    return 0


def settings_of(bag: Path | None, topic: str | None, checkpoint: str, backend: str) -> EncoderSettings:
    """Settings with the one camera that is fitted on; a bag's message type says whether it is compressed."""
    transport = "compressed"
    if bag:
        with BagReader(bag) as reader:
            transport = "raw" if reader.type_of(topic).endswith("/Image") else "compressed"
    return EncoderSettings((CameraSettings("camera", topic or "files", transport),),
                           model=ModelSettings(checkpoint), engine=EngineSettings(backend))


def encode_source(pipeline: Pipeline, args: Namespace, bag: Path | None) -> tuple[np.ndarray, list[str], list[int]]:
    """Features, labels and stretches of a bag or of the folder, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        if bag is None:
            pictures = list(labelled_folder(args.images))
            bar = progress.add_task(f"features of {args.images}", total=len(pictures))
            return encode_labelled(pipeline, pictures, args.feature, lambda: progress.advance(bar))
        with BagReader(bag) as reader:
            frames = labelled_frames(reader, args.topic, args.labels, args.every)
            bar = progress.add_task(f"features of {bag.name}", total=-(-reader.count(args.topic) // args.every))
            return encode_labelled(pipeline, frames, args.feature, lambda: progress.advance(bar))


def fit(pipeline: Pipeline, args: Namespace) -> dict:
    """Fit, judge on held-out pictures, save; the report that is saved beside the head."""
    features, labels, stretches = encode_source(pipeline, args, args.bag)
    test = held_out(labels, stretches)
    train_labels = [label for label, out in zip(labels, test) if not out]
    evaluations = {}
    if test.any():
        judged = fit_head(features[~test], train_labels, args.feature, args.method)
        evaluations["held_out"] = evaluate(judged, features[test], [la for la, out in zip(labels, test) if out])
    else:
        print("nothing held out: a class needs two pictures for that")
    head = replace(fit_head(features, labels, args.feature, args.method), encoder_sha256=pipeline.encoder_sha256)
    if args.test_bag:
        test_features, test_labels, _ = encode_source(pipeline, args, args.test_bag)
        evaluations["test_bag"] = evaluate(head, test_features, test_labels)
    save_head(args.out, head)
    report = {"method": args.method, "feature": args.feature, "labels": list(head.labels), "pictures": len(labels),
              "model": pipeline.card.name, "encoder_sha256": pipeline.encoder_sha256,
              **{name: summary(e) for name, e in evaluations.items()}}
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    for name, evaluation in evaluations.items():
        print(f"{name.replace('_', ' ')}: accuracy {evaluation.accuracy:.3f} of {evaluation.confusion.sum()} pictures")
        print(evaluation.table())
    print(f"head of {len(head.labels)} classes saved in {args.out}")
    return report


def summary(evaluation: Evaluation) -> dict:
    """An evaluation as JSON."""
    return {"accuracy": round(evaluation.accuracy, 4), "pictures": int(evaluation.confusion.sum()),
            "confusion": evaluation.confusion.tolist()}
