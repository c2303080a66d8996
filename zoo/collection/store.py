"""The folder of a collection: the one owner of its files, of how they are written, and read.

::

    collection.json            written last: what the collection is of, and which shards there are
    pictures-00000.parquet     a row a file, in the order of :data:`COLUMNS`
    features-00000.npy         float16, rows x F; NaN where a file could not be read
    small-00000.npy            uint8, rows x 32 x 32 x 3: the upright picture squeezed to a square

A row is one content at one place. It never moves and never gets another content, so features and
small pixels are written once; what is known of its file (where it lies, its time, whether it is
there) is in the Parquet file, which is written anew when that changes. The last shard is written
anew with more rows until it is full: what a shard's files have beyond the number of rows that
``collection.json`` says is not there yet. So a kill at any moment leaves the old rows or the new.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoo.errors import CollectionError
from zoo.files import HALF_WRITTEN, below, path_text, replacing, write_json
from zoo.installing import upgrade_command
from zoo.locks import Lock, Locked
from zoo.optional import optional

__all__ = [
    "FORMAT",
    "MANIFEST",
    "MEASURES",
    "SHARD",
    "SMALL",
    "Contents",
    "Manifest",
    "Pictures",
    "Shard",
    "Store",
    "released",
]

FORMAT = 1
"""The version of the folder that this zoo writes, and the newest that it reads."""
SHARD = 4096
"""Rows that a shard has when it is full."""
SMALL = 32
"""Height and width of the small pixels."""
MANIFEST = "collection.json"
LOCK = "collection.lock"
MAPPED = 128 << 20
"""Bytes of shards that stay mapped into memory: what is read of them counts as this process's."""
WAIT = 10.0
"""Seconds that a command waits for another one to end its writing."""
WEIGHTS = "model"
"""The weights folder of a model that was trained on the collection's own pictures."""
MEASURES = ("brightness", "contrast", "colours", "sharpness")
"""The columns of the cheap measures of quality, float32."""
COLUMNS = (
    "path", "raw", "member", "source", "hash", "bytes", "container", "mtime", "width", "height",
    "orientation", "reason", "removed", *MEASURES,
)  # fmt: skip
"""Of ``pictures-00000.parquet``.

``path`` is text, below its source: the file's, and within an archive the member's after it.
``raw`` has the bytes of the file's path where they are no UTF-8. ``member`` is the name within an
archive, or the row of a Parquet file; ``container`` the bytes of that file. ``mtime`` (ns) is the
file's. ``reason`` says why a file could not be read. ``removed``: it was gone at the last update.
"""


@dataclass(frozen=True)
class Contents:
    """The P pictures of a collection that are there and could be read, in row order."""

    rows: np.ndarray  # int64: their numbers in the collection
    hashes: list[str]  # sha256 of the content, hexadecimal

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Pictures(Contents):
    """The same, with what else is known of them."""

    paths: list[str]  # as they can be opened; of an archive's member: the archive's, "/", its name
    members: list[str | None]  # the name within an archive or the row of a Parquet file
    bytes: np.ndarray  # int64
    mtimes: np.ndarray  # int64, nanoseconds
    widths: np.ndarray  # int32, of the upright picture
    heights: np.ndarray  # int32
    measures: dict[str, np.ndarray]  # float32, by the names of MEASURES


@dataclass
class Shard:
    """Rows to add: as many of each column, of features, and of small pixels."""

    columns: dict[str, Any]  # lists, or what pyarrow makes a column of
    features: np.ndarray  # n x F, of any float
    small: np.ndarray  # n x 32 x 32 x 3 uint8

    def __len__(self) -> int:
        return len(self.columns["path"])


