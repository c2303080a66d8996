"""Parquet files with a column of pictures, as the Hub's data sets ship them."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo._optional import optional
from zoo.data.source import SPLITS, UNKNOWN, Part, Source, key_of, to_labels
from zoo.errors import DataError
from zoo.files import refuse_placeholder
from zoo.images import chunk_size, decode_many
from zoo.spec import Preprocessing

# A file, the number of the first row in it, its pictures, its labels or why they are none.
_Rows = tuple[Path, int, list[bytes | None], list[int] | str]


def of_part(folder: Path, names: list[str], split: str) -> tuple[list[Path], str]:
    """The files that are called after ``split``, or all if none is called after any part."""

    def part_of(name: str) -> str | None:
        words = set(re.split(r"[^a-z]+", name.lower()))
        return next((s for s in (*SPLITS, "validation", "valid", "val") if s in words), None)

    parts = {name: part_of(name) for name in names}
    if not any(parts.values()):
        return [folder / name for name in names], "all"
    chosen = [folder / name for name, part in parts.items() if part == split]
    if not chosen:
        raise DataError(
            f"{folder} has no part {split}; its files are called "
            + ", ".join(names[:5])
            + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        )
    return chosen, split


def open_parquet(path: Path, files: list[Path], split: str, preprocessing: Preprocessing) -> Source:
    """A source of Parquet files, which are read in row groups."""
    parquet = optional("pyarrow.parquet", "pyarrow", "train")
    arrow = optional("pyarrow", "pyarrow", "train")
    for file in files:
        refuse_placeholder(file, DataError)
    # Streams of 1 MB, where whole columns of a row group would be read at once.
    opened = [_with_arrow(arrow, f, lambda f=f: parquet.ParquetFile(
        arrow.OSFile(os.fsencode(f)), buffer_size=1 << 20)) for f in files]  # fmt: skip
    columns = [_columns(arrow, file, table.schema_arrow) for file, table in zip(
        files, opened, strict=True)]  # fmt: skip
    labelled = all(label for _, label in columns)

    def rows() -> Iterator[_Rows]:
        for file, table, (picture, label) in zip(files, opened, columns, strict=True):
            wanted = [picture, label] if labelled else [picture]
            batches = table.iter_batches(chunk_size(preprocessing), columns=wanted)
            start = 0
            while batch := _with_arrow(arrow, file, lambda b=batches: next(b, None)):
                values = _with_arrow(arrow, file, batch.column(picture).to_pylist)
                pictures = [v.get("bytes") if isinstance(v, dict) else v for v in values]
                labels = _labels(arrow, file, label, batch.column(label)) if labelled else []
                yield file, start, pictures, labels
                start += len(pictures)

    def parts() -> Iterator[Part]:
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
        most=sum(table.metadata.num_rows for table in opened),
        shape=(preprocessing.channels, preprocessing.height, preprocessing.width),
        key=key_of(files),
        parts=parts,
    )


def _labels(arrow: Any, file: Path, name: str, column: Any) -> list[int] | str:
    """The labels of some rows, unknown where there is none; or why they are no labels."""
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


def _columns(arrow: Any, file: Path, schema: Any) -> tuple[str, str | None]:
    """The names of the column of pictures and of the column of labels."""
    kinds = arrow.types

    def holds_pictures(kind: Any) -> bool:
        if kinds.is_struct(kind):
            names = [kind.field(i).name for i in range(kind.num_fields)]
            kind = kind.field(names.index("bytes")).type if names.count("bytes") == 1 else kind
        return kinds.is_binary(kind) or kinds.is_large_binary(kind)

    pictures = [f.name for f in schema if holds_pictures(f.type)]
    if not pictures or schema.names.count(pictures[0]) != 1:
        raise DataError(
            f"{file} has no column of pictures, a struct with bytes or plain binary: its columns "
            f"are {', '.join(f'{f.name} ({f.type})'[:100] for f in schema)}"
        )
    whole = [f.name for f in schema if f.name == "label"]
    return pictures[0], whole[0] if len(whole) == 1 else None
