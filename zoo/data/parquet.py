"""Parquet files with a column of pictures, as the Hub's data sets ship them."""

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from zoo.data.shards import Shards
from zoo.data.source import UNKNOWN, Part, Source, key_of, to_labels
from zoo.errors import DataError, MissingDependency
from zoo.files import path_text, refuse_placeholder
from zoo.images import chunk_size, decode_many
from zoo.optional import optional
from zoo.spec import Preprocessing

# A file, the number of its first row here, its pictures, its labels or why they cannot be used.
_Rows = tuple[Path, int, list[bytes | None], list[int] | str]
AT_ONCE = 16
"""Rows of which the pictures' bytes are read at once, where not all of them are wanted."""


def open_parquet(
    path: Path,
    files: list[Path],
    split: str,
    preprocessing: Preprocessing,
    asked: list[str],
    notes: list[str],
    unread: list[tuple[Path, str]],
) -> Source:
    """A source of Parquet files, which are read in row groups.

    Args:
        asked: the columns of pictures and labels that a user named, if any.
        notes: for the user, on the choice of files.
        unread: what in ``path`` could not be listed, and why.
    """
    arrow = optional("pyarrow", "pyarrow", "train")
    columns, groups = [], []
    for number, file in enumerate(files):
        table = _opened(file)  # one at a time: there may be thousands
        columns.append(choose_columns(path, file, table, asked))
        groups += _groups(arrow, number, file, table)
    first = columns[0]
    for file, other in zip(files, columns, strict=True):
        if other.picture != first.picture:
            raise DataError(
                f"{files[0]} has its pictures in the column {first.picture}, {file} in "
                f"{other.picture}: they are not of one data set. Name one, or the folder of one"
            )
    without = [f for f, other in zip(files, columns, strict=True) if other.label != first.label]
    labelled = first.label is not None and not without
    notes = [*notes, *first.notes]
    if without:
        notes.append(f"the labels are left out: {without[0]} has others than {files[0]}")

    def rows() -> Iterator[_Rows]:
        picture, label = first.picture, first.label
        for file in files:
            wanted = [picture, label] if labelled else [picture]
            batches = _opened(file).iter_batches(chunk_size(preprocessing), columns=wanted)
            start = 0
            while batch := _with_arrow(arrow, file, partial(next, batches, None)):
                pictures = _pictures(arrow, file, batch.column(picture))
                labels: list[int] | str = []
                if labelled and label is not None:
                    labels = _labels(arrow, file, label, batch.column(label))
                yield file, start, pictures, labels
                start += len(pictures)

    def parts() -> Iterator[Part]:
        shape = (0, preprocessing.channels, preprocessing.height, preprocessing.width)
        yield Part(torch.empty(shape, dtype=torch.uint8), [], unread)
        under_way: deque[_Rows] = deque()

        def chunks() -> Iterator[list[bytes]]:
            for row in rows():
                under_way.append(row)
                yield [picture or b"" for picture in row[2]]

        for images, reasons in decode_many(chunks(), preprocessing):
            file, start, pictures, labels = under_way.popleft()
            skipped = [
                (file / f"row {start + i}", why if pictures[i] else "the row has no picture")
                for i, why in enumerate(reasons)
                if why
            ]
            if not isinstance(labels, str):
                labels = [label for label, why in zip(labels, reasons, strict=False) if not why]
            yield Part(images, labels, skipped)

    return Source(
        name=path.resolve().stem,
        path=path,
        split=split,
        most=sum(group.rows for group in groups),
        shape=(preprocessing.channels, preprocessing.height, preprocessing.width),
        key=f"{key_of(files)} {first.picture} {first.label if labelled else None}",
        parts=parts,
        classes=first.classes if labelled else (),
        notes=notes,
        shards=_shards(files, groups, first.picture, first.label if labelled else None),
        unread=unread,
    )


class _Group(NamedTuple):
    """A row group: the number of its file, its own in the file, its rows and bytes."""

    file: int
    number: int
    first: int  # the number of its first row in the file
    rows: int
    bytes: int


def _groups(arrow: Any, number: int, file: Path, table: Any) -> list[_Group]:
    found, first = [], 0
    for i in range(table.metadata.num_row_groups):
        group = _with_arrow(arrow, file, partial(table.metadata.row_group, i))
        found.append(_Group(number, i, first, group.num_rows, group.total_byte_size))
        first += group.num_rows
    return found


