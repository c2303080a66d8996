"""Reads ``run.json``: the list of the files that a training run wrote into its folder.

Nothing heavy is imported here. :mod:`zoo.training.runfolder` writes the list, and removes only what
is on it; folders of pictures are listed without the files on it.
"""

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST, WORKSPACE, WEIGHTS, EVENTS = "run.json", "unfinished", "weights", "events"
FORMAT = "a run of latentzoo, 1"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What ``run.json`` in ``folder`` says; None if it is not one that a run wrote."""
    try:
        value = json.loads((folder / MANIFEST).read_bytes())
        if value["format"] != FORMAT:
            return None
        wrote, facts, by = value["wrote"], value["facts"], value["process"]
        if not (isinstance(facts, dict) and all(_is_inside(name) for name in wrote)):
            return None
        process = {"pid": int(by["pid"]), "host": str(by["host"])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return {"wrote": list(wrote), "facts": facts, "process": process}


def _is_inside(name: Any) -> bool:
    if not isinstance(name, str):
        raise TypeError(name)
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def is_of_run(manifest: dict[str, Any], name: str) -> bool:
    """Whether the file ``name``, relative to the run's folder, was written by the run."""
    name = name.replace(os.sep, "/")
    first, _, below = name.partition("/")
    wrote = manifest["wrote"]
    return name in wrote or bool(below and first in wrote and first in (WEIGHTS, EVENTS, WORKSPACE))
