"""What the sources of a collection hold: files, members of archives, rows of Parquet files.

Nothing is extracted, and no name within an archive is ever a path: it is text, to be shown.
"""

import contextlib
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.collection import remote
from zoo.collection.store import MANIFEST, Store, pictures_name
from zoo.errors import CollectionError, DataError, ImageError, MissingDependency
from zoo.files import below, path_text
from zoo.images import NO_PICTURE, why_not_opened
from zoo.listing import is_hidden, list_folder

__all__ = ["ARCHIVES", "Entry", "Files", "listed", "members", "read_bytes"]

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (*TARS, ".zip", ".parquet")
"""Endings of files that hold pictures."""
MOST = 1 << 30
"""Bytes: a larger member of an archive is no picture that anybody means."""
LARGEST = 1 << 28
"""Bytes of a picture in a store, which is held in memory: there is no file to read again."""
_HEADS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture to look at, or what lies in the place of one."""

    source: int
    """The number of the source."""
    name: str
    """The file's path below its source, with its odd bytes as surrogates; empty: the source."""
    path: str
    """Where the file can be opened."""
    size: int
    mtime: int
    member: str | None = None
    """Its name within an archive, or the row of a Parquet file."""
    data: bytes | None = None
    """Of a member: its bytes."""
    reason: str = ""
    """Why it cannot be read, where that is known without reading it."""

    @property
    def in_archive(self) -> bool:
        """Whether its file is an archive, of which it may be a member."""
        return _is_archive(self.path)

    @property
    def text(self) -> str:
        """Its path below its source, and its name within an archive, as text that a table holds."""
        parts = (path_text(self.name), self.member)
        return "/".join(part for part in parts if part)


@dataclass
class Files:
    """The files of all sources, each once: a hundred bytes a file."""

    sources: list[str]
    names: list[str] = field(default_factory=list)
    """Below their sources; empty for a source that is itself a file."""
    of: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """The number of each file's source."""
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    mtimes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    reasons: dict[int, str] = field(default_factory=dict)
    """By the number of a file: why it cannot be read."""
    linked: list[tuple[str, str]] = field(default_factory=list)
    """Further names of files that have several, and the name that is read."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what was left out on purpose."""
    away: list[int] = field(default_factory=list)
    """The numbers of sources that are not there."""

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> str:
        return below(self.sources[self.of[i]], self.names[i])

    def entry(self, i: int) -> Entry:
        return Entry(
            int(self.of[i]), self.names[i], self.path(i), int(self.sizes[i]), int(self.mtimes[i]),
            reason=self.reasons.get(i, ""),
        )  # fmt: skip

    def is_archive(self, i: int) -> bool:
        return i not in self.reasons and _is_archive(self.names[i] or self.sources[self.of[i]])


def listed(sources: Iterable[str], leave_out: Path | None = None) -> Files:
    """All files of the sources, in the order of the sources and of names.

    A file that has several names, by links, is there under the first. Hidden files, those of other
    programs, and collections are left out.

    Args:
        sources: absolute paths of folders and files, and addresses of stores.
        leave_out: the folder of the collection, which may lie in a source.

    Raises:
        ImageError: a folder cannot be listed.
        CollectionError: a store cannot be reached.
    """
    files = Files([*sources])
    facts: list[tuple[int, int, int, int]] = []
    for number, source in enumerate(files.sources):
        if remote.is_url(source):
            _take_remote(files, number, source, facts)
            continue
        if not os.path.exists(source):
            files.away.append(number)
            continue
        _take(files, number, source, leave_out, facts)
    _only_once(files, np.array(facts, np.int64).reshape(-1, 4))
    return files


def _take(files: Files, number: int, source: str, leave_out: Path | None, facts: list[Any]) -> None:
    """Add the files of one source."""
    names, skipped = [""], []
    if os.path.isdir(source):
        try:
            listing = list_folder(Path(source))
        except OSError as error:
            raise ImageError(f"{source}: the folder cannot be read: {error.strerror}") from None
        names = _without_collections(files, source, listing.names, leave_out)
        skipped = [(os.path.relpath(path, source), why) for path, why in listing.skipped]
        files.notes += listing.notes
    reasons = dict(skipped)
    for name in (*names, *reasons):
        size = mtime = device = inode = 0
        reason = reasons.get(name) or ""
        if not reason:
            try:
                found = os.stat(os.path.join(source, name) if name else source)
                size, mtime = found.st_size, found.st_mtime_ns
                device, inode = found.st_dev, found.st_ino
                reason = _why_not(source, name)
            except OSError as error:
                reason = f"cannot be read: {error.strerror}"
        if reason:
            files.reasons[len(files.names)] = reason
        files.names.append(name)
        facts.append((size, mtime, device, _signed(inode)))
    files.of = np.append(files.of, np.full(len(names) + len(reasons), number, np.int32))


