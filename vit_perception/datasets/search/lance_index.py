"""An index of CLS vectors on disk, with LanceDB: built once, brought up to date by file.

The folder holds a LanceDB table, and ``index.json``: which files of which features are in it, by
their digests in the manifest. A file's rows are removed before they are added, so a build that was
killed goes on where it ended, and nothing is there twice.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.hits import Hit
from vit_perception.datasets.search.stored_vectors import unit_rows
from vit_perception.engines.cache.store import digest_of
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import InvalidValue, OperationFailed
from vit_perception.files.locks import locked
from vit_perception.files.log import SILENT, Log
from vit_perception.files.private_cache import cache_root, make_folder

FORMAT = "vit_perception.search"
FORMAT_VERSION = 1
TABLE = "vectors"
# Below this number of vectors LanceDB compares every one, which is exact.
LEAST_INDEXED = 10_000
# Another process may still read an earlier version of the table.
KEPT_VERSIONS = timedelta(hours=1)
PORTION_FRAMES = 100_000
MOST_ASKED = 20_000  # candidates of one query


@dataclass(frozen=True)
class IndexParameters:
    """How the index is built and asked: inverted lists of vectors in eight bits a number, then the
    best candidates again by their float16 vectors.

    Products of fewer bytes (IVF_PQ) made the file smaller, and took 30 times as long to train.
    """

    # Vectors of one list, on average.
    list_vectors: int = 4096
    # Vectors of each list that its centre is learnt from, and how many rounds.
    sampled: int = 64
    rounds: int = 20
    # Lists that a query looks into, and of how many candidates each result is the best.
    probes: int = 20
    refine: int = 3

    def lists(self, vectors: int) -> int:
        """Return the number of lists of an index of ``vectors``."""
        return max(1, vectors // self.list_vectors)


PARAMETERS = IndexParameters()


class _Place(NamedTuple):
    """A file of the features."""

    # Of its folder, and in it; its name.
    folder: int
    number: int
    file: str
    # Its first frame, and how many it has.
    first: int
    frames: int


def lancedb() -> Any:
    """Import LanceDB.

    Raises:
        OperationFailed: It is not installed.
    """
    try:
        import lancedb as package
    except ImportError as error:
        raise OperationFailed(
            "an index of many frames needs the package lancedb: pip install "
            "'vit_perception[search]', or pip install lancedb",
            hint_argument="method",
            hint=" exact reads every vector and needs no package",
        ) from error
    return package


def default_folder(features: FeatureSet, space: str) -> Path:
    """Return the folder of the index of ``features`` in the user's cache."""
    return cache_root() / "search" / digest_of(_key(features, space))


