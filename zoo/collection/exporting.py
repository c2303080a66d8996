"""What leaves a collection: tables, arrays, folders of links, and moves that can be undone.

Pictures are never changed, and nothing that is there already is overwritten: links go into a new
folder, and a move takes only what a plan lists that a person has seen, and logs each step.
"""

import contextlib
import csv
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.collection.remote import is_url
from zoo.collection.store import Pictures
from zoo.errors import CollectionError, InputError
from zoo.files import new_folder, path_text, replacing, write_json
from zoo.optional import optional

if TYPE_CHECKING:
    from zoo.collection.duplicates import Duplicates
    from zoo.collection.opened import Opened

__all__ = [
    "COLUMNS",
    "HOW",
    "Facts",
    "Moved",
    "Place",
    "Plan",
    "arranged",
    "columns",
    "facts_of",
    "link",
    "move",
    "plan",
    "safe_name",
    "undo",
    "write_arrays",
    "write_csv",
    "write_parquet",
]

COLUMNS = (
    "path", "hash", "group", "sureness", "name", "probability", "odd", "same_file",
    "same_picture", "unread",
)  # fmt: skip
"""Of a table; a column for each other layer of groups comes after ``group``."""
FEW = -1
"""The number of the group of those that are few of a kind."""


@dataclass(frozen=True)
class Facts:
    """What is known of the pictures of a collection, each known by its position.

    Attributes:
        layers: number of each picture's group, by the layer's name; ``FEW`` is "few of a kind".
        default: the layer that the column ``group`` has.
        sureness: of the default layer.
        names: empty for none.
        probabilities: of the names, NaN for none.
        odd: the higher, the stranger.
        same_file: the number of the set of copies, 0 for none; ``same_picture`` the same.
        extra: copies that are not the one to keep of their set, nor said to be kept.
        unread: path and reason of the files that could not be read.
    """

    pictures: Pictures
    layers: dict[str, np.ndarray] = field(default_factory=dict)
    default: str = "middle"
    sureness: np.ndarray | None = None
    names: Sequence[str] = ()
    probabilities: np.ndarray | None = None
    odd: np.ndarray | None = None
    same_file: np.ndarray | None = None
    same_picture: np.ndarray | None = None
    extra: frozenset[int] = frozenset()
    unread: Sequence[tuple[str, str]] = ()


def facts_of(opened: "Opened", found: "Duplicates | None" = None) -> Facts:
    """What is known of an opened collection, and of its duplicates if they were looked for."""
    from zoo.collection.duplicates import numbered

    naming, layers = opened.naming, opened.layers
    count = len(opened.pictures)
    return Facts(
        opened.pictures,
        {layer.name: layer.labels for layer in layers},
        layers[0].name if layers else Facts.default,
        layers[0].sureness if layers else None,
        [naming.of(i) or "" for i in range(count)],
        np.where(naming.named, naming.probability, np.nan),
        opened.odd.scores,
        numbered(found.same_file, count) if found else None,
        numbered(found.same_picture, count) if found else None,
        found.extra() if found else frozenset(),
        opened.store.unread(),
    )


# -- tables --------------------------------------------------------------------------------------


def columns(facts: Facts) -> dict[str, list[Any]]:
    """A table's columns: a row a picture, then one for each file that could not be read.

    None is "not known", or "none".
    """
    count = len(facts.pictures)
    gone = [None] * len(facts.unread)
    others = [name for name in facts.layers if name != facts.default]
    known: dict[str, list[Any]] = {
        "path": list(map(path_text, facts.pictures.paths)),
        "hash": list(facts.pictures.hashes),
        "group": _numbers(facts.layers.get(facts.default), count),
        **{name: _numbers(facts.layers[name], count) for name in others},
        "sureness": _numbers(facts.sureness, count),
        "name": [name or None for name in facts.names] or [None] * count,
        "probability": _numbers(facts.probabilities, count),
        "odd": _numbers(facts.odd, count),
        "same_file": _numbers(facts.same_file, count, none=0),
        "same_picture": _numbers(facts.same_picture, count, none=0),
        "unread": [None] * count,
    }
    table = {name: values + gone for name, values in known.items()}
    table["path"][count:] = [path_text(path) for path, _ in facts.unread]
    table["unread"][count:] = [reason for _, reason in facts.unread]
    return table


def _numbers(values: np.ndarray | None, count: int, none: int | None = None) -> list[Any]:
    if values is None:
        return [None] * count
    return [None if each == none or each != each else each for each in values.tolist()]