def _take_remote(files: Files, number: int, source: str, facts: list[Any]) -> None:
    """Add what lies at an address of a store, of which no name is a path of this machine."""
    found = {name: (size, mtime) for name, size, mtime in remote.listed(source)}
    if not found:
        files.away.append(number)
        return
    seen = [name for name in found if not _is_hidden(name)]
    if len(seen) < len(found):
        files.notes.append(f"{len(found) - len(seen)} hidden or system files left out: {source}")
    names = _without_collections(files, source, remote.in_order(seen), None)
    for name in names:
        size, mtime = found[name]
        base = (name or source).rpartition("/")[2]
        reason = "" if _is_archive(base) else why_not_opened(base)
        if not reason and size > LARGEST and not _is_archive(base):
            reason = f"larger than {LARGEST:,} bytes, which is the most that is fetched"
        if reason:
            files.reasons[len(files.names)] = reason
        files.names.append(name)
        facts.append((size, mtime, 0, 0))
    files.of = np.append(files.of, np.full(len(names), number, np.int32))


def _is_hidden(name: str) -> bool:
    """Of a name in a store, where empty parts, a dot and two dots are names like others."""
    return any(is_hidden(part) for part in name.split("/") if part not in ("", ".", ".."))


def _signed(inode: int) -> int:
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def _only_once(files: Files, facts: np.ndarray) -> None:
    """Keep each file under its first name; some file systems number nothing."""
    files.sizes, files.mtimes = facts[:, 0].copy(), facts[:, 1].copy()
    order = np.lexsort((np.arange(len(facts)), facts[:, 3], facts[:, 2]))
    kept = np.ones(len(facts), bool)
    if len(order):
        same = (facts[order][1:, 2:] == facts[order][:-1, 2:]).all(1) & (facts[order][1:, 3] != 0)
        first = np.maximum.accumulate(np.where(np.r_[True, ~same], np.arange(len(order)), 0))
        for at in np.flatnonzero(np.r_[False, same]):
            again, before = int(order[at]), int(order[first[at]])
            kept[again] = False
            files.linked.append((files.path(again), files.path(before)))
    if kept.all():
        return
    files.linked.sort()
    numbers = np.flatnonzero(kept)
    files.reasons = {
        new: files.reasons[int(old)] for new, old in enumerate(numbers) if old in files.reasons
    }
    files.names = [files.names[i] for i in numbers]
    files.of, files.sizes, files.mtimes = (
        array[kept] for array in (files.of, files.sizes, files.mtimes)
    )


def _without_collections(
    files: Files, source: str, names: list[str], leave_out: Path | None
) -> list[str]:
    """The names that do not lie in the folder of a collection, of this one or another."""
    folders = {os.path.dirname(name) for name in names if os.path.basename(name) == MANIFEST}
    ours = {
        folder
        for folder in folders
        if _has(source, names, folder)
        or (leave_out is not None and _same(os.path.join(source, folder), leave_out))
    }
    if not ours:
        return names
    kept = [name for name in names if not any(_lies_in(name, folder) for folder in ours)]
    files.notes.append(
        f"{len(names) - len(kept)} files of collections left out: "
        + ", ".join(path_text(os.path.join(source, folder)) for folder in sorted(ours)[:3])
    )
    return kept


def _has(source: str, names: list[str], folder: str) -> bool:
    """Whether a folder with a manifest has the rows of a collection too."""
    rows = below(folder, pictures_name(0)) if folder else pictures_name(0)
    if remote.is_url(source):  # where a collection may be a folder's copy, or objects
        return any(name.startswith(rows) for name in names)
    return os.path.isfile(os.path.join(source, rows))


def _same(one: str, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _lies_in(name: str, folder: str) -> bool:
    return not folder or name.startswith(folder + os.sep)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVES)


def _why_not(source: str, name: str) -> str:
    """Why a file is not opened, by its name, or by how it begins if its name has no ending."""
    base = os.path.basename(name or source)
    if _is_archive(base):
        return ""
    reason = why_not_opened(base)
    if reason == NO_PICTURE and "." not in base:
        with contextlib.suppress(OSError), open(os.path.join(source, name), "rb") as file:
            head = file.read(16)
            if head.startswith(_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
                return ""
    return reason


# -- archives --------------------------------------------------------------------------------------


def members(archive: Entry, notes: list[str]) -> Iterator[Entry]:
    """The pictures in a file that holds some, one after the other; the last may be why it ended.

    Args:
        archive: whose ``path`` is a tar, zip or Parquet file.
        notes: gets a sentence on what was left out.
    """
    name = archive.path.lower()
    left_out = [0, 0]  # no pictures by their names; hidden, or links
    seen: dict[str, int] = {}
    found, reason = 0, ""
    try:
        if name.endswith(".parquet"):
            each = _rows(archive.path)
        elif name.endswith(".zip"):
            each = _zipped(archive.path, left_out)
        else:
            each = _tarred(archive.path, left_out)
        for member, data, why in each:
            found += 1
            yield _member(archive, _unique(member, seen), data, why)
    except (DataError, MissingDependency) as error:
        reason = str(error).removeprefix(f"{path_text(archive.path)} ").splitlines()[0]
    except Exception as error:
        if not (reason := _why_ended(archive, error)):
            raise
    if reason or not found:
        yield _member(archive, None, None, reason or "an archive without pictures")
    if any(left_out):
        notes.append(
            f"{path_text(archive.path)}: {left_out[0]} members are no pictures by their names, "
            f"{left_out[1]} are hidden or links"
        )


_DAMAGED = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, tarfile.TarError,
    zipfile.BadZipFile,
)  # fmt: skip