@dataclass
class Manifest:
    """What ``collection.json`` says.

    ``model`` has ``name`` (which :func:`zoo.load` takes), ``sha256`` of its tensors if it has a
    weights folder, ``weights`` (the folder within the collection, of a model that was trained on
    its pictures, else None) and ``features`` (how many numbers a picture has).
    """

    model: dict[str, Any]
    preprocessing: dict[str, Any]
    sources: list[str] = field(default_factory=list)
    shards: list[dict[str, int]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


class Store:
    """A collection's folder, open.

    Reading needs no lock: what was read at the beginning stays true, whoever writes meanwhile.

    Args:
        folder: of the collection.
        manifest: what it says; :meth:`open` reads it.
    """

    shard_rows: ClassVar[int] = SHARD

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder = folder
        self.manifest = manifest
        self._maps: dict[str, np.ndarray] = {}

    @classmethod
    def open(cls, folder: Path | str) -> "Store":
        """The collection in ``folder``.

        Raises:
            CollectionError: there is none, it is damaged, or a newer zoo wrote it.
        """
        folder = Path(folder)
        store = cls(folder, _read_manifest(folder))
        for number in range(len(store.manifest.shards)):
            for name in (pictures_name(number), features_name(number), small_name(number)):
                if not (folder / name).is_file():
                    raise _damaged(folder / name, "the file is missing")
        return store

    @classmethod
    def exists(cls, folder: Path | str) -> bool:
        """Whether ``folder`` has a collection, of whatever version and state."""
        return (Path(folder) / MANIFEST).is_file()

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Rows, those of removed and unreadable files among them."""
        return sum(shard["rows"] for shard in self.manifest.shards)

    @property
    def width(self) -> int:
        """How many features a picture has."""
        return int(self.manifest.model["features"])

    def starts(self) -> list[int]:
        """The number of each shard's first row, and of the row after the last."""
        starts = [0]
        for shard in self.manifest.shards:
            starts.append(starts[-1] + shard["rows"])
        return starts

    def table(self, number: int, columns: Sequence[str] | None = None) -> Any:
        """A shard's rows as a ``pyarrow.Table``; of some ``columns`` only.

        Raises:
            CollectionError: the file is damaged.
        """
        arrow, parquet = _arrow()
        path = self.folder / pictures_name(number)
        rows = self.manifest.shards[number]["rows"]
        try:
            # Not a file of Python's: a thread of Arrow's would let go of it when Python has ended.
            file = parquet.ParquetFile(arrow.BufferReader(path.read_bytes()), pre_buffer=False)
            wanted = None if columns is None else [*columns]
            table = file.read(columns=wanted, use_threads=False)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise _damaged(path, " ".join(str(error).split())[:200]) from error
        if len(table) < rows:
            raise _damaged(path, f"expected {rows} rows, got {len(table)}")
        return table.slice(0, rows)

    def tables(self, columns: Sequence[str] | None = None) -> Any:
        """All rows as one ``pyarrow.Table``, in their order."""
        arrow, _ = _arrow()
        schema = _schema()
        if columns is not None:
            schema = arrow.schema([schema.field(name) for name in columns])
        parts = [self.table(i, columns) for i in range(len(self.manifest.shards))]
        return arrow.concat_tables([schema.empty_table(), *parts])

    def pictures(self) -> Pictures:
        """The pictures that are there and could be read."""
        with released():
            return self._pictures()

    def contents(self) -> Contents:
        """As :meth:`pictures`, for who needs no paths, which take most of its time."""
        with released():
            table = self.tables(("hash", "reason", "removed"))
            there = _there(table)
            hashes = table["hash"].filter(there).to_pylist()
            del table
        return Contents(np.flatnonzero(there).astype(np.int64), hashes)

    def _pictures(self) -> Pictures:
        table = self.tables()
        there = _there(table)
        kept = table.filter(there)
        members = kept["member"].to_pylist()
        return Pictures(
            rows=np.flatnonzero(there).astype(np.int64),
            paths=self._paths(kept, members),
            members=members,
            hashes=kept["hash"].to_pylist(),
            bytes=kept["bytes"].to_numpy(),
            mtimes=kept["mtime"].to_numpy(),
            widths=kept["width"].to_numpy(),
            heights=kept["height"].to_numpy(),
            measures={name: kept[name].to_numpy() for name in MEASURES},
        )

    def unread(self) -> list[tuple[str, str]]:
        """The files that are there and could not be read, and why, in the order of rows."""
        with released():
            table = self.tables(("path", "raw", "member", "source", "reason", "removed"))
            kept = table.filter(_there(table, unread=True))
            del table
        paths = self._paths(kept, kept["member"].to_pylist())
        return list(zip(paths, kept["reason"].to_pylist(), strict=True))

    def place(self, row: int) -> tuple[str, str | None]:
        """Where the file of a row can be opened, and the picture's name within an archive."""
        starts = self.starts()
        number = next(i for i, start in enumerate(starts[1:]) if row < start)
        table = self.table(number, ("path", "raw", "member", "source"))
        table = table.slice(row - starts[number], 1)
        (member,) = table["member"].to_pylist()
        (path,) = self._paths(table, [member])
        return (path if member is None else path.removesuffix(f"/{member}")), member

    def readable(self, number: int) -> np.ndarray:
        """The rows of a shard whose pictures are there and could be read."""
        return np.flatnonzero(_there(self.table(number, ("reason", "removed"))))

    def places(self, number: int, rows: np.ndarray) -> list[tuple[str, str | None]]:
        """As :meth:`place`, for some rows of a shard."""
        table = self.table(number, ("path", "raw", "member", "source")).take(rows)
        members = table["member"].to_pylist()
        return [
            (path if member is None else path.removesuffix(f"/{member}"), member)
            for path, member in zip(self._paths(table, members), members, strict=True)
        ]

    def features(self, rows: np.ndarray | slice) -> np.ndarray:
        """The features of rows, n x F float32; NaN where a file could not be read."""
        return self._gathered(features_name, rows, (self.width,), np.float16).astype(np.float32)

    def small(self, rows: np.ndarray | slice) -> np.ndarray:
        """The small pixels of rows, n x 32 x 32 x 3 uint8; black where a file could not be read."""
        return self._gathered(small_name, rows, (SMALL, SMALL, 3), np.uint8)

    def fingerprint(self) -> str:
        """What neighbours and groups are built of: the model, and which rows are there."""
        digest = hashlib.sha256(json.dumps(self.manifest.model, sort_keys=True).encode())
        there = _there(self.tables(("reason", "removed")))
        digest.update(f"{len(there)} ".encode() + np.packbits(there).tobytes())
        return digest.hexdigest()

    def _paths(self, table: Any, members: list[str | None]) -> list[str]:
        """Where the files of some rows can be opened: odd bytes are surrogates again."""
        found = []
        sources = self.manifest.sources
        begins = [below(root, "-")[:-1] for root in sources]  # of nearly all paths
        columns = (table[name].to_pylist() for name in ("source", "path", "raw"))
        for source, path, raw, member in zip(*columns, members, strict=True):
            if raw is not None:
                path = os.fsdecode(raw) + (f"/{member}" if member is not None else "")
            is_plain = path[:1] not in ("", "/", "\\")
            found.append(begins[source] + path if is_plain else below(sources[source], path))
        return found

    def _gathered(
        self,
        name: Callable[[int], str],
        rows: np.ndarray | slice,
        shape: tuple[int, ...],
        dtype: Any,
    ) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows, np.int64)
        found = np.empty((len(rows), *shape), dtype)
        starts = np.asarray(self.starts())
        if len(rows) and not 0 <= rows.min() <= rows.max() < starts[-1]:
            raise IndexError(f"expected rows from 0 to {starts[-1] - 1}")
        shards = np.searchsorted(starts, rows, "right") - 1
        for number in np.unique(shards):
            places = np.flatnonzero(shards == number)
            part = self._map(name(int(number)), int(number), shape, dtype)
            found[places] = part[rows[places] - starts[number]]
        return found

    def _map(self, name: str, number: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A shard's array, mapped into memory."""
        rows = self.manifest.shards[number]["rows"]
        kept = self._maps.get(name)
        if kept is not None and len(kept) >= rows:
            return kept
        path = self.folder / name
        try:
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(path, str(error)) from error
        if array.shape[1:] != shape or array.dtype != dtype or len(array) < rows:
            raise _damaged(
                path,
                f"expected {rows} x {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}",
            )
        self._maps[name] = array
        while sum(each.nbytes for each in [*self._maps.values()]) > MAPPED and len(self._maps) > 1:
            self._maps.pop(next(iter([*self._maps])), None)
        return array

    # -- writing ---------------------------------------------------------------------------------

    @classmethod
    @contextlib.contextmanager
    def writing(cls, folder: Path | str, wait: float | None = None) -> Iterator[None]:
        """Hold the collection in ``folder``, which is made if it is not there.

        Every command that writes there holds it, and opens it only then.

        Raises:
            CollectionError: another command holds it, for longer than ``wait`` seconds
                (:data:`WAIT`).
            OSError: nothing can be written there.
        """
        folder = Path(folder)
        made = not folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder, WAIT if wait is None else wait)
        try:
            for name in os.listdir(folder):  # of a command that was killed
                if HALF_WRITTEN.fullmatch(name):
                    (folder / name).unlink(missing_ok=True)
            yield
        finally:
            lock.release(remove=True)
            if made:  # and nothing was written
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def save(self) -> None:
        """Write ``collection.json``: what it says is there from now on."""
        write_json(self.folder / MANIFEST, asdict(self.manifest))

    def append(self, rows: Shard) -> None:
        """Add rows after the last, in whole shards and one that is not full; all or none are there.

        The caller holds :meth:`writing`.

        Raises:
            OSError: the disk is full, or nothing can be written there.
        """
        arrow, _ = _arrow()
        schema = _schema()
        table = arrow.table(rows.columns, schema=schema)
        features = rows.features.astype(np.float16)
        shards = [dict(shard) for shard in self.manifest.shards]
        start = 0
        if shards and shards[-1]["rows"] < self.shard_rows:
            number, have = len(shards) - 1, shards[-1]["rows"]
            start = min(self.shard_rows - have, len(rows))
            old = self._map(features_name(number), number, (self.width,), np.float16)
            small = self._map(small_name(number), number, (SMALL, SMALL, 3), np.uint8)
            self._write(
                number,
                arrow.concat_tables([self.table(number), table.slice(0, start)]),
                np.concatenate([old[:have], features[:start]]),
                np.concatenate([small[:have], rows.small[:start]]),
            )
            shards[-1]["rows"] = have + start
        for begin in range(start, len(rows), self.shard_rows):
            part = slice(begin, begin + self.shard_rows)
            self._write(
                len(shards), table.slice(begin, self.shard_rows), features[part], rows.small[part]
            )
            shards.append({"rows": len(features[part])})
        before = self.manifest.shards
        self.manifest.shards = shards
        try:
            self.save()
        except BaseException:
            self.manifest.shards = before
            raise

    def rewrite(self, number: int, table: Any) -> None:
        """Write what is known of a shard's files anew; its rows stay the same contents."""
        if len(table) != self.manifest.shards[number]["rows"]:
            raise ValueError(f"shard {number} has other rows")
        _write_parquet(self.folder / pictures_name(number), table)

    def _write(self, number: int, table: Any, features: np.ndarray, small: np.ndarray) -> None:
        for name, array in ((features_name(number), features), (small_name(number), small)):
            with replacing(self.folder / name) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            self._maps.pop(name, None)
        _write_parquet(self.folder / pictures_name(number), table)


