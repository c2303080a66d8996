"""What a person decided about pictures: names, merges, splits, "not a duplicate", "keep both".

Decisions are by content hash, so they outlive reruns, moved files and new groups. They are lines of
a file that is only ever appended to. A line has been acknowledged once it is on the disk; a line
that a kill or a full disk cut off is left out, counted, and never taken away or mended.
"""

import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import DataError, InputError
from zoo.installing import upgrade_command
from zoo.locks import holding

__all__ = [
    "DECISIONS",
    "KINDS",
    "Decision",
    "Decisions",
    "Read",
    "State",
    "fold",
    "joined",
    "regrouped",
    "valid_name",
]

DECISIONS = "decisions.jsonl"
"""The file of a collection's folder."""

KINDS = ("name", "unname", "merge", "split", "not_duplicate", "keep_both")
"""name: pictures, or a group as its members at that moment. unname: they have no name any more; of
a group, those that were named by themselves keep theirs. merge: they are one group. split: they are
a group of their own. not_duplicate: none of them is a copy of another. keep_both: they may all
stay (value false takes the last two back)."""
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 100
_JOINERS = (
    "\u200c\u200d"  # not seen, but Persian and the pictures of families are written with them
)
_MOST_PAIRED = 1000


class Decision(NamedTuple):
    """One thing that a person decided.

    Attributes:
        kind: one of :data:`KINDS`.
        hashes: of the pictures that it is about: hex sha256 of their files' bytes.
        value: the name; the number of the group that a merge or a split makes; False where
            ``not_duplicate`` or ``keep_both`` is taken back.
        group: the number of the group that was named or unnamed, if it was a group.
        time: when, in UTC as ISO 8601; filled in when it is appended.
    """

    kind: str
    hashes: tuple[str, ...]
    value: str | int | bool | None = None
    group: int | None = None
    time: str = ""

    def line(self) -> bytes:
        """This decision as a line of the file, without its end."""
        record: dict[str, Any] = {"kind": self.kind, "hashes": list(self.hashes)}
        record["value"] = self.value
        if self.group is not None:
            record["group"] = self.group
        record["time"] = self.time or datetime.now(UTC).isoformat(timespec="milliseconds")
        return json.dumps(record, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Read:
    """What a file of decisions holds.

    Attributes:
        decisions: in their order.
        torn: lines that were cut off, by a kill or a full disk.
        unknown: how many lines there are of each kind that this version does not know.
    """

    decisions: tuple[Decision, ...] = ()
    torn: int = 0
    unknown: dict[str, int] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What a person should be told of the file, one sentence each."""
        notes = []
        if self.torn:
            notes.append(
                f"{self.torn} line{'s' * (self.torn > 1)} of decisions.jsonl cannot be read (cut "
                "off by a kill or a full disk, or damaged) and had no effect; nothing was removed"
            )
        for kind, count in sorted(self.unknown.items()):
            notes.append(
                f"decisions.jsonl has {count} of the kind {kind!r:.60}, which this version of the "
                f"zoo does not know: kept, without effect here. Upgrade: {upgrade_command()}"
            )
        return notes


class Decisions:
    """A file of decisions, which is only ever appended to.

    Args:
        path: ``decisions.jsonl`` of a collection; made by the first decision.
    """

    def __init__(self, path: Path):
        self.path = path

    def append(
        self,
        kind: str,
        hashes: Iterable[str],
        value: str | int | bool | None = None,
        group: int | None = None,
    ) -> Decision:
        """Write a decision down; once this returns, it is on the disk.

        Raises:
            InputError: it is not one that :data:`KINDS` describes.
            OSError: it was not written, or only in part, which is as if it was not.
        """
        decision = Decision(kind, tuple(dict.fromkeys(hashes)), value, group)
        self.append_all([decision])
        return decision

    def append_all(self, decisions: Sequence[Decision]) -> None:
        """As :meth:`append`, of several that the disk is waited for only once."""
        for decision in decisions:
            if fault := _fault(decision):
                raise InputError(fault)
        data = b"".join(decision.line() + b"\n" for decision in decisions)
        file = self._opened(os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            with holding(self.path):  # between the look at its end and the end of the writing
                if not _ends_with_newline(file):
                    data = b"\n" + data
                _write(file, data)
                os.fsync(file)
        finally:
            os.close(file)
        _sync_folder(self.path.parent)

    def read(self) -> Read:
        """All decisions; a line that was cut off, or is of an unknown kind, is counted instead.

        Raises:
            DataError: something else than a file is in its place.
            OSError: it cannot be read.
        """
        try:
            file = self._opened(os.O_RDONLY)
        except FileNotFoundError:
            return Read()
        with open(file, "rb") as opened:
            return parse(opened.read().split(b"\n"))

    def state(self) -> "State":
        """What holds now, after all decisions."""
        return fold(self.read().decisions)

    def _opened(self, flags: int) -> int:
        """A descriptor of the file, which has to be an ordinary one: a pipe would be waited for.

        Raises: DataError, OSError.
        """
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0)
        file = os.open(self.path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise DataError(f"{self.path} should be a file of decisions and is none; move it away")
        return file


def parse(lines: Iterable[bytes]) -> Read:
    """The decisions that ``lines`` hold, however they got there."""
    decisions: list[Decision] = []
    torn, unknown = 0, Counter[str]()
    for line in lines:
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            torn += 1
        elif record["kind"] not in KINDS:
            unknown[record["kind"]] += 1
        elif (decision := _decision(record)) is None:
            torn += 1
        else:
            decisions.append(decision)
    return Read(tuple(decisions), torn, dict(unknown))


def joined(files: Iterable[Path]) -> tuple[list[bytes], int]:
    """The lines of several files in the order of their times, each once; and how many are torn.

    Lines of kinds that this version does not know are among them.
    """
    found: dict[bytes, str] = {}
    torn = 0
    for path in files:
        if not path.is_file():
            continue
        for line in path.read_bytes().split(b"\n"):
            record = _record(line)
            if record is None or (record["kind"] in KINDS and _decision(record) is None):
                torn += bool(line.strip())
            else:
                found.setdefault(line.strip(), str(record.get("time", "")))
    return sorted(found, key=found.__getitem__), torn


def _record(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line that has a kind; None for anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("kind"), str) else None


def _decision(record: dict[str, Any]) -> Decision | None:
    """The decision of a kind that is known; None if it does not describe one."""
    hashes, group, time = record.get("hashes"), record.get("group"), record.get("time")
    if not isinstance(hashes, list) or not all(isinstance(each, str) for each in hashes):
        return None
    decision = Decision(
        record["kind"],
        tuple(hashes),
        record.get("value"),
        group,
        time if isinstance(time, str) else "",
    )
    return None if _fault(decision) else decision


def _fault(decision: Decision) -> str:
    """Why a decision is none that :data:`KINDS` describes; empty if it is."""
    kind, hashes, value, group, _ = decision
    if kind not in KINDS:
        return f"expected a kind of decision ({', '.join(KINDS)}), got {kind!r:.60}"
    if not hashes:
        return f"a decision of the kind {kind} should be about at least one picture, got none"
    if kind == "not_duplicate" and not 2 <= len(hashes) <= _MOST_PAIRED:
        return f"expected 2 to {_MOST_PAIRED} pictures that are no duplicates, got {len(hashes)}"
    odd = [each for each in hashes if not _HASH.fullmatch(each)]
    if odd:
        return f"expected the sha256 of a picture's file, 64 hex digits, got {odd[0]!r:.80}"
    if group is not None and not _is_number(group):
        return f"expected the number of a group, got {group!r:.60}"
    fits = {
        "name": isinstance(value, str) and _is_name(value),
        "unname": value is None,
        "merge": value is None or _is_number(value),
        "split": value is None or _is_number(value),
    }.get(kind, value is None or isinstance(value, bool))
    return "" if fits else f"a decision of the kind {kind} cannot have the value {value!r:.60}"


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_name(text: str) -> bool:
    return text == _plain(text) and 0 < len(text) <= _LONGEST_NAME


def _plain(text: str) -> str:
    """``text`` in one line, in the usual form of its letters, without what cannot be seen."""
    spaced = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    seen = "".join(c for c in spaced if c.isprintable() or c in _JOINERS)
    return " ".join(seen.split()).strip(_JOINERS)


def valid_name(text: str) -> str:
    """``text`` as a name of pictures: the same name however its spaces and accents were typed.

    Raises:
        InputError: nothing is left of it, or it is too long.
    """
    name = _plain(text)
    if not name:
        raise InputError(f"a name should have at least one letter or digit, got {text!r:.60}")
    if len(name) > _LONGEST_NAME:
        raise InputError(
            f"a name can have {_LONGEST_NAME} characters, {name[:30]!r}... has {len(name)}; choose "
            "a shorter one"
        )
    return name


def _ends_with_newline(file: int) -> bool:
    """Whether the file is empty or its last line is whole."""
    return not (size := os.lseek(file, 0, os.SEEK_END)) or _byte(file, size - 1) == b"\n"


def _byte(file: int, at: int) -> bytes:
    os.lseek(file, at, os.SEEK_SET)  # appending goes to the end all the same
    return os.read(file, 1)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk once its folder is; not all systems can be told."""
    try:
        file = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(file)
    except OSError:
        pass
    finally:
        os.close(file)


# -- what holds ----------------------------------------------------------------------------------


class Edit(NamedTuple):
    """A merge or a split: pictures that are one group, and its number if that is free."""

    kind: str
    hashes: frozenset[str]
    number: int | None


@dataclass(frozen=True)
class State:
    """What holds after all decisions.

    Attributes:
        pictures: the names that a person gave to pictures one by one, by hash. Nothing changes
            them but the person.
        members: the names that pictures have as members of a group that was named, by hash.
        spans: how many members that group had.
        edits: merges and splits, in their order.
        not_duplicates: pairs of hashes, each in order, that are no copies of one another.
        keep_both: sets of hashes, each in order, that may all stay.
    """

    pictures: dict[str, str] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    spans: dict[str, int] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    not_duplicates: frozenset[tuple[str, str]] = frozenset()
    keep_both: frozenset[tuple[str, ...]] = frozenset()

    @property
    def names(self) -> list[str]:
        """Every name that is in use, in the order of the alphabet."""
        return sorted({*self.pictures.values(), *self.members.values()})

    def are_apart(self, first: str, second: str) -> bool:
        """Whether a person said that two pictures are no copies of one another."""
        return (min(first, second), max(first, second)) in self.not_duplicates

    def are_kept(self, hashes: Iterable[str]) -> bool:
        """Whether a person said that all of these may stay."""
        wanted = set(hashes)
        return any(wanted <= set(kept) for kept in self.keep_both)


def fold(decisions: Iterable[Decision]) -> State:
    """What holds after ``decisions``: of two that cannot both hold, the later one.

    A name that was given to a picture by itself outlasts those that its groups get.
    """
    pictures: dict[str, str] = {}
    members: dict[str, str] = {}
    spans: dict[str, int] = {}
    edits: list[Edit] = []
    apart: dict[tuple[str, str], bool] = {}
    kept: dict[tuple[str, ...], bool] = {}
    for kind, hashes, value, group, _ in decisions:
        if kind == "name":
            (pictures if group is None else members).update(dict.fromkeys(hashes, str(value)))
            if group is not None:
                spans.update(dict.fromkeys(hashes, len(hashes)))
        elif kind == "unname":
            for each in hashes:
                if group is None:
                    pictures.pop(each, None)
                members.pop(each, None)
                spans.pop(each, None)
        elif kind in ("merge", "split"):
            edits.append(Edit(kind, frozenset(hashes), None if value is None else int(value)))
        elif kind == "not_duplicate":
            apart.update(dict.fromkeys(combinations(sorted(set(hashes)), 2), value is not False))
        elif kind == "keep_both":
            kept[tuple(sorted(set(hashes)))] = value is not False
    return State(
        pictures,
        members,
        spans,
        tuple(edits),
        frozenset(pair for pair, holds in apart.items() if holds),
        frozenset(several for several, holds in kept.items() if holds),
    )


def regrouped(labels: np.ndarray, hashes: Sequence[str], edits: Iterable[Edit]) -> np.ndarray:
    """The groups as a person changed them; ``labels`` stay as they are.

    Pictures that were merged are in one group, and so is each group that they are most of: what
    has joined it since comes along. Pictures that were split off are a group of their own. A later
    decision goes before an earlier one.

    Args:
        labels: the number of each picture's group, -1 for none.
        hashes: of the pictures, in their order.
    """
    labels = np.array(labels, dtype=np.int32)
    names = np.asarray(hashes)
    for edit in edits:
        chosen = np.isin(names, list(edit.hashes))
        if not chosen.any():
            continue
        if edit.kind == "split":
            labels[chosen] = _free_number(labels[~chosen], edit.number)
        else:
            _merge(labels, chosen, edit.number)
    return labels


def _merge(labels: np.ndarray, chosen: np.ndarray, number: int | None) -> None:
    """Make one group of the pictures that are ``chosen``, and of the groups they are most of."""
    present, shares = np.unique(labels[chosen], return_counts=True)
    sizes = np.array([(labels == group).sum() for group in present])
    joined = present[(2 * shares > sizes) & (present >= 0)]
    whole = chosen | np.isin(labels, joined)
    if number not in joined:
        largest = joined[np.argmax(sizes[np.isin(present, joined)])] if joined.size else None
        number = int(largest) if largest is not None else _free_number(labels[~whole], number)
    labels[whole] = number


def _free_number(others: np.ndarray, wanted: int | None) -> int:
    """``wanted``, unless another group has that number; then the first behind all others."""
    if wanted is not None and not (others == wanted).any():
        return wanted
    return int(others.max(initial=-1)) + 1
