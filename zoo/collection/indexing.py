"""Making and updating a collection: what changed is looked at, what is new is computed.

Size and time of a file decide whether its bytes are read and hashed; the hash decides whether the
model has to see it. So a file that was renamed, moved, copied, removed or brought back costs no
computation, and what a person said of it, by its content, stays true.
"""

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.collection import remote
from zoo.collection.decisions import DECISIONS
from zoo.collection.entries import Entry, Files, listed, members
from zoo.collection.known import Contents
from zoo.collection.pipeline import Batch, Pipeline, Seen, Work, finite
from zoo.collection.store import (
    COLUMNS,
    LOCK,
    MEASURES,
    SMALL,
    WEIGHTS,
    Manifest,
    Shard,
    Store,
)
from zoo.errors import CollectionError, ImageError, InputError
from zoo.files import HALF_WRITTEN, path_text
from zoo.names import unpinned
from zoo.optional import optional
from zoo.otherkinds import names as other_kinds

if TYPE_CHECKING:
    from zoo.model import ZooModel

__all__ = ["Report", "update"]

_FOLDER = "local-dir:"
_MAY_BE_THERE = (LOCK, WEIGHTS, DECISIONS)
"""What a folder may have that a collection is made in: what was interrupted, what was decided."""
SECONDS = 30.0
"""What is under way is written after so long, also when a shard is not full."""

_Progress = Callable[[int, int], None]
Engine = Callable[[Store, np.ndarray], Callable[[Iterable[Entry]], Generator[Batch]]]
"""Of a store and the digests of the contents that it has, what looks at entries, in their order."""


@dataclass
class Report:
    """What an update found and did.

    ``listed`` files and members of archives are ``read`` or ``unread``. Of those that are read, the
    model saw those ``computed``; the others were known: ``kept`` where they were, ``moved``,
    ``copied``, or ``returned`` after they had been removed. ``removed`` is how many are gone.
    """

    listed: int = 0
    read: int = 0
    unread: int = 0
    computed: int = 0
    kept: int = 0
    moved: int = 0
    copied: int = 0
    returned: int = 0
    removed: int = 0
    seconds: float = 0.0
    linked: list[tuple[str, str]] = field(default_factory=list)
    """Further names of files, which are not listed again, and the name that is."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what was left out on purpose."""

    to_dict = asdict


def update(
    folder: Path,
    model: "ZooModel",
    sources: Sequence[str | Path] = (),
    *,
    progress: _Progress | None = None,
    weights: str | None = None,
    engine: Engine | None = None,
) -> Report:
    """Make the collection in ``folder``, or bring it up to date; the caller holds it.

    Args:
        model: with features. An old collection takes the one that it was made with, and no other.
        sources: folders, pictures, archives, addresses of stores; those of an old collection are
            looked at as well.
        progress: is told how many of how many files are done.
        weights: the folder within the collection that the model is from.
        engine: what looks at the pictures instead of this process; the same model.

    Raises:
        CollectionError: the collection is of another model, or ``folder`` is none and not empty.
        ImageError: a source is not there.
        OSError: the disk is full, or nothing can be written there.
    """
    begin = time.monotonic()
    named = _absolute(sources)
    if Store.exists(folder):
        store = Store.open(folder)
        refuse_another(store, model)
    else:
        if not named:
            raise InputError("name at least one folder or picture to index")
        store = _new(folder, model, weights)
    store.manifest.sources += [path for path in named if path not in store.manifest.sources]
    files = listed(store.manifest.sources, folder)
    report = _Update(store, model, files, progress, engine).run()
    report.seconds = time.monotonic() - begin
    return report


