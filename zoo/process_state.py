"""Describes the state that all code of a process shares, which the zoo's calls never change."""

import gc
import hashlib
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["changes", "process_state"]


def process_state() -> dict[str, str]:
    """Each shared setting by name, with a text that differs when the setting does."""
    state: dict[str, Any] = {
        "warnings.filters": warnings.filters,
        "warnings.showwarning": (warnings.showwarning, vars(warnings)["_showwarnmsg_impl"]),
        "torch.nn.init": {name: id(value) for name, value in vars(nn.init).items()},
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": (torch.get_default_device(), _current_device()),
        "torch's threads": (torch.get_num_threads(), _threads_of_others()),
        "torch's random state": _digest(torch.get_rng_state().numpy().tobytes()),
        "torch's gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch's determinism": (
            torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(),
        ),
        "Python's random state": _digest(repr(random.getstate()).encode()),
        "the environment": dict(os.environ),
        "the working directory": _working_directory(),
        "the umask": _umask(),
        "signal handlers": [(n, signal.getsignal(n)) for n in sorted(signal.valid_signals())],
        "logging": _logging(),
        "sys.path": sys.path,
        "sys's hooks": (sys.excepthook, sys.displayhook, threading.excepthook),
        "sys's streams": (id(sys.stdout), id(sys.stderr), id(sys.stdin)),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the garbage collector": (gc.isenabled(), gc.get_threshold()),
        "the recursion limit": sys.getrecursionlimit(),
        "the sockets' timeout": socket.getdefaulttimeout(),
    }  # fmt: skip
    if (numpy := sys.modules.get("numpy")) is not None:
        numbers = numpy.random.get_state(legacy=False)
        state["NumPy's random state"] = _digest(repr(_plain(numbers)).encode())
        state["NumPy's handling of errors"] = numpy.geterr()
    if (image := sys.modules.get("PIL.Image")) is not None:
        state["Pillow's bound of pixels"] = image.MAX_IMAGE_PIXELS
    if (files := sys.modules.get("PIL.ImageFile")) is not None:
        state["Pillow's handling of damage"] = files.LOAD_TRUNCATED_IMAGES
    return {name: repr(value) for name, value in state.items()}


def changes(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The settings that differ: name to the texts of before and after."""
    return {k: (before[k], after[k]) for k in before.keys() & after if before[k] != after[k]}


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _current_device() -> Any:
    """What ``with torch.device(...)`` sets for all threads, in the torch that has it."""
    return getattr(sys.modules.get("torch.utils._device"), "CURRENT_DEVICE", None)


def _threads_of_others() -> int:
    """The number of torch's threads in a new thread: one that has computed before keeps its own
    number, whatever another one sets."""
    numbers: list[int] = []
    thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return numbers[0]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "none"


def _plain(value: Any) -> Any:
    """``value`` with arrays as bytes, since the repr of an array leaves out most of its numbers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tobytes() if hasattr(value, "tobytes") else value


def _umask() -> str:
    """The umask where the system reports it; elsewhere it could only be read by setting it."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line for line in lines if line.startswith("Umask")), "unknown")


def _logging() -> Any:
    root = logging.getLogger()
    loggers = {
        name: (logger.level, logger.propagate, logger.disabled, logger.handlers, logger.filters)
        for name, logger in sorted(root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and (logger.level or logger.handlers)
    }
    return logging.raiseExceptions, root.manager.disable, root.level, root.handlers, loggers
