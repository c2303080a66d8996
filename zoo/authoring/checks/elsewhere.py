"""Scripts that a check runs in another process."""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from zoo.authoring import processes
from zoo.names import FolderName
from zoo.sources import parse, weights_folder


def in_a_new_process(
    script: str, *arguments: str, options: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Run ``script`` in a new process and folder: what it printed, and its variable ``answer``.

    The files that it left in that folder are added to the answer. ``options`` are Python's own.
    """
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    with tempfile.TemporaryDirectory() as temporary:
        place, file = Path(temporary) / "place", Path(temporary) / "answer.json"
        place.mkdir()
        ending = f"\nopen({str(file)!r}, 'w').write(json.dumps(answer))"
        environ = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
        command = [*options, "-c", script + ending, *arguments]
        run = processes.run_python(*command, cwd=place, env=environ)
        assert run.returncode == 0, f"in another process: {run.stderr.strip()[-500:]}"
        answer = json.loads(file.read_text("utf-8"))
        files = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
        return run.stdout, {**answer, "files": files}


@cache
def elsewhere(name: str) -> tuple[str, dict[str, Any]]:
    """The model of ``name`` in another process: what is printed, written and generated there."""
    where = weights_folder(name) if isinstance(parse(name), FolderName) else None
    threads = str(torch.get_num_threads())
    return in_a_new_process(_CALL, f"local-dir:{where.absolute()}" if where else name, threads)


_CALL = """
import hashlib, json, sys, torch
from zoo import weights
from zoo.authoring.checks.support import get_model, images_for
torch.set_num_threads(int(sys.argv[2]))
model = get_model(sys.argv[1])
weights.measure(model, images_for(model, 2))
images = model.generate(2, seed=11) if "generate" in model.capabilities else torch.zeros(0)
answer = {"generated": hashlib.sha256(images.numpy().tobytes()).hexdigest()}
"""
