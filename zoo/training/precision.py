"""Decides the precision of a run, once: a resumed run keeps it, on any machine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zoo.isolation import computes_in_bf16
from zoo.model import Recipe

__all__ = ["Float32", "computes_in_bf16", "orthogonalises", "resolve_precision"]


def orthogonalises(optimizer: str) -> bool:
    """Whether this optimiser of timm's is Muon or made of it, as ``nmuon`` and ``adamuon`` are."""
    return "muon" in optimizer.lower()


def resolve_precision(
    recipe: Recipe, device: torch.device, began: Mapping[str, Any] | None = None
) -> tuple[Recipe, str]:
    """``recipe`` with each precision that is ``auto`` decided, and a warning or "".

    A run that goes on does so in the precision that it began with, whatever this machine would
    take: it ends with the very same tensors then, if later.

    Args:
        began: the recipe that the run began with, when it goes on.
    """
    here = "bf16" if computes_in_bf16(device) else "fp32"
    open_ = [k for k in ("precision", "muon_precision") if getattr(recipe, k) == "auto"]
    if not orthogonalises(recipe.optimizer):  # the setting says nothing then, and stays as it is
        open_ = [k for k in open_ if k != "muon_precision"]
    decided: dict[str, Any] = {}
    for key in open_:
        before = (began or {}).get(key)
        decided[key] = before if before in ("bf16", "fp32") else here
    other = [f"{key}={value}" for key, value in decided.items() if value != here]
    warning = (
        f"goes on with {' and '.join(other)}, as it began; this machine alone would take {here}"
        if other
        else ""
    )
    return replace(recipe, **decided), warning


class Float32(TorchFunctionMode):
    """Inside the block, in this thread alone, conversions to bf16 give float32.

    timm's and torch's Muon convert each update to bf16 for their Newton-Schulz steps, and take no
    argument that would say otherwise.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.bfloat16:
            return args[0].float()
        if func in (Tensor.to, Tensor.type):
            args = tuple(_wider(value) for value in args)
            kwargs = {key: _wider(value) for key, value in kwargs.items()}
        return func(*args, **kwargs)


def _wider(value: Any) -> Any:
    return torch.float32 if value is torch.bfloat16 else value
