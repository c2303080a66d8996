"""Checkpoints: one safetensors file each, written atomically, the one before it kept.

The tensors are the model's, the moving average's and the optimisers'; everything else (where the
run is, what it is a run of, the optimisers' plain numbers) is JSON in the file's header, so that
one rename replaces all of it. Nothing is pickled.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zoo.errors import TrainingError
from zoo.files import openable, write_atomically

CURRENT = "checkpoint.safetensors"
NEXT = "checkpoint.next.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    path: Path
    facts: dict[str, Any]
    position: dict[str, Any]
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


def write(
    out: Path,
    *,
    facts: Mapping[str, Any],
    position: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    workspace: Path | None = None,
) -> None:
    """Write the checkpoint of ``out``; the one before it stays beside it.

    ``workspace`` is the folder it is in until it is complete: see :func:`zoo.files.replacing`.

    Raises:
        OSError: it cannot be written; the last one is as it was.
        FloatingPointError: a tensor holds NaN or infinity; nothing was written.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for name, module in modules.items():
        tensors |= {f"module/{name}/{k}": t for k, t in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        for i, slots in state["state"].items():
            for key, value in slots.items():
                held = tensors if isinstance(value, Tensor) else numbers
                held[f"optimizer/{name}/{i}/{key}"] = value
        for i, group in enumerate(state["param_groups"]):
            numbers[f"group/{name}/{i}"] = {k: v for k, v in group.items() if k != "params"}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FloatingPointError(name)
    copies = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    header = {"facts": facts, "position": position, "numbers": numbers}
    data = safetensors.torch.save(copies, {"run": json.dumps(header)})
    # The new one is whole before the old one moves; a kill in between leaves PREVIOUS to read.
    write_atomically(out / NEXT, data, workspace)
    if (out / CURRENT).exists():
        os.replace(out / CURRENT, out / PREVIOUS)
    os.replace(out / NEXT, out / CURRENT)


def read(out: Path) -> tuple[Checkpoint, str]:
    """The last good checkpoint of ``out``, and what was wrong with a newer one (or "").

    Raises:
        TrainingError: there is none, or none that can be read.
    """
    problems: list[str] = []
    for path in (out / CURRENT, out / PREVIOUS):
        if not path.exists():
            continue
        try:
            return _read(path), "; ".join(problems)
        except (
            safetensors.SafetensorError,
            OSError,
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
        ) as error:
            problems.append(f"{path} is not a checkpoint: {error}")
    if problems:
        raise TrainingError("\n".join(problems) + "\nStart anew with another --out")
    raise TrainingError(f"{out} has no checkpoint to resume from; leave out --resume")


def threads_of(out: Path) -> int | None:
    """How many threads the run in ``out`` computes in; None if it has no good checkpoint."""
    try:
        threads: int = read(out)[0].position["threads"]
        return threads
    except (TrainingError, OSError):
        return None


def _read(path: Path) -> Checkpoint:
    with openable(path) as name, safetensors.safe_open(name, "pt") as file:
        run = json.loads((file.metadata() or {})["run"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts, position, numbers = run["facts"], run["position"], run["numbers"]
    whole = all(
        isinstance(position[key], int) and position[key] >= 0 for key in ("phase", "epoch", "step")
    )
    if not (whole and isinstance(facts, dict) and isinstance(numbers, dict)):
        raise ValueError("its header does not describe a run")
    float(position["seconds"])
    if not (isinstance(position["threads"], int) and 0 < position["threads"] <= 4096):
        raise ValueError("its number of threads is not valid")
    {str(k): float(v) for k, v in position["sums"].items()}
    return Checkpoint(path, facts, position, tensors, numbers)


def restore(
    saved: Checkpoint,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Put the tensors and numbers of a checkpoint back.

    Raises:
        TrainingError: they are not those of these modules and optimisers.
    """
    try:
        for name, module in modules.items():
            module.load_state_dict(_under(saved.tensors, f"module/{name}/"))
        for name, optimizer in optimizers.items():
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state: dict[int, dict[str, Any]] = {}
            held = _under(saved.tensors, f"optimizer/{name}/")
            for key, value in (held | _under(saved.numbers, f"optimizer/{name}/")).items():
                i, _, slot = key.partition("/")
                state.setdefault(int(i), {})[slot] = _laid_out_as(parameters[int(i)], value)
            groups = [
                {**group, **_tuples(saved.numbers[f"group/{name}/{i}"])}
                for i, group in enumerate(optimizer.state_dict()["param_groups"])
            ]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (
        RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError,
    ) as error:  # fmt: skip
        raise TrainingError(
            f"{saved.path} does not fit the model: {str(error).splitlines()[0]}"
        ) from None


def _laid_out_as(parameter: Tensor, value: Any) -> Any:
    """``value`` with its parameter's strides: fused optimisers pair the two by memory order."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _under(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _tuples(group: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in group.items()}