def write_csv(out: Path, table: dict[str, list[Any]]) -> None:
    """The table as CSV in UTF-8, which spreadsheets open without running anything in it."""
    with replacing(out) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\r\n")  # so that \r is quoted too
        writer.writerow(table)
        writer.writerows([_cell(each) for each in row] for row in zip(*table.values(), strict=True))
        text.detach()  # and so it is flushed; the file is still to be put in place


def _cell(value: Any) -> Any:
    """A cell; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, str):
        return "'" + value if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    return round(value, 6) if isinstance(value, float) else value


def write_parquet(
    out: Path, table: dict[str, list[Any]], features: Iterable[np.ndarray] | None = None
) -> None:
    """The table as Parquet; with the column ``features``, a list of float32, if they are given.

    Args:
        features: of the pictures, in parts. Rows without have none.
    """
    arrow = optional("pyarrow", "pyarrow", "collection")
    parquet = optional("pyarrow.parquet", "pyarrow", "collection")
    kinds = {name: arrow.string() for name in ("path", "hash", "name", "unread")}
    kinds |= {name: arrow.float32() for name in ("sureness", "probability", "odd")}
    columns = {
        name: arrow.array(values, kinds.get(name, arrow.int64())) for name, values in table.items()
    }
    whole = arrow.table(columns)
    with replacing(out) as file:
        if features is None:
            parquet.write_table(whole, file, compression="zstd")
            return
        writer, begin = None, 0
        try:
            for part in _all_rows(features, len(whole)):
                vectors = _vectors(arrow, part)
                rows = whole.slice(begin, len(part)).append_column("features", vectors)
                begin += len(part)
                writer = writer or parquet.ParquetWriter(file, rows.schema, compression="zstd")
                writer.write_table(rows)
        finally:
            if writer is not None:
                writer.close()


def _all_rows(features: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The parts, and rows of NaN for what is in the table without features."""
    width, done = 0, 0
    for part in features:
        width, done = part.shape[1], done + len(part)
        yield part
    if done < count:
        yield np.full((count - done, width), np.nan, np.float32)


def _vectors(arrow: Any, part: np.ndarray) -> Any:
    """Rows as lists; None where they are NaN."""
    there = ~np.isnan(part).any(1)
    starts = np.concatenate([[0], np.cumsum(there)]) * part.shape[1]
    offsets = arrow.array(starts.astype(np.int32), mask=np.append(~there, False))
    values = arrow.array(part[there].astype(np.float32).ravel())
    return arrow.ListArray.from_arrays(offsets, values)


def write_arrays(out: Path, facts: Facts, features: np.ndarray) -> None:
    """Arrays for scikit-learn as .npz without pickle: ``X``, and what is known of each row."""
    count = len(facts.pictures)
    arrays: dict[str, Any] = {
        "X": features.astype(np.float32, copy=False),
        "paths": np.array(list(map(path_text, facts.pictures.paths)), dtype=np.str_),
        "hashes": np.array(facts.pictures.hashes, dtype=np.str_),
        "names": np.array(facts.names or [""] * count, dtype=np.str_),
    }
    arrays |= {f"group_{name}": labels for name, labels in facts.layers.items()}
    with replacing(out) as file:
        np.savez(file, allow_pickle=False, **arrays)


# -- names of files and folders ------------------------------------------------------------------

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_LONGEST = 200


def safe_name(text: str) -> str:
    """``text`` as a name that any system takes, Windows too; other names stay as they are."""
    name = _FORBIDDEN.sub("_", path_text(text)).rstrip(" .")
    while len(name.encode()) > _LONGEST:
        stem, suffix = os.path.splitext(name)
        name = stem[:-1] + suffix if stem and len(suffix) < 20 else name[:-1]
    if not name:
        return "_"
    return f"_{name}" if _RESERVED.fullmatch(name) else name