def _shards(files: list[Path], groups: list[_Group], picture: str, label: str | None) -> Shards:
    """A block for each row group."""
    arrow = optional("pyarrow", "pyarrow", "train")

    def read(block: int, inside: np.ndarray) -> Iterator[bytes]:
        file, group = files[groups[block].file], groups[block].number
        batches = _opened(file).iter_batches(AT_ONCE, row_groups=[group], columns=[picture])
        wanted, done = deque(inside.tolist()), 0
        while wanted:
            batch = _with_arrow(arrow, file, partial(next, batches, None))
            if batch is None:
                raise DataError(f"{file} was changed while it was read. Type the same again")
            if wanted[0] < done + len(batch):
                pictures = _pictures(arrow, file, batch.column(picture))
                while wanted and wanted[0] < done + len(batch):
                    yield pictures[wanted.popleft() - done] or b""
            done += len(batch)

    def key(block: int, first: int, last: int) -> bytes:
        group = groups[block]
        name = os.fsencode(files[group.file].name)
        return name + f" {group.number} {group.rows} {group.bytes} {first} {last}\0".encode()

    def labels() -> list[int] | str:
        found: list[int] = []
        for file in files if label is not None else []:
            batches = _opened(file).iter_batches(65_536, columns=[label])
            while batch := _with_arrow(arrow, file, partial(next, batches, None)):
                some = _labels(arrow, file, str(label), batch.column(label))
                if isinstance(some, str):
                    return some
                found += some
        return found

    return Shards(
        counts=np.array([group.rows for group in groups], np.int64),
        read=read,
        place=lambda b, row: files[groups[b].file] / f"row {groups[b].first + row}",
        key=key,
        labels=labels,
    )


def _pictures(arrow: Any, file: Path, column: Any) -> list[bytes | None]:
    """The bytes of the pictures in a column, a struct with ``bytes`` or plain."""
    values = _with_arrow(arrow, file, column.to_pylist)
    return [value.get("bytes") if isinstance(value, dict) else value for value in values]


def picture_rows(file: Path, opened: BinaryIO | None = None) -> Iterator[tuple[int, bytes | None]]:
    """The number of each row of a Parquet file, and the bytes of its picture if it has one.

    Args:
        opened: the file, where it does not lie on this machine.

    Raises:
        DataError: the file is damaged, or no column is sure to be of pictures.
    """
    arrow = optional("pyarrow", "pyarrow", "train")
    table = _opened(file, opened)
    picture = choose_columns(file, file, table, []).picture
    batches = table.iter_batches(16, columns=[picture])
    number = 0
    while batch := _with_arrow(arrow, file, partial(next, batches, None)):
        for data in _pictures(arrow, file, batch.column(picture)):
            yield number, data
            number += 1


def _opened(file: Path, opened: BinaryIO | None = None) -> Any:
    """A Parquet file, read as a stream of 1 MB where whole columns would be read at once."""
    parquet = optional("pyarrow.parquet", "pyarrow", "train")
    arrow = optional("pyarrow", "pyarrow", "train")
    if opened is None:
        refuse_placeholder(file, DataError)
    return _with_arrow(arrow, file, lambda: parquet.ParquetFile(
        opened or arrow.OSFile(os.fsencode(file)), buffer_size=1 << 20))  # fmt: skip


def _labels(arrow: Any, file: Path, name: str, column: Any) -> list[int] | str:
    """The labels of some rows, unknown where there is none; or why they cannot be used."""
    kinds, kind = arrow.types, column.type
    if kinds.is_boolean(kind) or kinds.is_integer(kind):
        # Without the missing ones, for which numpy would make floats of all.
        known = _with_arrow(arrow, file, lambda: column.is_valid().to_numpy(zero_copy_only=False))
        whole = _with_arrow(arrow, file, column.drop_null)
        try:
            given = to_labels(whole.to_numpy(zero_copy_only=False), len(whole))
        except ValueError as error:
            return f"{file}: the column {name}: {error}"
        values = np.full(len(column), UNKNOWN, np.int64)
        values[known] = given
    elif kinds.is_floating(kind):
        values = _with_arrow(arrow, file, lambda: column.to_numpy(zero_copy_only=False))
    else:
        return f"{file}: the column {name} should be whole numbers, it is {kind}"
    try:
        return to_labels(values, len(column))
    except ValueError as error:
        return f"{file}: the column {name}: {error}"


