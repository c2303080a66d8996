"""A table with a row a picture, written while the pictures are read: of any number of them."""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from zoo.collection.entries import Entry
from zoo.collection.pipeline import Pipeline, Work
from zoo.files import path_text, replacing
from zoo.images import nothing_read, refuse_unreadable, why_not_opened
from zoo.optional import optional
from zoo.spec import Preprocessing

__all__ = ["Table", "encode_files", "writing"]

ROWS = 4096
"""Of a group of rows in a Parquet file."""


class Table:
    """Rows of numbers with a path each, on their way to a .parquet, .npz or .safetensors file.

    What has come so far lies in a file without a name, beside ``out`` if that may be.

    Args:
        out: the file; its ending says of which kind.
        what: the name of the numbers.
    """

    def __init__(self, out: Path, what: str):
        self.out, self.what = out, what
        self.paths: list[str] = []
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.float32)
        if out.suffix == ".parquet":  # which is missing before the work, and not after it
            optional("pyarrow.parquet", "pyarrow", "parquet")
        self._file = _nameless(out)

    def add(self, paths: Sequence[Path], values: Tensor) -> None:
        """Some rows more."""
        array = values.cpu().contiguous().numpy()
        self.shape, self.dtype = array.shape[1:], array.dtype
        self.paths += map(path_text, paths)
        self._file.write(array.data)

    def write(self) -> None:
        """Write the file, which is the old one or the new one whatever happens."""
        self._file.flush()
        shape = (len(self.paths), *self.shape)
        values: np.ndarray = np.memmap(self._file, self.dtype, "r", shape=shape)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write = {".npz": self._npz, ".safetensors": self._safetensors}
        with replacing(self.out) as file:
            write.get(self.out.suffix, self._parquet)(file, values)

    def close(self) -> None:
        """Let go of what has come so far."""
        self._file.close()

    def _npz(self, file: BinaryIO, values: np.ndarray) -> None:
        arrays: dict[str, Any] = {self.what: values, "paths": self.paths}
        np.savez_compressed(file, allow_pickle=False, **arrays)

    def _safetensors(self, file: BinaryIO, values: np.ndarray) -> None:
        """As safetensors writes one tensor; it would need all of it in memory."""
        kind = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64"}
        header = {
            "__metadata__": {"paths": json.dumps(self.paths)},
            self.what: {
                "dtype": kind[self.dtype.name],
                "shape": list(values.shape),
                "data_offsets": [0, values.nbytes],
            },
        }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)

    def _parquet(self, file: BinaryIO, values: np.ndarray) -> None:
        arrow = optional("pyarrow", "pyarrow", "parquet")
        parquet = optional("pyarrow.parquet", "pyarrow", "parquet")
        rows = values if values.ndim == 1 else values.reshape(len(values), -1)

        def part(begin: int) -> Any:
            some = rows[begin : begin + ROWS]
            numbers = some if some.ndim == 1 else list(some)
            return arrow.table({"path": self.paths[begin : begin + ROWS], self.what: numbers})

        # Arrow writes into memory, and not into a file of Python's from threads of its own.
        written = io.BytesIO()
        with parquet.ParquetWriter(written, part(0).schema) as writer:
            for begin in range(0, len(rows), ROWS):
                writer.write_table(part(begin))
                file.write(written.getvalue())
                written.seek(0)
                written.truncate()
        file.write(written.getvalue())


def _nameless(out: Path) -> Any:
    """A file to write and read that has no name, on the file system of ``out`` if that may be."""
    beside = next((folder for folder in out.parents if folder.is_dir()), None)
    with contextlib.suppress(OSError):
        return tempfile.TemporaryFile(dir=beside)
    return tempfile.TemporaryFile()


def encode_files(
    files: list[Path],
    skipped: list[tuple[Path, str]],
    call: Callable[[Tensor], Tensor],
    preprocessing: Preprocessing,
    table: Table,
    *,
    strict: bool = False,
    named: Iterable[Path] = (),
    notes: Sequence[str] = (),
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> None:
    """Add to ``table`` what a model makes of the pictures in ``files``.

    Args:
        files: as :func:`zoo.images.files_of` has them, with ``skipped``, to which more is added.
        call: of the model.
        strict: refuse when a picture cannot be read.
        named: what the user named.
        notes: what was left out of the files, to be said when there is nothing else.
        progress: wraps the files, to show how many are done.

    Raises:
        ImageError: nothing could be read, or (strict) a picture could not.
    """
    named = list(named)
    if strict:
        refuse_unreadable(skipped)
    pipeline = Pipeline(call, Work(preprocessing))
    with contextlib.closing(pipeline(_entries(progress(files)))) as batches:
        for batch in batches:
            paths = [Path(seen.entry.path) for seen in batch.seen if seen.decoded]
            for seen in batch.seen:
                if not seen.decoded:
                    skipped.append((Path(seen.entry.path), seen.reason))
                    if strict:
                        refuse_unreadable(skipped[-1:], named)
            if batch.values is not None:
                table.add(paths, batch.values)
    if not table.paths:
        raise nothing_read(skipped, notes)


def _entries(files: Iterable[Path]) -> Iterator[Entry]:
    for path in files:
        yield Entry(0, "", str(path), 0, 0, reason=why_not_opened(path.name))


@contextlib.contextmanager
def writing(out: Path, what: str) -> Generator[Table]:
    """A table to fill, which is written when the block has ended well."""
    table = Table(out, what)
    try:
        yield table
        table.write()
    finally:
        table.close()
