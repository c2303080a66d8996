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
