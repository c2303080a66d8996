"""Makes the images that a model takes out of files, PIL images, arrays and tensors.

Pillow decodes; everything after that (transparency, grey, proportions, size) is done in torch, in
the same way for files, arrays and tensors.
"""

import contextlib
import io
import math
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from torch import Tensor
from torch.nn import functional as F

from zoo.boundary import require_plain, typed
from zoo.errors import ImageError, InputError
from zoo.files import path_text, placeholder
from zoo.isolation import isolated
from zoo.listing import list_folder
from zoo.otherkinds import missing as other_missing
from zoo.otherkinds import opener
from zoo.picturefile import bare, orientation
from zoo.spec import Preprocessing
from zoo.system import processors

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""The formats that are opened. Pillow knows more, some of which start other programs (EPS)."""
ENDINGS = (
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
OTHER_ENDINGS = (
    ".apng", ".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".j2k", ".jfif", ".jp2", ".jpe",
    ".nef", ".orf", ".pnm", ".psd", ".svg", ".tga",
)  # fmt: skip
"""More endings of pictures. Only those that :mod:`zoo.otherkinds` can open here are opened."""
_A = TypeVar("_A")
_B = TypeVar("_B")
PATIENCE = 2.0
"""Seconds that reading which is under way is waited for when nobody wants it any more."""
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as Pillow's "L"


@typed()
def to_images(x: Any, preprocessing: Preprocessing) -> Tensor:
    """Images N x C x H x W, float32 in [0, 1], as ``preprocessing`` describes them.

    Args:
        x: one of these, or a list of them: the path of a picture; a PIL image; a NumPy array
            H x W, H x W x C, N x H x W or N x H x W x C; a tensor H x W, C x H x W or
            N x C x H x W. C is 1, 3 or 4 (the last is opacity). Arrays and tensors are uint8
            (0 to 255), uint16 (0 to 65535), bool, or floating point in [0, 1].

    Raises:
        ImageError: a picture cannot be read.
        InputError: an array or tensor of another layout, dtype or range, or an empty list.
    """
    with isolated(grad=False):
        return _to_images(x, preprocessing)


def _to_images(x: Any, preprocessing: Preprocessing) -> Tensor:
    if isinstance(x, list | tuple):
        if not x:
            raise InputError("expected at least one picture, got an empty list")
        return torch.cat([_to_images(item, preprocessing) for item in x])
    if isinstance(x, str | os.PathLike):
        return _fit(_read(Path(x), preprocessing), preprocessing)
    if isinstance(x, Image.Image):
        return _fit(_from_array(_loaded(x, preprocessing)[0]), preprocessing)
    if isinstance(x, np.ndarray):
        return _fit(_from_array(x), preprocessing)
    if isinstance(x, Tensor):
        return _fit(_from_tensor(x), preprocessing)
    raise InputError(
        "expected a path, a PIL image, an array, a tensor or a list of them, got "
        f"{type(x).__module__}.{type(x).__qualname__}"
    )


@dataclass
class Pictures:
    """What was read from files: the images with their paths, and what was left out and why.

    ``skipped`` is what could not be read; ``notes`` are sentences on what was left out on purpose,
    such as hidden files.
    """

    images: Tensor  # N x C x H x W, float32 in [0, 1]
    paths: list[Path]
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@typed()
def read_pictures(
    sources: Iterable[str | Path],
    preprocessing: Preprocessing,
    *,
    strict: bool = False,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> Pictures:
    """Read files, and all files in folders and their subfolders, in the order of their names.

    Of a folder, hidden files and those of other programs are left out, and linked folders are read
    once: see :func:`zoo.listing.list_folder`. A file or folder that is named itself is read.

    Args:
        strict: raise at the first picture that cannot be read, instead of counting and naming it.
            Files in a folder whose names are no pictures' are only counted and named.
        progress: wraps the files, to show how many are done.

    Raises:
        ImageError: a source does not exist, nothing could be read, or (strict) a file could not.
    """
    named = [Path(source) for source in sources]
    files, skipped, notes = files_of(named)
    if strict:
        refuse_unreadable(skipped)
    images, paths = [], []
    for path in progress(files):
        try:
            if reason := why_not_opened(path.name):
                raise ImageError(f"{path}: {reason}")
            images.append(to_images(path, preprocessing))
            paths.append(path)
        except ImageError as error:
            skipped.append((path, str(error).removeprefix(f"{path_text(path)}: ")))
            if strict:
                refuse_unreadable(skipped[-1:], named)
    if not images:
        raise nothing_read(skipped, notes)
    return Pictures(torch.cat(images), paths, skipped, notes)


NO_PICTURE = "its name has no ending of a picture"
"""The reason why notes and tables among the pictures are left out."""


def why_not_opened(name: str) -> str:
    """Why a file of this name is not opened; empty if it is."""
    name = name.lower()
    if name.endswith(ENDINGS):
        return ""
    ending = Path(name).suffix
    if (missing := other_missing(ending)) is not None:
        return missing and f"pictures of the kind {ending} are not read; {missing}"
    if name.endswith(OTHER_ENDINGS):
        return f"pictures of the kind {ending} are not read; make it a PNG or JPEG"
    return NO_PICTURE


def refuse_unreadable(skipped: list[tuple[Path, str]], named: Iterable[Path] = ()) -> None:
    """Raise if a picture was skipped: what the option ``strict`` asks for.

    What is no picture by its name (a README, a table of labels) is none that could not be read,
    unless it is one of ``named``, which the user named.

    Raises: ImageError: a picture was skipped.
    """
    asked = set(named)
    for path, reason in skipped:
        if reason != NO_PICTURE or path in asked:
            raise ImageError(f"{path}: {reason}")


def nothing_read(skipped: list[tuple[Path, str]], notes: Iterable[str] = ()) -> ImageError:
    """The error to raise when every file was skipped, or left out on purpose."""
    first = f"no picture could be read out of {len(skipped)} files"
    return ImageError("\n".join([first, *_named(skipped, 10), *notes]))


def skipped_text(skipped: list[tuple[Path, str]]) -> str:
    """What could not be read, counted and named, as a user should see it; empty without any."""
    return "\n".join([f"{len(skipped)} files skipped:", *_named(skipped, 20)]) if skipped else ""


def _named(skipped: list[tuple[Path, str]], most: int) -> list[str]:
    lines = [f"  {path}: {reason}" for path, reason in skipped[:most]]
    return lines + [f"  and {len(skipped) - most} more"] * (len(skipped) > most)


def decode_many(
    chunks: Iterable[Sequence[str | bytes]], preprocessing: Preprocessing
) -> Generator[tuple[Tensor, list[str]]]:
    """Decode paths, or the files' own bytes, in parallel and in order.

    Each thread decodes a chunk, for which Pillow leaves the interpreter to the others. The caller's
    thread fits them (:func:`fit_all`). Each image is :func:`to_images`' own, rounded to 8 bits. A
    few chunks are under way at a time, so :func:`chunk_size` bounds the memory.

    Yields:
        For each chunk its images that could be read, n x C x H x W uint8, and for each of its
        sources the reason why it could not, or ``""``.
    """
    with contextlib.closing(
        in_order(lambda chunk: _decode_chunk(chunk, preprocessing), chunks)
    ) as decoded:
        for read, reasons in decoded:
            yield _rounded(fit_all(read, preprocessing)), reasons


def decode_few(
    sources: Sequence[str | bytes], preprocessing: Preprocessing
) -> tuple[Tensor, list[str]]:
    """What :func:`decode_many` gives for one chunk, in the caller's thread alone."""
    read, reasons = _decode_chunk(sources, preprocessing)
    return _rounded(fit_all(read, preprocessing)), reasons


