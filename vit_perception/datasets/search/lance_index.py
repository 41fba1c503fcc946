"""The nearest frames by an index on disk, with LanceDB, for very many of them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.hits import Hit
from vit_perception.datasets.search.lance_setup import PARAMETERS, IndexParameters, naming
from vit_perception.datasets.search.lance_table import LanceTable
from vit_perception.files.log import SILENT, Log

MOST_ASKED = 20_000  # candidates of one query


class LanceIndex:
    """The index of ``features`` in ``folder``, brought up to date when it is opened.

    With ``projection`` (E, D) it holds the vectors that this leads to, of the ``space`` called so.
    Memory of a build: one block of features, and what LanceDB takes to learn from (64 vectors a
    list).

    Raises:
        InvalidValue: The folder holds something else.
        OperationFailed: LanceDB is not installed, or cannot use what is in the folder.
        OSError: The disk is full. What was added stays, and the next call goes on.
    """

    def __init__(
        self,
        features: FeatureSet,
        folder: Path,
        *,
        space: str = "image",
        projection: np.ndarray | None = None,
        parameters: IndexParameters = PARAMETERS,
        log: Log = SILENT,
        advance: Callable[[int], None] = lambda frames: None,
    ):
        self._features = features
        self._parameters = parameters
        self.table = LanceTable(
            features,
            folder,
            space=space,
            projection=projection,
            parameters=parameters,
            log=log,
            advance=advance,
        )
        self._shard_starts = {
            (folder_number, shard["file"]): int(start)
            for folder_number, files in enumerate(features.folders)
            for shard, start in zip(
                files.manifest["shards"],
                np.cumsum([0, *(s["frames"] for s in files.manifest["shards"])]),
            )
        }

    def hits(self, queries: np.ndarray, count: int) -> list[Hit]:
        """Return up to ``count`` frames near unit ``queries`` (Q, D), nearest first.

        A frame comes once, by its nearest camera and query. Distances are of the index's float16.
        """
        if self.table.opened is None:
            return []
        found: dict[int, Hit] = {}
        with naming(self.table.folder):
            for number, query in enumerate(queries):
                for frame, camera, distance in self._nearest(query, count):
                    known = found.get(frame)
                    if known is None or distance < known.distance:
                        found[frame] = Hit(frame, camera, distance, number)
        return sorted(found.values(), key=lambda hit: (hit.distance, hit.frame))

    @property
    def vectors(self) -> int:
        """The number of vectors in it."""
        return self.table.vectors

    def _nearest(self, query: np.ndarray, count: int) -> Iterator[tuple[int, str, float]]:
        features = self._features
        asked = (
            self.table.opened.search(query.astype(np.float32))
            .distance_type("dot")
            .select(["folder", "shard", "row", "camera", "_distance"])
            .limit(count)
            .nprobes(self._parameters.probes)
            .refine_factor(self._parameters.refine)
        )
        if features.cameras != features.all_cameras:
            numbers = [features.all_cameras.index(camera) for camera in features.cameras]
            asked = asked.where(f"camera IN ({', '.join(map(str, numbers))})", prefilter=True)
        rows = asked.to_arrow().to_pydict()
        for folder, shard, row, camera, distance in zip(
            rows["folder"], rows["shard"], rows["row"], rows["camera"], rows["_distance"]
        ):
            start = self._shard_starts.get((folder, shard))
            if start is not None:
                frame = int(features.starts[folder]) + start + row
                # LanceDB's distance "dot" is 1 minus the product of the vectors.
                yield frame, features.all_cameras[camera], max(0.0, float(distance))


def candidates(
    index: LanceIndex, queries: Sequence[np.ndarray] | np.ndarray, count: int
) -> Iterator[list[Hit]]:
    """Yield longer and longer lists of nearest frames, until they are all or 20,000."""
    asked = max(100, 10 * count)
    while True:
        found = index.hits(np.asarray(queries), min(asked, MOST_ASKED))
        yield found
        if asked >= min(MOST_ASKED, index.vectors):
            return
        asked *= 8
