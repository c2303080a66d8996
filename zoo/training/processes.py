"""The processes of a run and the device of each.

A launcher (torchrun, ``accelerate launch``) starts processes for nothing but the run: accelerate
joins them, which sets variables of the environment and state of its own. A process that nobody
launched belongs to its user: there the run is alone and changes nothing outside of itself.
"""

import atexit
import json
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.boundary import usable_device
from zoo.errors import InputError, TrainingError
from zoo.optional import optional

__all__ = ["Alone", "Together", "processes_on"]

_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where launchers say how many processes there are."""


@dataclass(frozen=True)
class Alone:
    """The one process of a run, with what the loop asks of ``accelerate.Accelerator``."""

    device: torch.device
    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True

    def backward(self, loss: Tensor) -> None:
        """The gradients of ``loss``."""
        loss.backward()

    def reduce(self, tensor: Tensor, how: str) -> Tensor:
        """The sum or mean over all processes."""
        return tensor

    def wait_for_everyone(self) -> None:
        """There is no other process to wait for."""


@dataclass(frozen=True)
class Together:
    """The processes of a run as a step sees them (:class:`zoo.model.Processes`)."""

    accelerator: Any

    def reduce(self, tensor: Tensor, how: str) -> Tensor:
        """The sum or mean over all processes; ``tensor`` itself stays as it is."""
        reduced: Tensor = self.accelerator.reduce(tensor, how)
        return reduced

    def gather(self, tensor: Tensor) -> Tensor:
        """Every process's ``tensor``, one after the other."""
        gathered: Tensor = self.accelerator.gather(tensor)
        return gathered

    def collect(self, found: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """What all processes have found, each of them once, in order."""
        text = json.dumps(found).encode()
        sizes = self.gather(torch.tensor([len(text)], device=self.accelerator.device)).tolist()
        padded = bytearray(text.ljust(max(sizes)))
        sent = torch.frombuffer(padded, dtype=torch.uint8).to(self.accelerator.device)
        texts = self.gather(sent).cpu().reshape(len(sizes), -1)
        lists = [json.loads(bytes(row.tolist())) for row in texts]
        return sorted({(int(at), str(why)) for each in lists for at, why in each})

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The first process's ``tensor``, in all of them; each one's own stays as it is."""
        sent: Tensor = optional("accelerate.utils", "accelerate", "train").broadcast(
            tensor.detach().clone()  # which it would write into
        )
        return sent


def processes_on(device: str) -> Any:
    """This process and the others of the run, if any, on ``auto``, ``cpu``, ``cuda``, ...

    Raises:
        TrainingError: there is no such device here.
        MissingDependency: there are other processes, and accelerate is not installed.
    """
    try:
        if not _launched():
            return Alone(_best() if device == "auto" else usable_device(device))
        accelerate = optional("accelerate", "accelerate", "train")
        accelerate.state.AcceleratorState._reset_state()  # the run before may have had another
        joined = torch.distributed.is_initialized()
        accelerator = accelerate.Accelerator(cpu=device == "cpu", mixed_precision="no")
        if not joined:
            atexit.register(_leave)
        if device not in ("auto", "cpu") and accelerator.num_processes == 1:
            accelerator.state.device = usable_device(device)
        return accelerator
    except InputError as error:
        raise TrainingError(f"{error}\nType: --device cpu, or leave it out for the best") from None
    except (RuntimeError, ValueError, AssertionError) as error:
        raise TrainingError(
            f"the device {device!r} cannot be used: {str(error).splitlines()[0]}\n"
            "Type: --device cpu, or leave it out for the best there is"
        ) from None


def _leave() -> None:
    """Leave the group that was joined, at the end of the process: the threads of gloo may abort a
    process that ends before them. NCCL waits for the others there, which may have failed."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def _launched() -> bool:
    sizes = (os.environ.get(name, "") for name in _SIZES)
    return "LOCAL_RANK" in os.environ or any(s.isdigit() and int(s) > 1 for s in sizes)


def _best() -> torch.device:
    """The accelerator that is here, or the CPU."""
    if hasattr(torch, "accelerator"):  # since torch 2.6
        here = torch.accelerator.is_available()
        found = torch.accelerator.current_accelerator() if here else None
        return torch.device("cpu" if found is None else found.type)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
