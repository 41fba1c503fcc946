"""Sources that make a fleet's life hard, and the parts of a fleet without Ray."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from test.datasets.embed_runs import CAMERAS, settings_of
from tools.fleet.bags import make_bags
from vit_perception.datasets.embed import EmbedOptions
from vit_perception.datasets.embed_journal import Journal
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.fleet.actors import EmbedWorker
from vit_perception.datasets.fleet.commits import Commits, remove_task
from vit_perception.datasets.fleet.plan import TOKEN, Begin, Job, survey
from vit_perception.datasets.fleet.tasks import Task
from vit_perception.recordings.definitions import typestore
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

COMPRESSED = "sensor_msgs/msg/CompressedImage"


def hard_bags(folder: Path) -> list[Path]:
    """Five short bags: the third has smaller images of one camera, the fifth has two episodes."""
    bags = make_bags(folder, 5, seconds=0.6)
    smaller = folder / "smaller"
    if not smaller.exists():
        make_smaller(bags[2], smaller)
    return [bags[0], bags[4], smaller, bags[1], bags[3]]


def make_smaller(bag: Path, path: Path) -> None:
    """Write ``bag`` with the images of its first camera at half their size."""
    types = typestore()
    with BagReader(bag) as reader, BagWriter(path) as writer:
        for message in reader.raw(list(reader.topics), reader.start_ns, reader.end_ns + 1):
            data = message.data
            if message.topic == CAMERAS[0].topic:
                image = types.deserialize_cdr(data, COMPRESSED)
                pixels = cv2.imdecode(image.data, cv2.IMREAD_COLOR)
                _, packed = cv2.imencode(".jpg", cv2.resize(pixels, None, fx=0.5, fy=0.5))
                image = replace(image, data=np.asarray(packed).reshape(-1))
                data = bytes(types.serialize_cdr(image, COMPRESSED))
            writer.write(message.topic, message.type_name, data, message.stamp_ns)


def sources_of(bags: Sequence[Path]) -> list[BagSource]:
    return [BagSource(bag, CAMERAS[0].topic) for bag in bags]


class Fleet:
    """One worker, and the driver's part of a run, whose steps a test decides on."""

    def __init__(self, checkpoint: Path, sources: Sequence, out: Path, options: EmbedOptions):
        found = survey(sources, [f"source {n}" for n in range(len(sources))])
        self.options = options
        self.job = Job(
            settings=settings_of(checkpoint),
            options=options,
            sources=tuple(sources),
            identities=tuple(source.identity for source in found),
            out=out,
            threads=1,
        )
        self.worker = EmbedWorker("here")
        self.opened = self.worker.open(self.job)
        run = {
            name: [source.identity for source in found] if name == "sources" else value
            for name, value in self.opened.run.items()
        }
        self.journal = Journal(out, run)
        self.commits = Commits(self.journal, self.job.staging, len(sources), self.opened.min_cosine)
        self.job.staging.mkdir(exist_ok=True)
        self.begin = Begin(str(hash(json.dumps(run))))
        (self.job.staging / TOKEN).write_text(self.begin.run_sha256)
        self.worker.begin(self.begin)

    def embed(self, number: int):
        return self.worker.embed(Task(number, self.commits.before(number)))

    def run(self, order: Sequence[int]) -> dict:
        """Embed the sources in ``order``, commit what can be, correct what has to be."""
        for number in order:
            self.take(self.embed(number))
        return self.commits.finish(self.options.file_format)

    def take(self, outcome) -> None:
        if outcome.done:
            self.commits.add(outcome.done)
        else:
            assert outcome.bad_source, outcome
            self.commits.fail(outcome.number, outcome.bad_source)
        while wrong := self.commits.commit():
            outcome = self.worker.relabel(*wrong)
            if outcome.redo:
                remove_task(self.job.staging, outcome.number)
                outcome = self.embed(outcome.number)
            self.commits.add(outcome.done)

    def close(self) -> None:
        self.journal.close()
