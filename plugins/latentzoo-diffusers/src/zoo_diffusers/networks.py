"""Builds the networks and schedulers of a source by diffusers' classes, and fills them strictly."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.errors import CorruptWeights, InvalidConfig, MissingDependency, TensorMismatch
from zoo.installing import install_command
from zoo.isolation import isolated, on_meta_device
from zoo_diffusers.source import Part, Source, fetch_tensors

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of attention's layers in weights from before diffusers 0.15, and those of today."""


def diffusers() -> Any:
    """The library, whose modules it imports when one of their classes is asked for.

    Raises:
        MissingDependency: it is not installed; the text has the pip command.
    """
    try:
        return importlib.import_module("diffusers")
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise  # it is installed but broken: its own error is the useful one
        raise MissingDependency(
            "this needs diffusers, which is not installed.\n"
            f"Type: {install_command('latentzoo-diffusers')}"
        ) from None


def built(source: Source, part: Part) -> Any:
    """A network or a scheduler as its config describes it; a network's values are random.

    Raises:
        InvalidConfig: diffusers cannot build it.
    """
    kind: Any = getattr(diffusers(), part.kind)
    known = inspect.signature(kind.__init__).parameters
    config = {key: value for key, value in part.config.items() if key in known}
    try:
        return kind.from_config(config)
    except Exception as error:  # diffusers does not check what a file may hold
        raise InvalidConfig(
            f"{source.where}: diffusers cannot build {part.kind} of its config.\n"
            f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
        ) from error


def described(source: Source, part: Part) -> nn.Module:
    """The network on the meta device, without memory or values."""
    with on_meta_device():
        network: nn.Module = built(source, part)
    return network


def trained(source: Source, part: Part) -> nn.Module:
    """The network with the tensors of the repository, every one of them and no others.

    Raises:
        TensorMismatch: names or shapes are others than the config's, or a value is not finite.
        CorruptWeights: it is no file of safetensors.
        UnsafeWeights, HubError: as :func:`zoo_diffusers.source.fetch_tensors`.
    """
    files = fetch_tensors(source, part)
    wanted = described(source, part).state_dict()
    where = f"{', '.join(file.name for file in files[:2])} of {source.where}"
    names = _compared(files, wanted, where)  # before any memory is taken
    with isolated(), _Unfilled():
        network: nn.Module = built(source, part)
    state = {}
    for file in files:
        for name, tensor in _tensors(file, where):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TensorMismatch(f"{where}: {name!r:.200} holds NaN or infinity")
            state[names[name]] = tensor
    network.load_state_dict(state, strict=True)
    return network.float()


def _compared(files: list[Path], wanted: Mapping[str, Tensor], where: str) -> dict[str, str]:
    """Today's name of each tensor in the files, whose names and shapes have to be those wanted."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        for name, shape in _shapes(file, where):
            if name in shapes:
                raise TensorMismatch(f"{where}: two files have {name!r:.200}")
            shapes[name] = shape
    names = {name: _today(name, wanted) for name in shapes}
    found = {names[name]: shape for name, shape in shapes.items()}
    others = {k: v for k, v in found.items() if k in wanted and v != tuple(wanted[k].shape)}
    for problem, which in (
        ("does not hold", sorted(wanted.keys() - found.keys())),
        ("holds what the network has no place for,", sorted(found.keys() - wanted.keys())),
        ("has another shape than its config says of", sorted(others)),
        ("has twice", [] if len(found) == len(shapes) else sorted(found)),
    ):
        if which:
            more = f" and {len(which) - 3} more" if len(which) > 3 else ""
            raise TensorMismatch(f"{where} {problem} {', '.join(which[:3])!s:.300}{more}")
    return names


def _today(name: str, wanted: Mapping[str, Tensor]) -> str:
    parts = name.rsplit(".", 2)
    if name in wanted or len(parts) != 3 or parts[1] not in _OLD:
        return name
    return f"{parts[0]}.{_OLD[parts[1]]}.{parts[2]}"


def _shapes(file: Path, where: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, tuple(opened.get_slice(name).get_shape())
    except SafetensorError as error:
        raise CorruptWeights(f"{where} is no file of safetensors: {error!s:.200}") from error


def _tensors(file: Path, where: str) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)
    except SafetensorError as error:
        raise CorruptWeights(f"{where} is no file of safetensors: {error!s:.200}") from error


class _Unfilled(TorchFunctionMode):
    """Leaves out random values, which are overwritten at once: they take longer than the rest."""

    _RANDOM = (Tensor.normal_, Tensor.uniform_)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func in self._RANDOM else func(*args, **(kwargs or {}))
