"""Images that do not fit into memory: a ``.npy`` file that is read, never mapped.

A mapped file's pages count as memory of the process, and one that is cut off under it ends the
process without a word (SIGBUS). Reading each row costs a microsecond and fails as an exception.
"""

import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.files import replacing
from zoo.system import read_at, reserve

Shape = tuple[int, int, int, int]


class ImageFile:
    """Images N x C x H x W uint8 in a ``.npy`` file, indexed as a tensor is.

    Args:
        path: what :func:`write` wrote. It stays open: once it is, deleting it does no harm.

    Raises:
        DataError: not there, or not such a file.
    """

    dtype = torch.uint8

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = path.open("rb", buffering=0)
            shape, fortran, dtype = read_header(self._file)
            self._start = self._file.tell()
            size = os.fstat(self._file.fileno()).st_size
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a file of decoded images: {error}") from None
        if fortran or dtype != np.uint8 or len(shape) != 4:
            raise DataError(f"{path}: expected uint8 images N x C x H x W, got {dtype} {shape}")
        self.shape: Shape = shape
        self._row = math.prod(shape[1:])
        if size != self._start + len(self) * self._row:
            raise _cut_off(path)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ImageFile({str(self.path)!r}, shape={self.shape})"

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """The images at ``index``, copied: of a whole number C x H x W, else n x C x H x W.

        Raises:
            DataError: the file was cut off since it was opened, or cannot be read.
            IndexError: there are not so many images.
        """
        if isinstance(index, int):
            return self[torch.tensor([index])][0]
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._read([start], max(0, stop - start))
            return self._read(range(start, stop, step), 1)
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]
        places = torch.where(index < 0, index + len(self), index)
        if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < len(self):
            raise IndexError(
                f"expected indices under {len(self)}, got {int(index.min())} to {int(index.max())}"
            )
        return self._read(places.tolist(), 1)

    def _read(self, places: Iterable[int], rows: int) -> Tensor:
        """``rows`` images from each of ``places`` on."""
        places = list(places)
        images = torch.empty(len(places) * rows, *self.shape[1:], dtype=torch.uint8)
        view, size = images.numpy().reshape(-1).data, rows * self._row
        try:
            for at, place in enumerate(places):
                self._fill(view[at * size : (at + 1) * size], self._start + place * self._row)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from error
        return images

    def _fill(self, part: memoryview, offset: int) -> None:
        while part:  # one call reads at most 2 GB
            got = read_at(self._file, part, offset)
            if got == 0:
                raise _cut_off(self.path)
            part, offset = part[got:], offset + got


class ImageRows:
    """Some of the images of an :class:`ImageFile`, indexed as it is, without reading them.

    Args:
        images: the file.
        rows: the places of the images, in the order that they shall have.
    """

    dtype = torch.uint8

    def __init__(self, images: "ImageFile | ImageRows", rows: Tensor):
        self.images = images
        self.rows = rows
        self.shape: Shape = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """As :meth:`ImageFile.__getitem__`, of these rows."""
        rows = self.rows[index]
        return self.images[int(rows) if isinstance(index, int) else rows]


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, column order and dtype of the array that follows. Raises: ValueError, OSError."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except OSError:
        raise
    except Exception as error:  # numpy parses it as Python, which fails in many ways
        raise ValueError(f"its header is damaged: {error}") from None


def write(images: Iterable[Tensor], most: int, shape: tuple[int, int, int], path: Path) -> None:
    """Write ``images``, parts n x C x H x W uint8 of at most ``most`` together, atomically.

    The disk space is reserved first, so that a full disk shows before the work and not after it.

    Raises:
        DataError: more images than ``most``; the disk is full, or the folder cannot be written.
    """
    needed = most * math.prod(shape)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            head = _header(most, shape)
            file.write(head)
            file.flush()
            reserve(file, path, len(head) + needed)
            count = 0
            for part in images:
                count += len(part)
                if count > most:
                    raise DataError(f"expected at most {most:,} images, got {count:,}")
                file.write(part.contiguous().numpy().reshape(-1).data)
            file.flush()
            file.truncate(len(head) + count * math.prod(shape))
            file.seek(0)
            file.write(_header(count, shape))  # as long as the first: numpy leaves it room
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path} cannot be written: {reason}. The decoded images take {needed / 1e6:,.0f} MB "
            "there: make room, choose another folder for them, or allow them that much memory"
        ) from error


def _header(count: int, shape: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    )
    return buffer.getvalue()


def _cut_off(path: Path) -> DataError:
    return DataError(
        f"{path} was cut off or replaced. Type the same again: it is written anew then"
    )