def _there(table: Any, *, unread: bool = False) -> np.ndarray:
    """Of each row, whether its file is there and could be read; or, ``unread``, could not."""
    there: np.ndarray = ~flags(table["removed"]) & (flags(table["reason"].is_valid()) == unread)
    return there


def flags(column: Any) -> np.ndarray:
    """A column of truth values as numpy has them."""
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)


def pictures_name(shard: int) -> str:
    return f"pictures-{shard:05}.parquet"


def features_name(shard: int) -> str:
    return f"features-{shard:05}.npy"


def small_name(shard: int) -> str:
    return f"small-{shard:05}.npy"


def _locked(folder: Path, wait: float) -> Lock:
    until = time.monotonic() + wait
    while True:
        try:
            return Lock(folder / LOCK)
        except Locked:
            if time.monotonic() >= until:
                raise CollectionError(
                    f"another command is writing to the collection {path_text(folder)}. Wait until "
                    "it has ended, or choose another folder"
                ) from None
            time.sleep(0.1)


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Give the memory back that Arrow has used inside: of a million pictures it would keep four
    hundred megabytes that nobody uses."""
    yield
    _arrow()[0].default_memory_pool().release_unused()


def _arrow() -> tuple[Any, Any]:
    return (
        optional("pyarrow", "pyarrow", "collection"),
        optional("pyarrow.parquet", "pyarrow", "collection"),
    )


def _schema() -> Any:
    arrow, _ = _arrow()
    kinds = {
        "raw": arrow.binary(), "source": arrow.int32(), "bytes": arrow.int64(),
        "container": arrow.int64(), "mtime": arrow.int64(), "width": arrow.int32(),
        "height": arrow.int32(), "orientation": arrow.int8(), "removed": arrow.bool_(),
        **dict.fromkeys(MEASURES, arrow.float32()),
    }  # fmt: skip
    return arrow.schema([(name, kinds.get(name, arrow.string())) for name in COLUMNS])


def _write_parquet(path: Path, table: Any) -> None:
    arrow, parquet = _arrow()
    written = arrow.BufferOutputStream()
    parquet.write_table(table, written, compression="zstd")
    with replacing(path) as file:
        file.write(written.getvalue())


def _read_manifest(folder: Path) -> Manifest:
    """What the folder says of itself. Raises: CollectionError."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CollectionError(
            f"{path_text(folder)} is no collection: it has no {MANIFEST}. To make one there, type: "
            f"zoo index SOURCE --out {path_text(folder)}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)[:200]) from error
    version = found.get("format") if isinstance(found, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise CollectionError(
            f"{path_text(folder)} was written by a newer zoo: it is of format {version}, this zoo "
            f"reads up to {FORMAT}. Type: {upgrade_command()}"
        )
    if fault := _fault(found):
        raise _damaged(path, fault)
    return Manifest(**{key: found[key] for key in Manifest.__dataclass_fields__})


def _fault(found: Any) -> str:
    """What is wrong with the content of ``collection.json``; empty if nothing is."""
    kinds = {
        "format": int, "model": dict, "preprocessing": dict, "sources": list, "shards": list,
        "settings": dict,
    }  # fmt: skip
    if not isinstance(found, dict):
        return "it is not a JSON object"
    for key, kind in kinds.items():
        if not isinstance(found.get(key), kind):
            return f"{key} is missing or no {kind.__name__}"
    shards = (s.get("rows") if isinstance(s, dict) else None for s in found["shards"])
    if not all(isinstance(rows, int) and 0 < rows <= SHARD for rows in shards):
        return "shards should each have their rows"
    features = found["model"].get("features")
    if not isinstance(found["model"].get("name"), str) or not isinstance(features, int):
        return "model should have a name and features"
    return "" if all(isinstance(s, str) for s in found["sources"]) else "sources should be texts"


def _damaged(path: Path, why: str) -> CollectionError:
    return CollectionError(
        f"{path_text(path)} is damaged: {why}.\nMove its folder away, and make the collection anew "
        "by zoo index; decisions.jsonl, put into the new folder, is still what was decided"
    )