class _Names:
    """Names that are all different, also where case and the form of accents make no difference."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def new(self, name: str) -> str:
        """``name``, or with a number behind it."""
        wanted, (stem, suffix) = name, os.path.splitext(name)
        number = self._next.get(_folded(name), 1)
        while _folded(wanted) in self._taken:
            number += 1
            wanted = f"{stem} ({number}){suffix}"
        self._next[_folded(name)] = number
        self._taken.add(_folded(wanted))
        return wanted


def _folded(name: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFKC", name).casefold()


class Place(NamedTuple):
    """Where a picture goes: its position, and the name of the folder and of the file there."""

    picture: int
    folder: str
    name: str


def arranged(facts: Facts, by: str = "name", only: Iterable[int] | None = None) -> list[Place]:
    """A folder for each name or group, and a place there for each picture.

    Args:
        by: "name", where those without one get "unnamed"; or "group".
        only: positions of the pictures to take; all by default.
    """
    folders, names_of, made = _Names(), {}, {}
    places = []
    for i in range(len(facts.pictures)) if only is None else sorted(only):
        wanted = _folder_of(facts, by, i)
        if wanted not in made:
            made[wanted] = folders.new(safe_name(wanted))
            names_of[wanted] = _Names()
        name = names_of[wanted].new(safe_name(_base(facts.pictures, i)))
        places.append(Place(i, made[wanted], name))
    return places


def _folder_of(facts: Facts, by: str, i: int) -> str:
    if by == "name":
        return (facts.names[i] if len(facts.names) else "") or "unnamed"
    labels = facts.layers.get(facts.default)
    if labels is None:
        raise InputError("the collection has no groups yet. Type: zoo group FOLDER")
    return "few of a kind" if labels[i] == FEW else f"group {labels[i]}"


def _base(pictures: Pictures, i: int) -> str:
    """The name of a file; of a row of a Parquet file, the file's and the row's."""
    path, member = pictures.paths[i], pictures.members[i]
    if member is not None and member.startswith("row "):
        return f"{Path(path.removesuffix(f'/{member}')).stem} {member}"
    return re.split(r"[/\\]" if os.name == "nt" else "/", path.rstrip("/"))[-1]


# -- links ---------------------------------------------------------------------------------------

HOW = ("symlink", "hardlink", "copy")


def link(
    pictures: Pictures,
    places: Sequence[Place],
    out: Path,
    how: str = "symlink",
    read: Callable[[int], bytes] | None = None,
) -> list[tuple[str, str]]:
    """Make ``out``, which must not be there, with a link or a copy at each place.

    Args:
        read: the bytes of a picture by position, for what lies in an archive: it is copied, since
            nothing can lead to it.

    Returns:
        What was left out, and why.
    """
    if out.is_symlink() or out.exists():
        raise InputError(f"{out} is there already; links go into a new folder. Choose another")
    left_out = []
    with new_folder(out) as temporary:
        for picture, folder, name in places:
            target = temporary / folder / name
            target.parent.mkdir(exist_ok=True)
            try:
                _put(pictures, picture, target, how, read)
            except (OSError, CollectionError) as error:
                if isinstance(error, OSError) and error.errno in _FOR_ALL:
                    raise
                left_out.append((pictures.paths[picture], _reason(error, how)))
    return left_out


_FOR_ALL = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


def _put(
    pictures: Pictures,
    picture: int,
    target: Path,
    how: str,
    read: Callable[[int], bytes] | None,
) -> None:
    path = os.path.abspath(pictures.paths[picture])
    if pictures.members[picture] is not None or is_url(pictures.paths[picture]):
        if read is None:
            raise CollectionError("it lies in an archive or a store")
        target.write_bytes(read(picture))
    elif how == "symlink":
        os.stat(path)  # no link that leads nowhere
        os.symlink(path, target)
    elif how == "hardlink":
        os.link(os.path.realpath(path), target)
    else:
        shutil.copy2(path, target)


def _reason(error: Exception, how: str) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.EXDEV:
            return "it is on another file system, where no hard link leads: take --as copy"
        text = error.strerror or str(error)
        return text if how == "copy" else f"{text} (if links are not allowed here: --as copy)"
    return str(error)


# -- moves ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a move would do: from where to where, and how each file was when it was planned.

    Attributes:
        out: the folder that the pictures are moved to.
        steps: ``from``, ``to``, ``bytes`` and ``mtime`` (ns) of each.
        left_out: what cannot be moved, and why.
    """

    out: str
    steps: list[dict[str, Any]]
    left_out: list[tuple[str, str]]

    FILE = "move-plan.json"

    def save(self, folder: Path) -> Path:
        """Into a collection's folder."""
        value = {"out": self.out, "steps": self.steps, "left_out": self.left_out}
        write_json(folder / self.FILE, value)
        return folder / self.FILE

    @classmethod
    def load(cls, folder: Path) -> "Plan | None":
        """The plan of the last dry run; None if there is none that can be read."""
        try:
            value = json.loads((folder / cls.FILE).read_bytes())
            steps = [dict(step) for step in value["steps"]]
            if not all({"from", "to", "bytes", "mtime"} <= step.keys() for step in steps):
                return None
            return cls(str(value["out"]), steps, [(a, b) for a, b in value["left_out"]])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def plan(pictures: Pictures, places: Sequence[Place], out: Path) -> Plan:
    """What moving each picture to its place under ``out`` would do; nothing is touched."""
    steps: list[dict[str, Any]] = []
    left_out = []
    for picture, folder, name in places:
        path, target = os.path.abspath(pictures.paths[picture]), out / folder / name
        if why := _immovable(pictures, picture, path, target):
            left_out.append((pictures.paths[picture], why))
            continue
        found = os.lstat(path)
        steps.append(
            {
                "from": path, "to": os.path.abspath(target), "bytes": found.st_size,
                "mtime": found.st_mtime_ns,
            }
        )  # fmt: skip
    return Plan(os.path.abspath(out), steps, left_out)


