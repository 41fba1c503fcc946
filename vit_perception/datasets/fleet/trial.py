"""A few frames of one source: how fast they are encoded, and how large they are as files."""

import resource
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vit_perception.datasets.fleet.before import Before

if TYPE_CHECKING:
    from vit_perception.datasets.embed_options import EmbedOptions
    from vit_perception.datasets.embed_sources import Source
    from vit_perception.pipeline.pipeline import Pipeline

FRAMES = 20
# Images before the first frame that may be dropped.
MOST_DROPPED = 200


@dataclass(frozen=True)
class Trial:
    """What a trial measured; without frames the other fields say nothing."""

    frames: int
    # Reading, encoding and writing, without the first frame, which also warms up.
    seconds: float
    # Of the file.
    size_bytes: int
    # Of the process so far, at its highest.
    resident_bytes: int
    # What a source after this one would begin with.
    begun: Before

    @property
    def frames_per_s(self) -> float:
        return (self.frames - 1) / self.seconds if self.seconds and self.frames > 1 else 0.0


def trial(
    pipeline: "Pipeline", source: "Source", options: "EmbedOptions", frames: int = FRAMES
) -> Trial:
    """Embed the first ``frames`` of ``source`` to a temporary file."""
    from vit_perception.datasets.accounts import Dropped
    from vit_perception.datasets.embed_columns import FrameColumns
    from vit_perception.datasets.output_messages import OutputMessages
    from vit_perception.datasets.shards import FORMATS, ShardPlace
    from vit_perception.pipeline.layouts import LayoutTracker
    from vit_perception.wire.layout import written_fields

    tracker = LayoutTracker(pipeline)
    begun = Before()
    count = 0
    begun_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        columns = [column.settings.name for column in options.columns]
        place = ShardPlace(
            folder=Path(folder),
            name="trial",
            columns=FrameColumns(pipeline, options.chosen),
            messages=OutputMessages(options.node, options.chosen, columns),
            dense=pipeline.dense_values if pipeline.dense else None,
            basis=pipeline.parts.basis,
        )
        shard = FORMATS[options.file_format].new_shard(place)
        path = Path(folder) / f"trial.{options.file_format}"
        try:
            for produced in islice(source.results(pipeline, 0), frames + MOST_DROPPED):
                result = produced.result
                if result is None or isinstance(result, Dropped):
                    continue
                tracker.update(result)
                numbers = {"index": count, "source": 0, "episode": 0, "layout": 0}
                numbers["recorded_ns"] = produced.recorded_ns
                shard.add(numbers, result, produced.extras, tracker.layout)
                count += 1
                if count == 1:
                    begun_s = time.perf_counter()
                    layout = {"layout_id": tracker.layout.layout_id}
                    layout |= written_fields(tracker.layout)
                    if not layout["sources"]:
                        del layout["sources"]
                    seen = {name: list(values) for name, values in tracker.seen.items()}
                    begun = Before(seen=seen, layouts=(layout,))
                if count == frames:
                    break
            if count:
                shard.write(path)
        except BaseException:
            shard.abandon()
            raise
        seconds = time.perf_counter() - begun_s
        size_bytes = path.stat().st_size if count else 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Trial(count, seconds, size_bytes, resident, begun)