def in_order(
    call: Callable[[_A], _B], items: Iterable[_A], count: int | None = None
) -> Generator[_B]:
    """``call`` of each item, in as many threads as there are processors, in the items' order.

    Or in ``count`` threads.

    A few more items than threads are taken at a time. When the caller stops, or an item fails,
    nothing more begins, and what is under way is waited for, but not longer than
    :data:`PATIENCE`: a pipe that nobody writes into, or a network drive that is gone, may block for
    ever. For the same reason these are daemon threads and not an executor's, for which Python waits
    at its end: Ctrl-C would never end the process.
    """
    tasks: SimpleQueue[tuple[Future[_B], _A] | None] = SimpleQueue()
    waiting: deque[Future[_B]] = deque()

    def work() -> None:
        while (task := tasks.get()) is not None:
            future, item = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call(item))
                except BaseException as error:
                    future.set_exception(error)

    threads = [
        Thread(target=work, name="decode", daemon=True) for _ in range(count or processors())
    ]
    for thread in threads:
        thread.start()
    try:
        for item in items:
            waiting.append(Future())
            tasks.put((waiting[-1], item))
            if len(waiting) > len(threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in threads:
            tasks.put(None)
        end = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


def chunk_size(preprocessing: Preprocessing) -> int:
    """How many pictures to decode at once: 8 MB, were each 8 times as high and wide as needed."""
    one = 64 * preprocessing.channels * preprocessing.height * preprocessing.width
    return max(1, min(256, 8_000_000 // one))


def _decode_chunk(
    sources: Sequence[str | bytes], preprocessing: Preprocessing
) -> tuple[list[np.ndarray], list[str]]:
    read: list[np.ndarray] = []
    reasons: list[str] = []
    for source in sources:
        try:
            opened = io.BytesIO(source) if isinstance(source, bytes) else source
            read.append(decode(opened, preprocessing).pixels)
            reasons.append("")
        except ImageError as error:
            reasons.append(str(error))
    return read, reasons


@isolated(grad=False)
def fit_all(read: Sequence[np.ndarray], p: Preprocessing, *, in_bytes: bool = False) -> Tensor:
    """The pixels of :func:`decode` as images n x C x H x W, float32 in [0, 1], in their order.

    Pictures of one size are fitted together, since a call into torch takes longer than a small
    picture; the number of threads that torch computes in is the caller's own.

    Args:
        in_bytes: resize pictures of 8 bits in 8 bits, in a sixth of the time. A value is then
            within 2 of 255 of what :func:`to_images` gives, but for sharp edges from black to
            white, where it may be some more. What needs no resizing is exact.
    """
    images = torch.empty(len(read), p.channels, p.height, p.width)
    alike: dict[tuple[tuple[int, ...], str], list[int]] = {}
    for i, pixels in enumerate(read):
        alike.setdefault((pixels.shape, pixels.dtype.name), []).append(i)
    for places in alike.values():
        pixels = np.stack([read[i] for i in places])
        simple = pixels.dtype == np.uint8 and pixels.shape[3] in (1, p.channels)
        x = _colour_first(pixels) if in_bytes and simple else _from_array(pixels)
        images[places] = _fit(x, p)
    return images


def _colour_first(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@isolated(grad=False)
def _rounded(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def files_of(
    sources: Iterable[str | Path],
) -> tuple[list[Path], list[tuple[Path, str]], list[str]]:
    """All files of the sources, those that cannot be read and why, and notes for the user.

    Raises: ImageError: a source does not exist, or is a folder that cannot be listed.
    """
    files: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    notes: list[str] = []
    for source in map(Path, sources):
        if source.is_dir():
            try:
                listing = list_folder(source)
            except OSError as error:
                raise ImageError(f"{source}: the folder cannot be read: {error.strerror}") from None
            files += (source / name for name in listing.names)
            skipped += listing.skipped
            notes += listing.notes
        elif source.exists():
            files.append(source)
        else:
            raise ImageError(f"{source}: there is no such file or folder")
    return files, skipped, notes


def _read(path: Path, preprocessing: Preprocessing) -> Tensor:
    if path.is_dir():
        raise ImageError(f"{path}: is a folder; zoo.images.read_pictures([folder], ...) reads one")
    try:
        return _from_array(decode(path, preprocessing).pixels)
    except (ImageError, InputError) as error:
        raise ImageError(f"{path}: {error}") from None


def _opened(file: BinaryIO, name: str) -> Image.Image:
    """As ``PIL.Image.open``, but without its own check of the size.

    That warns of a picture over Pillow's bound, and a warning can only be caught by changing the
    filters of the whole process. The size is known and checked before any pixel is decoded.

    Raises:
        UnidentifiedImageError: it is of none of :data:`FORMATS`, and of no kind of
            :mod:`zoo.otherkinds`.
        ImageError: it is of one of those, and the library that reads it is not installed.
    """
    prefix = file.read(32)
    for kind in FORMATS:
        factory, accept = Image.OPEN[kind]
        accepted = accept is None or accept(prefix)
        if not accepted or isinstance(accepted, str):  # a text says why not
            continue
        file.seek(0)
        try:
            return factory(file, name)
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    other = opener(prefix)
    if isinstance(other, str):
        raise ImageError(f"a picture of a kind that is not read: {other}")
    file.seek(0)
    image: Image.Image | None = other(file, name) if other else None
    if image is None:
        raise UnidentifiedImageError
    return image


class Decoded(NamedTuple):
    """A picture out of a file, upright.

    ``pixels`` are H x W x C with C 1, 3 or 4 (opacity last), uint8 or float32 in [0, 1]; of a
    picture much larger than a model needs, they are fewer than its own ``width`` and ``height``.
    """

    pixels: np.ndarray
    width: int
    height: int
    orientation: int
    """How it lay in its file, as EXIF counts: 1 is upright."""


def decode(source: Path | str | BinaryIO, preprocessing: Preprocessing) -> Decoded:
    """The picture of a file, or of its bytes, with as many pixels as ``preprocessing`` needs.

    Raises:
        ImageError: it cannot be read; the text is the reason alone.
    """
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(source, str | Path):
                file: BinaryIO = stack.enter_context(open(source, "rb"))
                name = os.fspath(source)
            else:
                file, name = source, ""
            whole, found = bare(file)
            name = name if whole is file else ""
            try:
                image = stack.enter_context(_opened(whole, name))
            except UnidentifiedImageError:
                raise ImageError(_unidentified(file)) from None
            # Before any pixel is decoded: a small file can claim a huge picture.
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            size = image.size
            if preprocessing.keep is None:
                # A JPEG can be decoded at half, a quarter or an eighth, many times faster.
                side = 4 * max(preprocessing.width, preprocessing.height)
                image.draft(None, (side, side))
            pixels, turned = _loaded(image, preprocessing, found)
            width, height = size if turned < 5 else size[::-1]
            return Decoded(pixels, width, height, turned)
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except InputError as error:
        raise ImageError(str(error)) from None
    except _DAMAGED as error:  # also a path with a null byte
        raise ImageError(f"damaged, or not readable: {error}") from None


def _unidentified(file: BinaryIO) -> str:
    """Why a file is no picture."""
    file.seek(0)
    what = placeholder(file.read(1024))
    return f"not a picture of a known kind ({', '.join(FORMATS)})" + (f": {what}" if what else "")


def _reduced(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The picture made smaller by a whole factor when it is many times larger than needed."""
    factor = min(image.width // preprocessing.width, image.height // preprocessing.height) // 4
    whole = preprocessing.keep is not None  # another library would take all pixels
    if factor > 1 and not whole and image.mode in ("L", "RGB", "LA", "RGBA"):
        image = image.reduce(factor)
    return image


_DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, struct.error,
    RuntimeError,
)  # fmt: skip
"""The exceptions that Pillow's decoders raise for damaged files."""


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation, what makes a picture upright."""


def _loaded(
    image: Image.Image, preprocessing: Preprocessing, found: int | None = None
) -> tuple[np.ndarray, int]:
    """The pixels of an opened picture, upright, and its orientation, which may be known before."""
    try:
        image.load()
        lies = found or orientation(image.info, getattr(image, "tag_v2", None))
        turn = _TURNS.get(lies)
        image = image if turn is None else image.transpose(turn)
        return _pixels(_reduced(image, preprocessing)), lies
    except InputError:  # a ValueError too, but the pixels' own
        raise
    except _DAMAGED as error:
        raise ImageError(f"damaged, or not readable: {error}") from None


def _pixels(image: Image.Image) -> np.ndarray:
    """H x W x C with C 1, 3 or 4 (opacity last), uint8 or float32 in [0, 1]."""
    mode = image.mode
    if mode.startswith("I;16"):
        # Pillow's own conversion to 8 bits would cut off everything above 255.
        return _unit(np.asarray(image).astype(np.uint16))[:, :, None].numpy()
    if mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"expected a picture of at most 16 bits, got up to {values.max()}")
        return _unit(values.astype(np.uint16))[:, :, None].numpy()
    if mode == "F":
        return _unit(np.asarray(image))[:, :, None].numpy()
    if mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif mode not in ("L", "RGB", "RGBA"):
        image = image.convert("L" if mode == "1" else "RGB")
    values = np.asarray(image)
    return values[:, :, None] if values.ndim == 2 else values


def _from_array(array: np.ndarray) -> Tensor:
    colour_last = array.ndim >= 3 and array.shape[-1] in (1, 3, 4)
    if not (array.ndim == 2 or (array.ndim == 3) or (array.ndim == 4 and colour_last)):
        raise InputError(
            "expected an array H x W, H x W x C, N x H x W or N x H x W x C with C 1, 3 or 4, got "
            + " x ".join(map(str, array.shape))
        )
    if array.size == 0:
        raise InputError(f"expected at least one image, got an empty array {array.shape}")
    values = _unit(array)
    if array.ndim == 2:
        return values[None, None]
    if array.ndim == 3:
        return values.permute(2, 0, 1)[None] if colour_last else values[:, None]
    return values.permute(0, 3, 1, 2)


_NUMPY_KNOWS = (torch.float16, torch.float32, torch.float64)


def _from_tensor(tensor: Tensor) -> Tensor:
    require_plain(tensor, "images")
    shaped = tensor.ndim == 2 or (tensor.ndim in (3, 4) and tensor.shape[-3] in (1, 3, 4))
    if not shaped or tensor.numel() == 0:
        raise InputError(
            "expected a tensor H x W, C x H x W or N x C x H x W with C 1, 3 or 4, got "
            + (" x ".join(map(str, tensor.shape)) or "a single number")
        )
    tensor = tensor.detach().cpu().resolve_neg()  # which numpy does not know
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_KNOWS:
        try:
            tensor = tensor.float()  # bfloat16 and most kinds of 8 bits
        except (RuntimeError, NotImplementedError):
            raise InputError(f"expected images as floats or uint8, got {tensor.dtype}") from None
    values = _unit(tensor.numpy())
    return values.reshape(-1, *((1,) if tensor.ndim == 2 else ()), *tensor.shape[-3:])


def _unit(values: np.ndarray) -> Tensor:
    """As float32 in [0, 1]."""
    values = np.asarray(values)  # a masked array computes in types of its own
    if values.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        return torch.from_numpy(values.astype(np.float32) / np.iinfo(values.dtype).max)
    if values.dtype == np.bool_:
        return torch.from_numpy(values.astype(np.float32))
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"expected uint8, uint16, bool or floating point values, got {values.dtype}"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"expected floating point values in [0, 1], got {low:.4g} to {high:.4g}"
            + ("; divide by 255" if low >= 0 and 1 < high <= 255 else "")
        )
    if any(stride < 0 for stride in values.strides):  # which torch does not know
        values = values.copy()
    return torch.from_numpy(np.require(values, np.float32, ["C", "W"]))


def _fit(x: Tensor, p: Preprocessing) -> Tensor:
    """N x (1, 3 or 4) x any size to N x C x H x W; without opacity and grey also of uint8."""
    if x.shape[1] == 4:
        opacity = x[:, 3:]
        x = x[:, :3] * opacity + p.background * (1 - opacity)
    if x.shape[1] == 3 and p.channels == 1:
        x = (x * x.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
    elif x.shape[1] == 1 and p.channels == 3:
        x = x.expand(-1, 3, -1, -1)
    if p.keep is not None:
        return _middle(x, p, p.keep)
    height, width = x.shape[2:]
    if (height, width) == (p.height, p.width):
        return _floats(x).clamp(0, 1).contiguous()
    wanted = p.width / p.height
    if p.fit == "crop":
        h, w = min(height, round(width / wanted) or 1), min(width, round(height * wanted) or 1)
        x = _part(x, h, w, (height - h) // 2, (width - w) // 2)
    size = (p.height, p.width)
    if p.fit == "pad":  # framed after resizing: a frame around a long thin picture would be huge
        scale = min(p.height / height, p.width / width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
    x = _resized(x, size, p)
    top, left = (p.height - size[0]) // 2, (p.width - size[1]) // 2
    frame = (left, p.width - size[1] - left, top, p.height - size[0] - top)
    return F.pad(_floats(x).clamp(0, 1), frame, value=p.background).contiguous()


_LONGEST = 8
"""How many times as long as wide a picture is before it is cut so that resizing fits memory."""


def _middle(x: Tensor, p: Preprocessing, keep: float) -> Tensor:
    """The middle of the resized picture, with the roundings of torchvision and Pillow."""
    high, wide = size = (math.floor(p.height / keep), math.floor(p.width / keep))
    if p.fit == "crop":
        height, width = (min(n, _LONGEST * min(x.shape[2:])) for n in x.shape[2:])
        x = _part(x, height, width, (x.shape[2] - height) // 2, (x.shape[3] - width) // 2)
        size = max(high, wide * height // width), max(wide, high * width // height)
    x = _by_pillow(x, size, p)
    top, left = (
        round((n - wanted) / 2) for n, wanted in zip(size, (p.height, p.width), strict=True)
    )
    return _floats(_part(x, p.height, p.width, top, left)).contiguous()


def _by_pillow(x: Tensor, size: tuple[int, int], p: Preprocessing) -> Tensor:
    """Resized in 8 bits, as libraries do that a network was trained with.

    Pillow rounds and cuts off what is below black or above white between rows and columns; on the
    edges of drawings that makes up to 17 levels of 255, which a network's features show.
    """
    if x.dtype != torch.uint8:
        x = (x * 255).round().to(torch.uint8)
    how = Image.Resampling[p.interpolation.upper()]
    one = Image.fromarray if x.shape[1] == 3 else lambda pixels: Image.fromarray(pixels[:, :, 0])
    pictures = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    resized = [np.array(one(pixels).resize(size[::-1], how)) for pixels in pictures]
    return _colour_first(np.stack(resized).reshape(len(x), *size, -1))


def _part(x: Tensor, height: int, width: int, top: int, left: int) -> Tensor:
    return x[:, :, top : top + height, left : left + width]


def _resized(x: Tensor, size: tuple[int, int], p: Preprocessing) -> Tensor:
    return F.interpolate(x, size, mode=p.interpolation, antialias=True, align_corners=False)


def _floats(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x


__all__: Sequence[str] = [
    "Decoded",
    "Pictures",
    "chunk_size",
    "decode",
    "decode_many",
    "files_of",
    "fit_all",
    "in_order",
    "nothing_read",
    "read_pictures",
    "refuse_unreadable",
    "skipped_text",
    "to_images",
    "why_not_opened",
]
