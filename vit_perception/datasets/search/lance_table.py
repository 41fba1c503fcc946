"""The folder of an index: a LanceDB table of CLS vectors, brought up to date file by file.

It holds the table and ``index.json``: which files of which features are in it, by their digests in
the manifest. A file's rows are removed before they are added, so a build that was killed goes on
where it ended, and nothing is there twice.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.lance_setup import (
    IndexParameters,
    default_folder,
    index_key,
    lancedb,
    naming,
)
from vit_perception.datasets.search.stored_vectors import unit_rows
from vit_perception.files.atomic import is_half_made, write_whole
from vit_perception.files.errors import InvalidValue
from vit_perception.files.locks import locked
from vit_perception.files.log import Log
from vit_perception.files.private_cache import make_folder

FORMAT = "vit_perception.search"
FORMAT_VERSION = 1
TABLE = "vectors"
# Below this number of vectors LanceDB compares every one, which is exact.
LEAST_INDEXED = 10_000
# Another process may still read an earlier version of the table.
KEPT_VERSIONS = timedelta(hours=1)
PORTION_FRAMES = 100_000  # that are added in one step


class _Place(NamedTuple):
    """A file of the features."""

    # Of its folder, and in it; its name.
    folder: int
    number: int
    file: str
    # Its first frame, and how many it has.
    first: int
    frames: int


class LanceTable:
    """The table of ``features`` in ``folder``, brought up to date when it is opened.

    Raises as :class:`vit_perception.datasets.search.lance_index.LanceIndex`.
    """

    def __init__(
        self,
        features: FeatureSet,
        folder: Path,
        *,
        space: str,
        projection: np.ndarray | None,
        parameters: IndexParameters,
        log: Log,
        advance: Callable[[int], None],
    ):
        self._features = features
        self.folder = folder
        self._projection = projection
        self._parameters = parameters
        self._log = log
        self._key = index_key(features, space)
        # Digests of the files that are in it, and whether all their vectors are in lists.
        self._shards: dict[str, str] = {}
        self._in_lists = False
        self.opened: Any = None
        database = lancedb()
        if folder == default_folder(features, space):
            make_folder(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
        self._check_folder()
        waiting = f"another process builds {folder}; waiting"
        with locked(folder / "lock", lambda: log.info(waiting)), naming(folder):
            self._database = database.connect(str(folder))
            self.added, self.removed = self._update(advance)

    @property
    def vectors(self) -> int:
        """The number of vectors in it."""
        return 0 if self.opened is None else int(self.opened.count_rows())

    @property
    def has_lists(self) -> bool:
        """Whether it has an index; a small table has none, and every vector is compared."""
        return self.opened is not None and bool(self.opened.list_indices())

    def _check_folder(self) -> None:
        path = self.folder / "index.json"
        if path.is_file():
            try:
                stated = json.loads(path.read_text())
                same = (stated["format"], stated["format_version"]) == (FORMAT, FORMAT_VERSION)
                key = stated["key"]
                self._shards = dict(stated["shards"])
                self._in_lists = bool(stated["in_lists"])
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidValue(
                    f": {path} is damaged: {error}; accepted: a new folder", argument="index"
                ) from error
            if not same or key != self._key:
                raise InvalidValue(
                    f": {self.folder} is the index of other features "
                    f"({', '.join(map(str, key.get('folders', [])))[:200]}); accepted: a folder of "
                    "its own for each search",
                    argument="index",
                )
            return
        self._shards = {}
        own = ("lock", f"{TABLE}.lance")
        others = [
            path.name
            for path in self.folder.iterdir()
            if path.name not in own and not is_half_made(path, r"index\.json")
        ]
        if others:
            raise InvalidValue(
                f": {self.folder} holds other files ({', '.join(sorted(others)[:3])}); accepted: "
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
        there = (self.folder / f"{TABLE}.lance").is_dir()
        self.opened = self._database.open_table(TABLE) if there else None
        gone = [name for name in self._shards if wanted.get(name) != self._shards[name]]
        if not there:
            self._shards = {}
        missing = [name for name in wanted if self._shards.get(name) != wanted[name]]
        if not gone and not missing and self._in_lists:
            return 0, 0
        if self._shards:
            self._log.info(
                f"the index in {self.folder} is stale: {len(missing)} of {len(wanted)} files are "
                f"new or changed, {len(gone)} of its files are gone or changed; bringing it up to "
                "date"
            )
        else:
            self._log.info(f"building the index in {self.folder}")
        self._in_lists = False
        self._remove(gone)
        for together in self._portions(missing):
            self._remove(together)
            self._add(together, advance)
            self._shards |= {name: wanted[name] for name in together}
            self._write()
        self._put_into_lists(anew=not self.has_lists or len(missing) > len(wanted) // 2)
        self._in_lists = True
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

    def _remove(self, names: list[str]) -> None:
        for name in names:
            self._shards.pop(name, None)
        self._write()
        if self.opened is None or not names:
            return
        folders: dict[str, list[str]] = {}
        for name in names:
            folder, shard = name.split("/", 1)
            folders.setdefault(folder, []).append(f"'{_quoted(shard)}'")
        for folder, shards in folders.items():
            self.opened.delete(f"folder = {int(folder)} AND shard IN ({', '.join(shards)})")

    def _add(self, names: list[str], advance: Callable[[int], None]) -> None:
        """Add the vectors of files; memory is one block of them."""
        import pyarrow as pa

        first = next(self._tables(names[:1], lambda frames: None), None)
        if first is None:
            return
        batches = (batch for table in self._tables(names, advance) for batch in table.to_batches())
        reader = pa.RecordBatchReader.from_batches(first.schema, batches)
        if self.opened is None:
            self.opened = self._database.create_table(TABLE, reader)
        else:
            self.opened.add(reader)

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

    def _put_into_lists(self, anew: bool) -> None:
        """Index what is not indexed yet, or all of it; few vectors need no index."""
        if self.opened is None or self.vectors < LEAST_INDEXED:
            return
        # Nobody reads a table that has had no index yet: earlier versions go at once.
        keep = KEPT_VERSIONS if self.has_lists else timedelta(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            if anew:
                from lancedb.index import IvfSq

                config = IvfSq(
                    distance_type="dot",
                    num_partitions=self._parameters.lists(self.vectors),
                    max_iterations=self._parameters.rounds,
                    sample_rate=self._parameters.sampled,
                )
                self._log.info(f"indexing {self.vectors} vectors")
                self.opened.create_index("vector", config=config, replace=True)
            self.opened.optimize(cleanup_older_than=keep)

    def _write(self) -> None:
        stated = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "key": self._key,
            "shards": self._shards,
            "in_lists": self._in_lists,
        }
        text = json.dumps(stated, indent=1) + "\n"
        write_whole(self.folder / "index.json", lambda file: file.write_text(text, "utf-8"))


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
