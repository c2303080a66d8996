"""Where a user's mistakes become errors of the zoo, whatever Python or torch call them.

Calls of the API are wrapped in :func:`typed`; the command line calls :func:`typed_error` once more
with every exception that leaves a command. A bug of our own is not translated: it is shown as a
traceback.

Nothing heavy is imported here.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import FileError, InputError, OutOfMemory, ZooError
from zoo.files import path_text

if TYPE_CHECKING:
    import torch

_HINTS = {
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room there, or choose another place",
    errno.EFBIG: "the file would be larger than this system allows; choose another place",
    errno.EACCES: "choose another place, or ask for the right to use it",
    errno.EPERM: "choose another place, or ask for the right to use it",
    errno.EROFS: "choose another place: nothing can be written there",
    errno.ENOENT: "look at how the path is written, and whether its folder is there",
    errno.ENOTDIR: "something on the way there is a file, not a folder; choose another path",
    errno.EEXIST: "there is a file where a folder should be; choose another path",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENAMETOOLONG: "most systems take 255 bytes in a name; choose a shorter path",
    errno.ELOOP: "links there lead back to themselves; name what they should lead to",
    errno.EMFILE: "too many files are open; type: ulimit -n 4096",
}
_NO_HOME = "Could not determine home directory"  # pathlib's RuntimeError
_NUL = ("embedded null byte", "embedded null character")  # ValueErrors of the system's calls
_NO_MEMORY = ("can't allocate memory", "not enough memory")  # RuntimeErrors of torch on the CPU


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Turn errors that a user can mend into errors of the zoo: a context manager and decorator.

    Raises:
        FileError: a file, folder, path or home that cannot be used; also an OSError.
        InputError: a text or path of characters that cannot be used; also a ValueError.
        OutOfMemory: also a MemoryError.
    """
    try:
        yield
    except Exception as error:
        found = typed_error(error)
        if found is None:
            raise
        raise found from error


def typed_error(error: BaseException) -> ZooError | None:
    """The error of the zoo for ``error``; None if it is one already, or a bug."""
    text = str(error)
    if isinstance(error, ZooError | BrokenPipeError):  # the reader of our output has closed it
        return None
    if isinstance(error, OSError):
        return _file_error(error)
    if isinstance(error, UnicodeError):
        return InputError(f"a text cannot be read or written: {text[:300]}. Expected UTF-8")
    if isinstance(error, ValueError) and text in _NUL:
        return InputError("a path cannot hold a NUL character; leave it out")
    if isinstance(error, RuntimeError) and _NO_HOME in text:
        return _homeless("~")
    out_of_memory = type(error).__name__ == "OutOfMemoryError"  # torch's, of a GPU
    if isinstance(error, RuntimeError):
        out_of_memory |= any(sign in text for sign in _NO_MEMORY)
    if isinstance(error, MemoryError) or out_of_memory:
        return OutOfMemory(
            "the memory is not enough for that. Use fewer or smaller images, a smaller batch or a "
            f"smaller model ({text.strip().splitlines()[0][:200] if text.strip() else 'no more'})"
        )
    return None


def _file_error(error: OSError) -> FileError:
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    where = " to ".join(_short(name) for name in names)
    why = error.strerror or str(error) or type(error).__name__
    hint = _HINTS.get(error.errno or 0, "choose another path, or mend what the system says of it")
    found = FileError(f"{where or 'a file'} cannot be used: {why}.\n{hint[0].upper()}{hint[1:]}")
    found.errno, found.strerror = error.errno, error.strerror
    found.filename = names[0] if names else None
    return found


def _short(path: str) -> str:
    """``path`` as a message can show it, without its middle if it is too long to read."""
    text = path_text(path)
    return text if len(text) <= 200 else f"{text[:90]}...{text[-90:]}"


def _homeless(path: str) -> FileError:
    return FileError(
        f"{_short(path)} cannot be used: no home folder is known by that name here.\n"
        "Write the whole path, or set HOME"
    )


def user_path(path: str | os.PathLike[str], what: str = "a path") -> Path:
    """``path`` as a user means it: a leading ``~`` or ``~name`` is a home folder.

    Args:
        what: what it is of, for the message.

    Raises:
        InputError: it is empty, which would mean the current folder.
        FileError: there is no such user, or no home.
    """
    text = os.fspath(path)
    if not text:
        raise InputError(f"{what} is empty: name a file or folder (a dot is the current folder)")
    if not text.startswith("~"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise _homeless(text) from None


def require_plain(tensor: "torch.Tensor", what: str) -> None:
    """Raises: InputError: ``tensor`` is not dense, quantised, nested, or without values (meta)."""
    import torch

    found = ""
    if tensor.is_nested or tensor.layout != torch.strided:
        found = f"one of the layout {tensor.layout}; tensor.to_dense() makes one"
    elif tensor.is_quantized:
        found = f"a quantised one ({tensor.dtype}); tensor.dequantize() makes one"
    elif tensor.is_meta:
        found = "one without values (device meta); make it on the device cpu"
    if found:
        raise InputError(f"expected {what} as a dense tensor with values, got {found}")


def usable_device(device: Any) -> "torch.device":
    """``device`` as torch's own, if tensors can be put there and read back.

    Raises:
        InputError: this machine has no such device; the text names those that it has.
    """
    import torch

    from zoo.isolation import isolated

    try:
        found = torch.device(device)
        with isolated():
            if found.type == "meta":
                raise RuntimeError("it holds no values")
            torch.zeros(1, device=found).add(1).item()
        return found
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "type at start of device string" in reason:
            reason = "torch knows no such kind"
        elif isinstance(error, TypeError):
            reason = "expected a name or a torch.device"
        raise InputError(
            f"the device {device!r:.80} cannot be used: {reason[:200]}.\n"
            f"There is here: {', '.join(_devices())}"
        ) from None


def _devices() -> list[str]:
    """Names of the devices of this machine that torch can use."""
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    for kind in ("mps", "xpu"):
        module = getattr(torch, kind, None)
        if module is not None and module.is_available():
            found.append(kind)
    return found


def cache_folder(kind: str) -> Path:
    """The folder for files of this kind that can be fetched or made again."""
    home = os.environ.get("XDG_CACHE_HOME") or user_path("~/.cache")
    return Path(home, "latentzoo", kind)