class LanceIndex:
    """The index of ``features`` in ``folder``, brought up to date when it is opened.

    With ``projection`` (E, D) it holds the vectors that this leads to, of the ``space`` called so.
    ``report`` says what was done. Memory of a build: one block of features, and what LanceDB takes
    to learn from (64 vectors a list).

    Raises:
        InvalidValue: The folder holds something else.
        OperationFailed: LanceDB is not installed.
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
        self._folder = folder
        self._projection = projection
        self._parameters = parameters
        self._log = log
        self._key = _key(features, space)
        database = lancedb()
        if folder == default_folder(features, space):
            make_folder(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
        self._check_folder()
        with locked(folder / "lock", lambda: log.info(f"another process builds {folder}; waiting")):
            self._database = database.connect(str(folder))
            self.added, self.removed = self._update(advance)
        self._shard_starts = {
            (folder_number, shard["file"]): start
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
        if not self._table:
            return []
        found: dict[int, Hit] = {}
        for number, query in enumerate(queries):
            for frame, camera, distance in self._nearest(query, count):
                known = found.get(frame)
                if known is None or distance < known.distance:
                    found[frame] = Hit(frame, camera, distance, number)
        return sorted(found.values(), key=lambda hit: (hit.distance, hit.frame))

    @property
    def vectors(self) -> int:
        """The number of vectors in it."""
        return int(self._table.count_rows()) if self._table else 0

    @property
    def _table(self) -> Any:
        return self._opened_table

    def _nearest(self, query: np.ndarray, count: int) -> Iterator[tuple[int, str, float]]:
        features = self._features
        asked = (
            self._table.search(query.astype(np.float32))
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
                frame = int(features.starts[folder]) + int(start) + row
                # LanceDB's distance "dot" is 1 minus the product of the vectors.
                yield frame, features.all_cameras[camera], max(0.0, float(distance))

    # -- what is in it ----------------------------------------------------------------------------

    def _check_folder(self) -> None:
        path = self._folder / "index.json"
        if path.is_file():
            try:
                stated = json.loads(path.read_text())
                same = (stated["format"], stated["format_version"]) == (FORMAT, FORMAT_VERSION)
                key = stated["key"]
                self._shards: dict[str, str] = dict(stated["shards"])
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidValue(
                    f": {path} is damaged: {error}; accepted: a new folder", argument="index"
                ) from error
            if not same or key != self._key:
                raise InvalidValue(
                    f": {self._folder} is the index of other features "
                    f"({', '.join(map(str, key.get('folders', [])))[:200]}); accepted: a folder of "
                    "its own for each search",
                    argument="index",
                )
            return
        self._shards = {}
        others = [
            p.name for p in self._folder.iterdir() if p.name not in ("lock", f"{TABLE}.lance")
        ]
        if others:
            raise InvalidValue(
                f": {self._folder} holds other files ({', '.join(sorted(others)[:3])}); accepted: "
                "a new or an empty folder, or that of an index",
                argument="index",
            )

    def _update(self, advance: Callable[[int], None]) -> tuple[int, int]:
        """Bring the table up to date; return how many files were added and removed."""
        self._check_folder()  # again: another process may have built it meanwhile
        wanted = {
            f"{number}/{shard['file']}": shard["sha256"]
            for number, files in enumerate(self._features.folders)
            for shard in files.manifest["shards"]
        }
        there = (self._folder / f"{TABLE}.lance").is_dir()
        self._opened_table = self._database.open_table(TABLE) if there else None
        gone = [name for name in self._shards if wanted.get(name) != self._shards[name]]
        if not there:
            self._shards = {}
        missing = [name for name in wanted if self._shards.get(name) != wanted[name]]
        if not gone and not missing:
            return 0, 0
        if self._shards:
            self._log.info(
                f"the index in {self._folder} is stale: {len(missing)} of {len(wanted)} files are "
                f"new or changed, {len(gone)} of its files are gone or changed; bringing it up to "
                "date"
            )
        else:
            self._log.info(f"building the index in {self._folder}")
        for name in gone:
            self._remove(name)
        for together in self._portions(missing):
            self._add(together, advance)
            self._shards |= {name: wanted[name] for name in together}
            self._write()
        self._index(rebuild=not self._has_index or len(missing) > len(wanted) // 2)
        self._write()
        return len(missing), len(gone)

    def _portions(self, names: list[str]) -> Iterator[list[str]]:
        """Yield the files that are added in one step: LanceDB keeps a version of each."""
        portion: list[str] = []
        frames = 0
        for name in names:
            portion.append(name)
            frames += self._place_of(name).frames
            if frames >= PORTION_FRAMES:
                yield portion
                portion = []
                frames = 0
        if portion:
            yield portion

    def _place_of(self, name: str) -> "_Place":
        folder, file = name.split("/", 1)
        shards = self._features.folders[int(folder)].manifest["shards"]
        number = [shard["file"] for shard in shards].index(file)
        start = sum(shard["frames"] for shard in shards[:number])
        first = int(self._features.starts[int(folder)]) + start
        return _Place(int(folder), number, file, first, shards[number]["frames"])

    def _remove(self, name: str) -> None:
        self._shards.pop(name, None)
        self._write()
        if self._opened_table is not None:
            folder, shard = name.split("/", 1)
            self._opened_table.delete(f"folder = {int(folder)} AND shard = '{_quoted(shard)}'")

    def _add(self, names: list[str], advance: Callable[[int], None]) -> None:
        """Add the vectors of files; memory is one block of them."""
        import pyarrow as pa

        for name in names:
            self._remove(name)
        first = next(self._tables(names[:1], lambda frames: None), None)
        if first is None:
            return
        batches = (batch for table in self._tables(names, advance) for batch in table.to_batches())
        reader = pa.RecordBatchReader.from_batches(first.schema, batches)
        if self._opened_table is None:
            self._opened_table = self._database.create_table(TABLE, reader)
        else:
            self._opened_table.add(reader)

    def _tables(self, names: list[str], advance: Callable[[int], None]) -> Iterator[Any]:
        features = self._features
        for place in map(self._place_of, names):
            for first, vectors in features.shard_blocks(
                place.folder, place.number, features.all_cameras
            ):
                if self._projection is not None:
                    vectors = unit_rows(vectors @ self._projection.T)
                yield _rows(vectors, place, first - place.first)
                advance(len(vectors))

    @property
    def _has_index(self) -> bool:
        return self._opened_table is not None and bool(self._opened_table.list_indices())

    def _index(self, rebuild: bool) -> None:
        """Index what is not indexed yet; LanceDB compares the rest exactly until then."""
        if self._opened_table is None or self.vectors < LEAST_INDEXED:
            return
        # Nobody reads a table that has had no index yet: earlier versions go at once.
        keep = KEPT_VERSIONS if self._has_index else timedelta(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            if rebuild:
                from lancedb.index import IvfSq

                config = IvfSq(
                    distance_type="dot",
                    num_partitions=self._parameters.lists(self.vectors),
                    max_iterations=self._parameters.rounds,
                    sample_rate=self._parameters.sampled,
                )
                self._log.info(f"indexing {self.vectors} vectors")
                self._opened_table.create_index("vector", config=config, replace=True)
            self._opened_table.optimize(cleanup_older_than=keep)

    def _write(self) -> None:
        stated = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "key": self._key,
            "shards": self._shards,
        }
        text = json.dumps(stated, indent=1) + "\n"
        write_whole(self._folder / "index.json", lambda file: file.write_text(text, "utf-8"))


def _key(features: FeatureSet, space: str) -> dict[str, Any]:
    return {
        "folders": [str(files.folder.resolve()) for files in features.folders],
        "encoder": features.encoder,
        "encoder_sha256": features.encoder_sha256,
        "space": space,
    }


def _rows(vectors: np.ndarray, place: _Place, first_row: int) -> Any:
    """Return a table of the vectors (n, cameras, D) that are not missing."""
    import pyarrow as pa

    row, camera = np.nonzero(vectors.any(axis=-1))
    chosen = vectors[row, camera].astype(np.float16)
    return pa.table(
        {
            "folder": pa.array(np.full(len(row), place.folder, np.int32)),
            "shard": pa.array([place.file] * len(row), pa.string()),
            "row": pa.array((row + first_row).astype(np.int32)),
            "camera": pa.array(camera.astype(np.int8)),
            "vector": pa.FixedSizeListArray.from_arrays(
                pa.array(chosen.reshape(-1)), vectors.shape[-1]
            ),
        }
    )


def _quoted(text: str) -> str:
    return text.replace("'", "''")


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