def _with_arrow(arrow: Any, file: Path, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(
            f"{file} is damaged, or not a Parquet file: {' '.join(str(error).split()):.300}"
        ) from None


# -- which columns -------------------------------------------------------------------------------

_SHARD = re.compile(r"-\d+-of-\d+\.parquet$", re.IGNORECASE)  # as the Hub's libraries name files
_PICTURES, _LABELS = ("image", "img"), ("label", "labels")  # what such columns are called


class Columns(NamedTuple):
    """The column of pictures, that of labels if there is one, and the names of the classes."""

    picture: str
    label: str | None
    classes: tuple[str, ...]
    notes: list[str]


def holds_pictures(files: list[Path]) -> bool:
    """Whether one of the files has a column of pictures, and is no other kind of table."""
    try:
        arrow = optional("pyarrow", "pyarrow", "train")
    except MissingDependency:
        return False
    for file in files[:10]:
        refuse_placeholder(file, DataError)
        try:
            if _candidates(arrow, file, _opened(file), sure=True):
                return True
        except DataError:
            if _SHARD.search(file.name):  # certainly data, and not a table beside the pictures
                raise
    return False


def choose_columns(path: Path, file: Path, table: Any, asked: list[str]) -> Columns:
    """The columns to read of ``file``: the ones ``asked`` for, or those that leave no doubt.

    Args:
        path: what the user named, of which ``file`` is a part.

    Raises:
        DataError: none or several could be meant, or one that was asked for is not there.
    """
    arrow = optional("pyarrow", "pyarrow", "train")
    schema, notes = table.schema_arrow, []
    names = _candidates(arrow, file, table)
    listed = ", ".join(f"{f.name} ({f.type})"[:100] for f in schema)
    if missing := [name for name in asked if schema.names.count(name) != 1]:
        raise DataError(f"{file} has no column {missing[0]}: its columns are {listed}")
    typed = f"--data '{path_text(path)}#{{}}'"
    given = [name for name in asked if name in names]
    rest = [name for name in asked if name not in names]
    if not names:
        raise DataError(
            f"{file} has no column of pictures, a struct with bytes or plain binary: its columns "
            f"are {listed}"
        )
    if len(given) > 1 or len(rest) > 1:
        raise DataError(
            f"expected one column of pictures and one of labels after the #, got {', '.join(asked)}"
        )
    usual = [name for name in names if name.lower() in _PICTURES]
    picture = next((some[0] for some in (given, names, usual) if len(some) == 1), None)
    if picture is None:
        raise DataError(
            f"{file} has several columns of pictures: {', '.join(names)}. Choose one; type: "
            + typed.format(names[0])
        )
    if len(names) > 1 and not given:
        other = next(name for name in names if name != picture)
        notes.append(
            f"pictures are taken from the column {picture}; for one of the others "
            f"({', '.join(name for name in names if name != picture)}), type: {typed.format(other)}"
        )
    label, classes, more = _choose_label(schema, rest, typed)
    return Columns(picture, label, classes, notes + more)


def _choose_label(
    schema: Any, asked: list[str], typed: str
) -> tuple[str | None, tuple[str, ...], list[str]]:
    features = _features(schema)
    classes = [n for n, f in features.items() if f.get("_type") == "ClassLabel"]
    usual = [name for name in _LABELS if schema.names.count(name) == 1]
    label = next((some[0] for some in (asked, usual, classes) if some), None)
    notes = []
    if len(classes) > 1 and not asked:
        other = next(name for name in classes if name != label)
        notes.append(
            f"labels are taken from the column {label}, of {', '.join(classes)}; for others, type: "
            + typed.format(other)
        )
    names = features.get(label, {}).get("names") if label else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        names = []
    return label, tuple(names), notes


def _candidates(arrow: Any, file: Path, table: Any, sure: bool = False) -> list[str]:
    """The columns that hold pictures: as the Hub's libraries note it, or by type and content.

    Unless it has to be ``sure``, one whose first value is no picture will do if there is no other.
    """
    schema, features = table.schema_arrow, _features(table.schema_arrow)
    single = [f for f in schema if schema.names.count(f.name) == 1]
    binary = [f.name for f in single if _bytes_type(arrow.types, f.type) is not None]
    noted = [name for name in binary if features.get(name, {}).get("_type") == "Image"]
    if noted:
        return noted
    binary = [name for name in binary if "_type" not in features.get(name, {})
              or features[name]["_type"] == "Value"]  # fmt: skip
    looking = [name for name in binary if _begins_as_picture(arrow, file, table, name)]
    structs = [f.name for f in single if f.name in binary and arrow.types.is_struct(f.type)]
    if looking or structs or sure:
        return looking or structs
    usual = [name for name in binary if name.lower() in _PICTURES]
    return usual or (binary if len(binary) == 1 else [])


def _bytes_type(kinds: Any, kind: Any) -> Any:
    """The binary type in a column's type, a struct with ``bytes`` or plain; None if it has none."""
    if kinds.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        kind = kind.field(names.index("bytes")).type if names.count("bytes") == 1 else kind
    return kind if kinds.is_binary(kind) or kinds.is_large_binary(kind) else None


_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
          *(b"P%d" % i for i in range(1, 7)))  # fmt: skip


def _begins_as_picture(arrow: Any, file: Path, table: Any, name: str) -> bool:
    """Whether the first value of a column that is not empty begins as a picture's file."""
    batches = table.iter_batches(16, columns=[name])
    batch = _with_arrow(arrow, file, lambda: next(batches, None))
    for value in _with_arrow(arrow, file, batch.column(0).to_pylist) if batch else []:
        data = value.get("bytes") if isinstance(value, dict) else value
        if data:
            return bool(data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"))
    return False


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What ``datasets`` notes of the columns in a schema; nothing if it is not of that form."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: f for name, f in features.items() if isinstance(f, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
