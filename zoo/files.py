"""Files that are either the old ones or the new ones, whatever happens in between, and names of
those in a weights folder, which :mod:`zoo.weights` describes."""

import json
import os
from pathlib import Path
from typing import Any

TENSORS = "model.safetensors"
VECTORS = "vectors.safetensors"
PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".t7")
"""Endings of files that run code when they are read; none belongs into a weights folder."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that a kill at any moment leaves the old file or the new one."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def path_text(path: str | os.PathLike[str]) -> str:
    r"""``path`` as text that any file, stream and table can hold: odd bytes become ``\udcNN``.

    Python keeps the bytes of a name that is not UTF-8 as surrogates, which neither JSON in UTF-8
    nor Parquet nor a terminal takes. The result is for people and records, not for opening files.
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
