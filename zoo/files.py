"""Files that are either the old ones or the new ones, whatever happens in between, and names of
those in a weights folder, which :mod:`zoo.weights` describes."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

TENSORS = "model.safetensors"
VECTORS = "vectors.safetensors"
PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".t7")
"""Endings of files that run code when they are read; none belongs into a weights folder."""


HALF_WRITTEN = re.compile(r"\.zoo-[0-9a-f]{16}\.tmp")
"""Names of files and folders that are not whole yet: new ones, which nobody else has."""


def _new_name() -> str:
    return f".zoo-{os.urandom(8).hex()}.tmp"


@contextlib.contextmanager
def replacing(path: Path, workspace: Path | None = None) -> Iterator[BinaryIO]:
    """A new file to write, which takes the place of ``path`` once the block has ended well.

    However the block ends otherwise, the new file is removed, and nothing else is touched.

    Args:
        path: old or new, never half.
        workspace: where it lies until then, on the file system of ``path``; beside it by default.
    """
    temporary = (workspace or path.parent) / _new_name()
    file = temporary.open("xb")  # never a file that was there before
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(target: Path, workspace: Path | None = None) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``target`` once the block has ended well.

    However the block ends otherwise, the new folder is removed, and nothing else is touched.

    Args:
        target: not there yet, or an empty folder.
        workspace: where it lies until then, on the file system of ``target``; beside it by default.
    """
    import shutil

    temporary = (workspace or target.parent) / _new_name()
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_atomically(path: Path, data: bytes, workspace: Path | None = None) -> None:
    """Write ``data`` so that a kill at any moment leaves the old file or the new one."""
    with replacing(path, workspace) as file:
        file.write(data)


def write_json(path: Path, value: Any, workspace: Path | None = None) -> None:
    """``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    # Half a surrogate, which UTF-8 has no bytes for, as JSON writes it in ASCII: nothing is lost.
    write_atomically(path, text.encode("utf-8", "backslashreplace"), workspace)


def path_text(path: str | os.PathLike[str]) -> str:
    r"""``path`` as text that any file, stream and table can hold: odd bytes become ``\udcNN``.

    Python keeps the bytes of a name that is not UTF-8 as surrogates, which neither JSON in UTF-8
    nor Parquet nor a terminal takes. The result is for people and records, not for opening files.
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def openable(path: Path) -> Iterator[str | Path]:
    """``path`` as libraries can open it that take names in UTF-8 only; to be read inside the block.

    Raises:
        OSError: there is no such file, or it may not be read.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"  # macOS and Windows have no such names
    else:
        yield path
