"""Kinds of pictures that Pillow reads only with a library of their own: HEIC, AVIF, JPEG XL.

The library is used where it is installed, and is not told to Pillow, which is all of the process's.
"""

import importlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from zoo.installing import install_command
from zoo.optional import installed

__all__ = ["endings", "missing", "names", "opener"]


class _Kind(NamedTuple):
    """A kind of pictures, and who opens it."""

    name: str
    endings: tuple[str, ...]
    begins: Callable[[bytes], bool]
    """Whether a file's first 32 bytes are of this kind."""
    openers: tuple[tuple[str, str, str], ...]
    """Libraries that can: module, class that takes a file and its name, distribution."""


def _brands(*brands: bytes) -> Callable[[bytes], bool]:
    """Of files in ISO boxes, whether the main brand or a compatible one is among ``brands``."""

    def begins(head: bytes) -> bool:
        found = (head[8:12], *(head[i : i + 4] for i in range(16, 32, 4)))
        return head[4:8] == b"ftyp" and any(brand in brands for brand in found)

    return begins


_KINDS = (  # AVIF first: both have the brand mif1
    _Kind(
        "AVIF", (".avif", ".avifs"), _brands(b"avif", b"avis"),
        (("PIL.AvifImagePlugin", "AvifImageFile", "pillow"),
         ("pillow_avif.AvifImagePlugin", "AvifImageFile", "pillow-avif-plugin")),
    ),
    _Kind(
        "HEIC", (".heic", ".heif", ".hif"),
        _brands(b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"),
        (("pillow_heif.as_plugin", "HeifImageFile", "pillow-heif"),),
    ),
    _Kind(
        "JPEG XL", (".jxl",),
        lambda head: head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
        (("pillow_jxl.JpegXLImagePlugin", "JXLImageFile", "pillow-jxl-plugin"),),
    ),
)  # fmt: skip


def opener(head: bytes) -> Callable[[BinaryIO, str], Any] | str | None:
    """What opens a picture that begins with ``head``, its first 32 bytes, as Pillow's classes do.

    Returns:
        A text that says what to install if there is no library for it; None if it is of no kind
        that is known here.
    """
    for kind in _KINDS:
        if kind.begins(head):
            return _opener(kind) or _what_to_install(kind)
    return None


def missing(ending: str) -> str | None:
    """What to say of a file with this ending, such as ``.heic``: what has to be installed.

    Returns:
        An empty text if nothing has; None if the ending is of no kind that is known here.
    """
    for kind in _KINDS:
        if ending in kind.endings:
            return "" if _opener(kind) else _what_to_install(kind)
    return None


def endings() -> tuple[str, ...]:
    """All endings of these kinds."""
    return tuple(ending for kind in _KINDS for ending in kind.endings)


def names() -> list[str]:
    """The kinds that can be read here."""
    return [kind.name for kind in _KINDS if _opener(kind)]


def _opener(kind: _Kind) -> Callable[[BinaryIO, str], Any] | None:
    for module, name, _ in kind.openers:
        if not installed(module.partition(".")[0]):
            continue
        try:
            found = importlib.import_module(module)
        except ImportError:  # an older Pillow, or a library of another system
            continue
        if module.startswith("PIL.") and not getattr(found, "SUPPORTED", False):
            continue  # Pillow was built without
        opened: Callable[[BinaryIO, str], Any] = getattr(found, name)
        return _upright(opened) if kind.name == "JPEG XL" else opened
    return None


def _upright(opened: Callable[[BinaryIO, str], Any]) -> Callable[[BinaryIO, str], Any]:
    """JPEG XL turns its pixels itself; only a JPEG packed into it is as its EXIF says."""

    def upright(file: BinaryIO, name: str) -> Any:
        image = opened(file, name)
        if not image.jpeg:
            image.info.pop("exif", None)
        return image

    return upright


def _what_to_install(kind: _Kind) -> str:
    distribution = kind.openers[-1][2]
    return (
        f"{distribution}, which is not installed, reads them. Type: {install_command(distribution)}"
    )