def _immovable(pictures: Pictures, picture: int, path: str, target: Path) -> str:
    if is_url(pictures.paths[picture]):
        return "it lies in a store"
    if pictures.members[picture] is not None:
        return "it lies in an archive"
    try:
        found = os.lstat(path)
    except OSError as error:
        return error.strerror or str(error)
    if os.path.islink(path):
        return "it is a link"
    if found.st_size != pictures.bytes[picture] or found.st_mtime_ns != pictures.mtimes[picture]:
        return "it was changed since the collection was made: zoo index --out FOLDER"
    if os.path.lexists(target):
        return f"{path_text(target)} is there already"
    return ""


class Moved(NamedTuple):
    """What a move did: how many files, those left out and why, and the log that undoes it."""

    moved: int
    left_out: list[tuple[str, str]]
    log: Path


def move(planned: Plan, log: Path) -> Moved:
    """Do what was planned, of the files that are as they were then; nothing is overwritten.

    Args:
        log: a new file. Each step is written there, and is on the disk, before it is done.
    """
    moved, left_out = 0, []
    with log.open("x", encoding="ascii") as file:
        for step in planned.steps:
            if why := _changed(step):
                left_out.append((step["from"], why))
                continue
            made = _missing(os.path.dirname(step["to"]))
            line = {"from": step["from"], "to": step["to"], "made": made}
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
            try:
                os.makedirs(os.path.dirname(step["to"]), exist_ok=True)
                _move(step["from"], step["to"])
                moved += 1
            except OSError as error:
                if error.errno in _FOR_ALL:
                    raise
                left_out.append((step["from"], error.strerror or str(error)))
    return Moved(moved, left_out, log)


def _missing(folder: str) -> list[str]:
    """The folders that making ``folder`` makes, the innermost first."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing


def _changed(step: dict[str, Any]) -> str:
    try:
        found = os.lstat(step["from"])
    except OSError as error:
        return error.strerror or str(error)
    if (found.st_size, found.st_mtime_ns) != (step["bytes"], step["mtime"]):
        return "it was changed since the dry run"
    return f"{path_text(step['to'])} is there already" if os.path.lexists(step["to"]) else ""


def _move(old: str, new: str) -> None:
    """Move a file to where none is. Raises: OSError, of which FileExistsError."""
    try:
        os.link(old, new, follow_symlinks=False)  # in one step, and never over another file
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # another file system, or one without links
        _copy(old, new)
    os.unlink(old)


def _copy(old: str, new: str) -> None:
    """A whole copy with its times at ``new``, where nothing is."""
    with open(old, "rb") as source, open(new, "xb") as target:
        try:  # from here on the file at the new place is ours
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
            shutil.copystat(old, new)
            if os.path.getsize(old) != os.path.getsize(new):
                raise OSError(errno.EIO, "the copy is not whole")
        except BaseException:
            os.unlink(new)
            raise


def undo(log: Path) -> Moved:
    """Move back what a log says was moved, the last first; nothing is overwritten.

    The log stays. Folders that the move made, and that are empty again, are removed.

    Raises:
        InputError: it is no such log.
    """
    moved, left_out = 0, []
    steps = _steps(log)
    for step in reversed(steps):
        old, new = step["from"], step["to"]
        if not os.path.lexists(new):  # the step was not done, or is undone already
            continue
        try:
            if os.path.lexists(old) and os.path.samefile(old, new):
                os.unlink(new)  # the move was killed when the file had both names
            else:
                os.makedirs(os.path.dirname(old), exist_ok=True)
                _move(new, old)
            moved += 1
        except FileExistsError:
            left_out.append((new, f"{path_text(old)} is there again"))
        except OSError as error:
            left_out.append((new, error.strerror or str(error)))
    for step in reversed(steps):
        for folder in step["made"]:
            with contextlib.suppress(OSError):  # something else lies in it
                os.rmdir(folder)
    return Moved(moved, left_out, log)


def _steps(log: Path) -> list[dict[str, Any]]:
    lines = log.read_bytes().split(b"\n")
    steps = []
    for number, line in enumerate(lines, 1):
        if not line or number == len(lines):  # a last line that was cut off was not done
            continue
        try:
            step = json.loads(line)
            made = [str(folder) for folder in step["made"]]
            steps.append({"from": str(step["from"]), "to": str(step["to"]), "made": made})
        except (ValueError, KeyError, TypeError):
            raise InputError(f"line {number} of {log} is not of a log of moves") from None
    return steps