def refuse_another(store: Store, model: "ZooModel") -> None:
    """Raises: CollectionError: with another model, or of pictures that were prepared otherwise."""
    had, has = store.manifest.model, identity(model)
    # Of before a name with a prefix had its commit: the name alone.
    names = (has["name"], unpinned(has["name"]))
    same = had["sha256"] == has["sha256"] if had["sha256"] else had["name"] in names
    prepared, prepares = store.manifest.preprocessing, model.preprocessing.to_dict()
    if same and prepared != prepares:
        keys = {**prepared, **prepares}  # a few are only there where they are needed
        differs = [key for key in keys if prepared.get(key) != prepares.get(key)]
        raise CollectionError(
            f"{path_text(store.folder)} was made of pictures with {_told(prepared, differs)}, and "
            f"not with {_told(prepares, differs)}: their features cannot be compared. Choose "
            "another --out, or leave --fit and --background out"
        )
    computed = had.get("precision", "fp32")
    if same and computed != model._precision:
        raise CollectionError(
            f"{path_text(store.folder)} was computed in {computed}, and not in {model._precision}: "
            f"type model.prepare(precision={computed!r}), choose another folder, or name no model"
        )
    if not same:
        raise CollectionError(
            f"{path_text(store.folder)} was made with {had['name']}, and not with {has['name']}: "
            "features of two models cannot be compared. Choose another --out, or leave the name out"
        )


def _told(preprocessing: Mapping[str, Any], keys: Iterable[str]) -> str:
    return ", ".join(f"{key} {preprocessing[key]!s:.40}" for key in keys if key in preprocessing)


def identity(model: "ZooModel") -> dict[str, Any]:
    """Which model this is: its name as it was loaded, and the sha256 of its tensors if recorded."""
    from zoo.folder import read_config

    folder = None if model.source is None else model.source.folder
    name = model.name if model.source is None else model.source.name
    if name.startswith(_FOLDER):  # which has to mean the same wherever the next command is typed
        name = _FOLDER + os.path.abspath(name.removeprefix(_FOLDER))
    return {
        "name": name,
        "sha256": read_config(folder).sha256 if folder is not None else None,
    }


def refuse_foreign(folder: Path) -> None:
    """Raises: CollectionError: ``folder`` has files, but no collection: they are a user's."""
    if Store.exists(folder) or not folder.is_dir():
        return
    for name in sorted(os.listdir(folder)):
        if name not in _MAY_BE_THERE and not HALF_WRITTEN.fullmatch(name):
            raise CollectionError(
                f"{path_text(folder)} is no collection and not empty ({path_text(name)} is there): "
                "choose another --out, a new folder"
            )


def _absolute(sources: Sequence[str | Path]) -> list[str]:
    found = []
    for source in sources:
        if remote.is_address(source):
            found.append(remote.checked(source))
            remote.require(found[-1])
            continue
        if not os.path.exists(source):
            raise ImageError(f"{source}: there is no such file or folder")
        found.append(os.path.abspath(source))
    return found


def _new(folder: Path, model: "ZooModel", weights: str | None) -> Store:
    import torch

    refuse_foreign(folder)
    width = model.features(torch.zeros(1, *model.image_shape)).shape[1:].numel()
    facts = {**identity(model), "weights": weights, "features": width}
    if model._precision != "fp32":
        facts["precision"] = model._precision
    store = Store(folder, Manifest(facts, model.preprocessing.to_dict()))
    store.save()
    return store


def _key(source: int, name: str) -> bytes:
    """What a file's row is found by: sixteen bytes for its source and its path below that."""
    whole = b"%d\0" % source + os.fsencode(name)
    return hashlib.blake2b(whole, digest_size=16).digest()


