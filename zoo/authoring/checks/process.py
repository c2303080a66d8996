"""Checks that a model leaves the process alone, and does not depend on its settings."""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from zoo import api, weights
from zoo.authoring import processes
from zoo.authoring.checks.elsewhere import elsewhere
from zoo.authoring.checks.support import get_model, has_weights, images_for
from zoo.authoring.checks.training import train_shortly, trains
from zoo.folder import read_config
from zoo.isolation import isolated
from zoo.process_state import changes, process_state


def check_quiet(name: str) -> None:
    """Building and calling print nothing on stdout and write no file where they run."""
    said, answer = elsewhere(name)
    assert not said, f"it prints: {said!r:.200}"
    assert not answer["files"], f"it writes files where it runs: {', '.join(answer['files'][:5])}"


def check_process(name: str) -> None:
    """Calls and loading change nothing that the process shares: filters, threads, random state."""
    model = get_model(name)
    images = images_for(model)

    def run() -> None:
        if has_weights(name):
            api.load(name)
        weights.measure(model, images)

    before, modules = process_state(), len(sys.modules)
    run()
    changed = changes(before, process_state())
    if changed and len(sys.modules) > modules:  # a library may set something up on its import
        before = process_state()
        run()
        changed = changes(before, process_state())
    assert not changed, "changed for the whole process: " + "; ".join(
        f"{key} was {was:.200}, is {now:.200}" for key, (was, now) in changed.items()
    )


def check_torch_defaults(name: str) -> None:
    """Torch's defaults (dtype, device, gradients) change no result, nor training."""
    # They are the process's, so they are set in another.
    script = (
        "import sys; from zoo.authoring.checks import process; "
        "process.print_under_defaults(sys.argv[1])"
    )
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    run = processes.run_python("-c", script, name, env={**os.environ, "PYTHONPATH": paths})
    assert run.returncode == 0, f"in another process: {run.stderr.strip()[-500:]}"
    got = json.loads(run.stdout.splitlines()[-1])
    expected = got.pop("nothing set")
    assert "error" not in expected, f"in another process: {expected['error']}"
    for default, results in got.items():
        assert "error" not in results, f"with {default}: {results['error']}"
        other = [key for key in results if results[key] != expected.get(key)]
        assert not other, f"with {default}, other bits than without: {', '.join(other[:5])}"


def print_under_defaults(name: str) -> None:
    """Print digests of all results of a model under each of torch's defaults, as JSON.

    It is run in a process of its own. For each default there is an object with the digest of each
    result, or with the text of an ``error``.
    """
    torch.set_num_threads(1)
    float64, bfloat16 = (partial(_default_dtype, t) for t in (torch.float64, torch.bfloat16))
    made = {}
    for label, settings in (
        ("nothing set", ()),
        ("torch.set_default_dtype(torch.float64)", (float64,)),
        ("torch.set_default_dtype(torch.bfloat16)", (bfloat16,)),
        ('torch.set_default_device("meta")', (_default_device,)),
        ("torch.inference_mode()", (torch.inference_mode,)),
        ("torch.no_grad()", (torch.no_grad,)),
        ("several of these at once", (float64, _default_device, torch.inference_mode)),
    ):
        with contextlib.ExitStack() as stack:
            for setting in settings:
                stack.enter_context(setting())
            try:
                made[label] = _results(name, train=len(settings) != 1)
            except Exception as error:  # whatever a model does then
                made[label] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(made))


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


def _results(name: str, *, train: bool) -> dict[str, str]:
    """Digests of a new model's tensors and answers, and of a training's tensors."""
    get_model.cache_clear()
    model = get_model(name)
    tensors = {f"tensor {key}": tensor for key, tensor in model.state_dict().items()}
    tensors |= weights.measure(model, images_for(model))
    tensors["preprocessed"] = model.preprocess(np.linspace(0, 1, 15, dtype=np.float32)[None])
    digests = {}
    for key, tensor in tensors.items():
        with isolated():
            data = tensor.detach().contiguous().numpy()
        digests[key] = f"{data.dtype} {hashlib.sha256(data.tobytes()).hexdigest()}"
    if train and trains(name):
        with tempfile.TemporaryDirectory() as temporary:
            folder = train_shortly(name, Path(temporary) / "run")
            digests["training"] = read_config(folder).sha256
    return digests