def _why_ended(archive: Entry, error: Exception) -> str:
    """Why an archive could not be read on; empty if that is a fault of this code."""
    if remote.is_url(archive.path) and (why := remote.why_unreachable(error)):
        return f"cannot be read: {why}"
    # zlib's and lzma's errors have no common kind.
    if isinstance(error, _DAMAGED) or type(error).__module__ in ("zlib", "_lzma", "lzma"):
        return f"a damaged archive: {' '.join(str(error).split()) or type(error).__name__}"
    return ""


def _member(archive: Entry, member: str | None, data: bytes | None, reason: str) -> Entry:
    return Entry(
        archive.source, archive.name, archive.path, archive.size, archive.mtime, member, data,
        reason,
    )  # fmt: skip


def _unique(member: str, seen: dict[str, int]) -> str:
    """The name of a member as text that no other member of its archive has."""
    text = path_text(member)
    count = seen[text] = seen.get(text, 0) + 1
    return text if count == 1 else f"{text} ({count})"


_Member = tuple[str, bytes | None, str]


def _wanted(name: str, left_out: list[int]) -> bool:
    parts = name.replace("\\", "/").split("/")
    if any(is_hidden(part) for part in parts if part not in ("", ".", "..")):
        left_out[1] += 1
        return False
    if why_not_opened(parts[-1]) == NO_PICTURE:
        left_out[0] += 1
        return False
    return True


def _read_member(name: str, size: int, file: BinaryIO | None) -> _Member:
    """A member's bytes, if its kind is read and it is of a size that pictures have."""
    if reason := why_not_opened(name.rpartition("/")[2]):
        return name, None, reason
    if file is None or size > MOST:
        return name, None, f"larger than {MOST:,} bytes"
    data = file.read(MOST + 1)  # what a header says of the size need not be so
    return (name, data, "") if len(data) <= MOST else (name, None, f"larger than {MOST:,} bytes")


def _stored(path: str) -> contextlib.AbstractContextManager[BinaryIO | None]:
    """A file of a store, to be read in parts; None for a path of this machine."""
    return remote.opened(path) if remote.is_url(path) else contextlib.nullcontext()


def _zipped(path: str, left_out: list[int]) -> Iterator[_Member]:
    with _stored(path) as file, zipfile.ZipFile(file or path) as archive:
        for info in archive.infolist():
            if info.is_dir() or not _wanted(info.filename, left_out):
                continue
            try:
                with archive.open(info) as inside:
                    yield _read_member(info.filename, info.file_size, inside)  # type: ignore[arg-type]
            except RuntimeError as error:  # encrypted
                yield info.filename, None, f"cannot be read: {error}"
            except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
                yield info.filename, None, f"a damaged member: {error}"
            except Exception as error:
                if type(error).__module__ not in ("zlib", "_lzma", "lzma"):
                    raise
                yield info.filename, None, f"a damaged member: {error}"


def _tarred(path: str, left_out: list[int]) -> Iterator[_Member]:
    with _stored(path) as file, tarfile.open(None if file else path, "r|*", file) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or it would keep all of them
            if info.isdir():
                continue
            if not info.isreg():
                left_out[1] += 1
            elif _wanted(info.name, left_out):
                yield _read_member(info.name, info.size, archive.extractfile(info))  # type: ignore[arg-type]


def _rows(path: str) -> Iterator[_Member]:
    from zoo.data.parquet import picture_rows

    with _stored(path) as file:
        for number, data in picture_rows(Path(path), file):
            yield f"row {number}", data, "" if data else "the row has no picture"


def read_bytes(store: Store, row: int) -> bytes:
    """The bytes of a picture of the collection, out of its file, archive or Parquet file.

    Raises:
        CollectionError: it is not there any more, or not what it was when it was indexed.
    """
    path, member = store.place(row)
    try:
        if member is None:
            return remote.read(path) if remote.is_url(path) else Path(path).read_bytes()
        archive = Entry(0, "", path, 0, 0)
        for entry in members(archive, []):
            if entry.member == member and entry.data is not None:
                return entry.data
    except OSError as error:
        raise CollectionError(
            f"{path_text(path)} cannot be read: {error.strerror}. Type: zoo index --out "
            f"{path_text(store.folder)}"
        ) from None
    raise CollectionError(
        f"{path_text(path)} has no {member} any more. Type: zoo index --out "
        f"{path_text(store.folder)}"
    )