class _Rows:
    """What is known of the rows of a collection before an update, a hundred bytes each."""

    def __init__(self, store: Store) -> None:
        count = len(store)
        self.keys = np.zeros(count, "S16")
        self.sizes, self.mtimes = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.removed, self.unread = np.zeros(count, bool), np.zeros(count, bool)
        self.hashed = np.zeros(count, bool)
        self.sources = np.zeros(count, np.int32)
        self.reasons: dict[int, str] = {}
        self.contents, self.unreadable = Contents(), Contents()
        for number, start in enumerate(store.starts()[:-1]):
            self._read(store.table(number, _KNOWN), start)
        self.order = np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self.order]

    def _read(self, table: Any, start: int) -> None:
        part = slice(start, start + len(table))
        columns = {name: table[name].to_pylist() for name in ("path", "raw", "member", "hash")}
        sources = table["source"].to_numpy()
        names = map(_file_name, columns["path"], columns["raw"], columns["member"])
        self.keys[part] = [_key(source, name) for source, name in zip(sources, names, strict=True)]
        self.sources[part] = sources
        held = table["container"].to_pylist()
        self.sizes[part] = [
            size if held is None else held
            for held, size in zip(held, table["bytes"].to_pylist(), strict=True)
        ]
        self.mtimes[part] = table["mtime"].to_numpy()
        self.removed[part] = table["removed"].to_pylist()
        for row, reason in enumerate(table["reason"].to_pylist(), start):
            if reason is not None:
                self.reasons[row], self.unread[row] = reason, True
        self.hashed[part] = [digest is not None for digest in columns["hash"]]
        digests = np.array([bytes.fromhex(digest or "") for digest in columns["hash"]], "S32")
        for unread, contents in ((False, self.contents), (True, self.unreadable)):
            which = self.hashed[part] & (self.unread[part] == unread)
            contents.add_many(digests[which], np.flatnonzero(which) + start)

    def __len__(self) -> int:
        return len(self.keys)

    def places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in ``order`` the rows of each file begin and end."""
        return (
            np.searchsorted(self._sorted, keys, "left"),
            np.searchsorted(self._sorted, keys, "right"),
        )

    def of_file(self, key: bytes) -> np.ndarray:
        """The rows of a file, whatever contents it had; of an archive, of all its members."""
        (first,), (last,) = self.places(np.array([key], "S16"))
        return self.order[first:last]


_KNOWN = (
    "path", "raw", "member", "source", "hash", "bytes", "container", "mtime", "reason", "removed",
)  # fmt: skip


def _file_name(path: str, raw: bytes | None, member: str | None) -> str:
    """A row's file, below its source."""
    if raw is not None:
        return os.fsdecode(raw)
    if member is None:
        return path
    return path.removesuffix(member).removesuffix("/")


