"""Data sets that are known by name, and come in whatever size a model takes."""

import os
from collections.abc import Callable
from pathlib import Path

from zoo.data.general import GENERAL, open_general
from zoo.data.procedural import PROCEDURAL, open_procedural
from zoo.data.source import Source
from zoo.spec import Preprocessing

ANY_SIZE: dict[str, Callable[[str, Preprocessing, Path | None], Source]] = {
    PROCEDURAL: open_procedural,
    GENERAL: open_general,
}
"""Each opens a part of its set in the model's size, with a folder to look into for named sets."""


def is_any_size(data: str | Path) -> bool:
    """Whether data are such a set: a file or folder of the same name comes first."""
    return str(data) in ANY_SIZE and not os.path.lexists(data)