class _Update:
    """One update under way."""

    def __init__(
        self,
        store: Store,
        model: "ZooModel",
        files: Files,
        progress: _Progress | None,
        engine: Engine | None,
    ) -> None:
        self.store, self.files = store, files
        self.progress = progress or (lambda done, total: None)
        self.report = Report(linked=files.linked, notes=files.notes)
        self.rows = _Rows(store)
        self.here = np.zeros(len(self.rows), bool)  # rows whose content was found
        self.waiting = np.zeros(len(self.rows), bool)  # rows of files that are not looked at yet
        self.known: set[bytes] = set()  # the keys of files to look at that have rows
        self.changes: dict[int, dict[str, Any]] = {}
        self.pending = _Pending(len(store))
        self.interrupted = store.manifest.settings.get("under_way")
        self.kinds = other_kinds()
        # A kind of pictures can be read since then: what could not be is looked at again.
        self.again = self.kinds != store.manifest.settings.get("kinds", self.kinds)
        self._facts = lru_cache(64)(self._facts_of)
        self._archive: tuple[bytes, dict[str, list[int]]] = b"", {}
        self.done = self.total = self.listed = 0
        work = Work(model.preprocessing, self.rows.contents.__contains__, measured=True)
        self.pipeline: Callable[[Iterable[Entry]], Generator[Batch]]
        if engine is None:
            self.pipeline = Pipeline(model.features, work)
        else:
            self.pipeline = engine(store, self.rows.contents.digests())

    def run(self) -> Report:
        changed, new = self._sort_out()
        self.total = len(changed) + len(new)
        self.progress(0, self.total)
        written = time.monotonic()
        with closing(self.pipeline(self._entries([*changed, *new]))) as batches:
            for batch in batches:
                self._take(batch)
                late = time.monotonic() - written > SECONDS
                if self.pending.full or late or len(self.changes) >= Store.shard_rows:
                    self._write()
                    written = time.monotonic()
                self.progress(self.done, self.total)
        self._write(ended=True)
        self.progress(self.total, self.total)
        self._note_what_is_away()
        self._count()
        return self.report

    # -- what has to be looked at ------------------------------------------------------------------

    def _sort_out(self) -> tuple[list[int], list[int]]:
        """The numbers of the files that changed and of those that are new; others are kept."""
        changed: list[int] = []
        new: list[int] = []
        keys = np.array([*map(_key, self.files.of.tolist(), self.files.names)], "S16")
        first, last = self.rows.places(keys)
        for i in self._not_simply_kept(first, last).tolist():
            rows = self.rows.order[first[i] : last[i]]
            kept = self._unchanged(i, rows)
            if kept is not None:
                for row in kept.tolist():
                    self._keep(row)
            else:
                self.waiting[rows] = True
                if len(rows):
                    self.known.add(_key(int(self.files.of[i]), self.files.names[i]))
                is_changed = len(rows) and not self.files.is_archive(i)
                (changed if is_changed else new).append(i)
        self.listed = int(self.here.sum())
        return changed, new

    def _not_simply_kept(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The files that need a closer look than that their one row has their size and time."""
        single = np.flatnonzero(last - first == 1)
        rows = self.rows.order[first[single]]
        kept = (
            (self.rows.sizes[rows] == self.files.sizes[single])
            & (self.rows.mtimes[rows] == self.files.mtimes[single])
            & ~(self.rows.removed[rows] | self.rows.unread[rows])
        )
        if self.interrupted is not None:
            kept[:] = False
        self.here[rows[kept]] = True
        self.report.kept += int(kept.sum())
        others = np.ones(len(self.files), bool)
        others[single[kept]] = False
        return np.flatnonzero(others)

    def _unchanged(self, i: int, rows: np.ndarray) -> np.ndarray | None:
        """The rows that hold of a file as it is; None if it has to be looked at."""
        if not len(rows):
            return None
        same = rows[
            (self.rows.sizes[rows] == self.files.sizes[i])
            & (self.rows.mtimes[rows] == self.files.mtimes[i])
        ]
        if self.files.is_archive(i):
            at = [int(self.files.of[i]), path_text(self.files.names[i])]
            again = self.again and self.rows.unread[same].any()
            return same if len(same) and at != self.interrupted and not again else None
        reason = self.files.reasons.get(i)
        for row in same[np.argsort(self.rows.removed[same], kind="stable")][:1]:
            row = int(row)
            if reason is not None or not self.rows.hashed[row]:
                fits = reason is not None and self.rows.reasons.get(row) == reason
            else:
                fits = not (self.again and self.rows.unread[row])
            return np.array([row]) if fits else None
        return None

    def _entries(self, numbers: Sequence[int]) -> Iterator[Entry]:
        for i in numbers:
            entry = self.files.entry(i)
            if self.files.is_archive(i):
                yield from members(entry, self.report.notes)
                self.done += 1
            else:
                yield entry

    # -- what was found ----------------------------------------------------------------------------

    def _take(self, batch: Batch) -> None:
        values = None if batch.values is None else finite(batch.values.numpy())
        place = 0
        for seen in batch.seen:
            vector = None
            if seen.decoded:
                assert values is not None
                vector = values[place]
                place += 1
                if not np.isfinite(vector).all():
                    seen.reason, vector = "the model has no finite features of it", None
            self._settle(seen, vector)
            self.done += not seen.entry.in_archive

    def _settle(self, seen: Seen, vector: np.ndarray | None) -> None:
        """Give an entry its row: an old one, or a new one."""
        self.listed += 1
        old = self._old_rows(seen.entry)
        if seen.hash is None:
            self._settle_unhashed(seen, old)
        else:
            contents = self.rows.unreadable if seen.reason else self.rows.contents
            digest = bytes.fromhex(seen.hash)
            same = contents.rows(digest)
            row = next((row for row in same if row in old), None)
            if row is not None:
                self._change(row, seen.entry)
                self._keep(row)
            elif free := [row for row in same if self._is_free(row)]:
                self._move(free[0], seen.entry)
            elif same and not seen.reason:
                self._append(seen, *self._copied(same[0], seen))
                self.report.copied += 1
            else:
                self._append(seen, vector, seen.small)
                self.report.computed += not seen.reason
        if not seen.entry.in_archive:
            self.waiting[old] = False

    def _settle_unhashed(self, seen: Seen, old: Sequence[int]) -> None:
        """Of a file whose bytes could not be read nothing is known but the reason."""
        row = next((row for row in old if not self.rows.hashed[row]), None)
        if row is None:
            self._append(seen, None, None)
        else:
            self._change(row, seen.entry)
            self._change_columns(row, reason=seen.reason, bytes=seen.entry.size)
            self._keep(row)

    def _old_rows(self, entry: Entry) -> list[int]:
        """The rows that the file, or the member of the archive, had before."""
        if not self.known or (key := _key(entry.source, entry.name)) not in self.known:
            return []
        rows: list[int] = self.rows.of_file(key).tolist()
        if not entry.in_archive:
            return rows
        if self._archive[0] != key:
            self._archive = key, self._members(rows)
        return self._archive[1].get(entry.member or "", [])

    def _members(self, rows: Sequence[int]) -> dict[str, list[int]]:
        """The rows of an archive by the names of its members."""
        found: dict[str, list[int]] = {}
        names = self.store.tables(("member",))["member"].take(np.asarray(rows))
        for row, name in zip(rows, names.to_pylist(), strict=True):
            found.setdefault(name or "", []).append(row)
        return found

    def _is_free(self, row: int) -> bool:
        """Whether the file of a row is gone, so that another may have its place."""
        return row < len(self.here) and not self.here[row] and not self.waiting[row]

    def _keep(self, row: int) -> None:
        if row >= len(self.here) or self.here[row]:
            return
        self.here[row] = True
        if self.rows.removed[row]:
            self._change_columns(row, removed=False)
        if not self.rows.unread[row]:
            self.report.returned += bool(self.rows.removed[row])
            self.report.kept += not self.rows.removed[row]

    def _move(self, row: int, entry: Entry) -> None:
        self._change(row, entry)
        self.here[row] = True
        if self.rows.removed[row]:
            self._change_columns(row, removed=False)
        if not self.rows.unread[row]:
            self.report.returned += bool(self.rows.removed[row])
            self.report.moved += not self.rows.removed[row]

    def _change(self, row: int, entry: Entry) -> None:
        """Note where the content of an old row lies now."""
        self._change_columns(row, **_of_file(entry))

    def _change_columns(self, row: int, **columns: Any) -> None:
        self.changes.setdefault(row, {}).update(columns)

    def _copied(self, row: int, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """What is known of a content out of a row that has it; features and small pixels."""
        if row >= len(self.store):
            return self.pending.copied(row, seen)
        number, at = divmod(row, Store.shard_rows)
        facts = self._facts(number)
        seen.width, seen.height, seen.orientation = (
            int(facts[name][at]) for name in ("width", "height", "orientation")
        )
        seen.measures = {name: float(facts[name][at]) for name in MEASURES}
        rows = np.array([row])
        return self.store.features(rows)[0], self.store.small(rows)[0]

    def _facts_of(self, number: int) -> dict[str, np.ndarray]:
        names = ("width", "height", "orientation", *MEASURES)
        table = self.store.table(number, names)
        return {name: table[name].fill_null(0).to_numpy() for name in names}

    def _append(self, seen: Seen, vector: np.ndarray | None, small: np.ndarray | None) -> None:
        row = self.pending.add(seen, vector, small)
        if seen.hash is not None:
            contents = self.rows.unreadable if seen.reason else self.rows.contents
            contents.add(bytes.fromhex(seen.hash), row)

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, ended: bool = False) -> None:
        """Write what changed, then what is new, then that it is there."""
        self._write_changes(ended)
        settings = self.store.manifest.settings
        settings["under_way"] = None if ended else self.pending.archive
        if ended:
            settings["kinds"] = self.kinds
        shard = self.pending.taken(self.store.width)
        if len(shard):
            self.store.append(shard)
        else:
            self.store.save()
        self._facts.cache_clear()

    def _write_changes(self, ended: bool) -> None:
        if ended:
            away = np.isin(self.rows.sources, self.files.away)
            gone = ~self.here & ~self.rows.removed & ~away
            self.report.removed = int((gone & ~self.rows.unread).sum())
            for row in np.flatnonzero(gone).tolist():
                self._change_columns(row, removed=True)
        by_shard: dict[int, list[int]] = {}
        for row in sorted(self.changes):
            by_shard.setdefault(row // Store.shard_rows, []).append(row)
        for number, rows in by_shard.items():
            self._rewrite(number, rows)
        self.changes = {}

    def _rewrite(self, number: int, rows: list[int]) -> None:
        arrow = optional("pyarrow", "pyarrow", "collection")
        table = self.store.table(number)
        changed = {name for row in rows for name in self.changes[row]}
        for name in changed:
            values = table[name].to_pylist()
            for row in rows:
                if name in self.changes[row]:
                    values[row - number * Store.shard_rows] = self.changes[row][name]
            kind = table.schema.field(name).type
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, arrow.array(values, kind))
        self.store.rewrite(number, table)

    # -- what is said ------------------------------------------------------------------------------

    def _note_what_is_away(self) -> None:
        for number in self.files.away:
            self.report.notes.append(
                f"{path_text(self.store.manifest.sources[number])} is not there: what is known of "
                "its pictures is kept"
            )

    def _count(self) -> None:
        report = self.report
        report.read = report.computed + report.kept + report.moved + report.copied + report.returned
        report.unread = int((self.here & self.rows.unread).sum()) + self.pending.unread
        report.listed = self.listed


class _Pending:
    """New rows that are not written yet."""

    def __init__(self, first: int) -> None:
        self.first = first  # the number of the first of them
        self.unread = 0  # of all that went through here
        self.archive: list[Any] | None = None  # that the last of them is of
        self._empty()

    def _empty(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.features: list[np.ndarray | None] = []
        self.small: list[np.ndarray | None] = []

    def __len__(self) -> int:
        return len(self.features)

    @property
    def full(self) -> bool:
        """Whether they end a shard."""
        return self.first % Store.shard_rows + len(self) >= Store.shard_rows

    def add(self, seen: Seen, vector: np.ndarray | None, small: np.ndarray | None) -> int:
        """Take a row, and give its number."""
        entry, measures = seen.entry, seen.measures or {}
        known = seen.hash is not None or entry.member is not None
        row = {
            **_of_file(entry), "hash": seen.hash, "reason": seen.reason or None, "removed": False,
            "bytes": seen.bytes if known else entry.size,
            **dict.fromkeys(("width", "height", "orientation")),
            **{name: measures.get(name) for name in MEASURES},
        }  # fmt: skip
        if vector is not None:
            row |= {name: getattr(seen, name) for name in ("width", "height", "orientation")}
        for name, values in self.columns.items():
            values.append(row[name])
        self.features.append(vector)
        self.small.append(small)
        self.unread += bool(seen.reason)
        self.archive = None if entry.member is None else [entry.source, path_text(entry.name)]
        return self.first + len(self) - 1

    def copied(self, row: int, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`_Update._copied`, of a row that is not written yet."""
        at = row - self.first
        for name in ("width", "height", "orientation"):
            setattr(seen, name, self.columns[name][at])
        seen.measures = {name: self.columns[name][at] for name in MEASURES}
        features, small = self.features[at], self.small[at]
        assert features is not None
        assert small is not None
        return features, small

    def taken(self, width: int) -> Shard:
        """All of them, to be written; none are left."""
        features = np.full((len(self), width), np.nan, np.float32)
        small = np.zeros((len(self), SMALL, SMALL, 3), np.uint8)
        for i, (vector, pixels) in enumerate(zip(self.features, self.small, strict=True)):
            if vector is not None and pixels is not None:
                features[i], small[i] = vector, pixels
        shard = Shard(self.columns, features, small)
        self.first += len(self)
        self._empty()
        return shard


def _of_file(entry: Entry) -> dict[str, Any]:
    """The columns that say where a content lies."""
    odd = path_text(entry.name) != entry.name
    facts: dict[str, Any] = {
        "path": entry.text,
        "raw": os.fsencode(entry.name) if odd else None,
        "member": entry.member,
        "source": entry.source,
        "container": None,
        "mtime": entry.mtime,
    }
    if entry.member is not None:
        facts["container"] = entry.size
    return facts
