"""From files to what a model makes of them: one stream, whose memory no number of pictures fills.

Threads read each file once, hash its bytes, decode it, and measure a few together; the caller's
thread fits the pictures and asks the model. A few chunks are under way at a time.
"""

import hashlib
import io
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.collection import remote
from zoo.collection.entries import Entry
from zoo.collection.quality import measured, opaque, reduced
from zoo.collection.store import SMALL
from zoo.errors import ImageError
from zoo.images import Decoded, chunk_size, decode, fit_all, in_order
from zoo.spec import Preprocessing

__all__ = ["Batch", "Pipeline", "Seen", "Work"]

BYTES = 16_000_000
"""Of images that go to the model at once, and of archives' members that are under way."""
WHOLE = 1 << 26
"""Bytes: a larger file is hashed and decoded from the disk, and never in memory."""


@dataclass(slots=True)
class Seen:
    """What a thread has found of one entry."""

    entry: Entry
    hash: str | None = None
    bytes: int = 0
    reason: str = ""
    """Why there is no picture; empty too where the content was known already."""
    width: int = 0
    height: int = 0
    orientation: int = 1
    pixels: np.ndarray | None = None
    """On their way to the model."""
    decoded: bool = False
    """Whether the model has seen it: it could be read, and its content was not known."""
    small: np.ndarray | None = None
    fewer: np.ndarray | None = None
    """Pixels on their way to being measured."""
    measures: dict[str, float] | None = None


class Batch(NamedTuple):
    """Some entries, in their order, and what the model made of those that have ``pixels``."""

    seen: list[Seen]
    values: Tensor | None
    """A row for each of ``seen`` that was ``decoded``, in their order; None if none was."""


@dataclass(frozen=True)
class Work:
    """What a thread does with an entry.

    ``known`` tells of a content's hash whether there is no need to decode it; without it nothing is
    hashed. ``measured``: small pixels and measures of quality are wanted, and pictures of 8 bits
    are resized in 8 bits.
    """

    preprocessing: Preprocessing
    known: Callable[[bytes], bool] | None = None
    measured: bool = False

    def __call__(self, entries: list[Entry]) -> list[Seen]:
        away = [each.path for each in entries if _is_away(each) and not each.reason]
        fetched = remote.fetched(away)
        found = [self._one(entry, fetched.get(entry.path, entry.data)) for entry in entries]
        to_measure = [(seen, seen.fewer) for seen in found if seen.fewer is not None]
        values = measured([fewer for _, fewer in to_measure])
        for (seen, _), measures in zip(to_measure, values, strict=True):
            seen.measures, seen.fewer = measures, None
        return found

    def _one(self, entry: Entry, data: bytes | str | None) -> Seen:
        seen = Seen(entry, reason=data if isinstance(data, str) else entry.reason)
        if seen.reason:
            return seen
        try:
            source = self._read(entry, seen, data if isinstance(data, bytes) else None)
            if source is not None:
                self._keep(seen, decode(source, self.preprocessing))
        except ImageError as error:
            seen.reason = str(error)
        except FileNotFoundError:
            seen.reason = "there is no such file"
        except OSError as error:
            seen.reason = f"cannot be read: {error.strerror}"
        except (ValueError, MemoryError) as error:  # a path with a null byte; a huge picture
            seen.reason = f"cannot be read: {str(error) or type(error).__name__}"
        seen.reason = " ".join(seen.reason.split())
        return seen

    def _read(self, entry: Entry, seen: Seen, data: bytes | None) -> str | io.BytesIO | None:
        """What to decode; None if the content is known."""
        if data is None and (self.known is None or entry.size > WHOLE):
            if self.known is None:
                return entry.path
            with open(entry.path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256")
                seen.bytes = file.tell()
        else:
            if data is None:
                with open(entry.path, "rb") as file:
                    data = file.read()
            seen.bytes = len(data)
            if self.known is None:
                return io.BytesIO(data)
            digest = hashlib.sha256(data)
        seen.hash = digest.hexdigest()
        if self.known(digest.digest()):
            return None
        return entry.path if data is None else io.BytesIO(data)

    def _keep(self, seen: Seen, decoded: Decoded) -> None:
        seen.width, seen.height = decoded.width, decoded.height
        seen.orientation = decoded.orientation
        if self.measured:
            pixels = opaque(as_bytes(decoded.pixels))
            fewer = reduced(pixels)
            enough = min(fewer.shape[:2]) >= 2 * SMALL
            seen.small = small(fewer if enough else pixels)
            seen.fewer = fewer
        seen.pixels, seen.decoded = decoded.pixels, True


def _is_away(entry: Entry) -> bool:
    """Whether its bytes lie in a store and have to be fetched."""
    return entry.data is None and remote.is_url(entry.path)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels as uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels * 255).round().astype(np.uint8)


def small(pixels: np.ndarray) -> np.ndarray:
    """H x W x 1 or 3 uint8 squeezed to 32 x 32 x 3."""
    found = pixels
    if pixels.shape[:2] != (SMALL, SMALL):
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        found = np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BOX))
    found = found[:, :, None] if found.ndim == 2 else found
    return found if found.shape[2] == 3 else np.repeat(found, 3, 2)


def prepared(pixels: Sequence[np.ndarray], preprocessing: Preprocessing) -> Tensor:
    """Pixels of :func:`zoo.images.decode` as the images that a collection's features are of.

    What is compared with these has to be made just so: of a smooth picture, which was enlarged, the
    features of some networks tell a grey level apart.
    """
    return fit_all(pixels, preprocessing, in_bytes=True)


class Pipeline:
    """Entries in, batches out: what was found of each, and what the model makes of its picture.

    Args:
        call: of the model, from images to a tensor with a row an image.
        work: what the threads do.
        threads: how many; None is one for each processor.
    """

    def __init__(self, call: Callable[[Tensor], Tensor], work: Work, threads: int | None = None):
        self.call = call
        self.work = work
        self.threads = threads
        p = work.preprocessing
        self._most = max(1, min(256, BYTES // (4 * p.channels * p.height * p.width)))

    def __call__(self, entries: Iterable[Entry]) -> Generator[Batch]:
        """Batches of whole chunks, in order; closing it waits for what is under way."""
        seen: list[Seen] = []
        images: list[Tensor] = []
        looked = in_order(self.work, self._chunks(entries), self.threads)
        try:
            for some in looked:
                seen += some
                if pixels := [each.pixels for each in some if each.pixels is not None]:
                    prepare = prepared if self.work.measured else fit_all
                    images.append(prepare(pixels, self.work.preprocessing))
                for each in some:
                    each.pixels = None
                if sum(map(len, images)) >= self._most or len(seen) >= 4 * self._most:
                    yield self._batch(seen, images)
                    seen, images = [], []
        finally:
            looked.close()
        if seen:
            yield self._batch(seen, images)

    def _chunks(self, entries: Iterable[Entry]) -> Iterator[list[Entry]]:
        """A few entries at a time: pictures are decoded to a bounded number of bytes."""
        size = min(32, chunk_size(self.work.preprocessing))
        chunk: list[Entry] = []
        held = 0
        for entry in entries:
            chunk.append(entry)
            held += entry.size if _is_away(entry) else len(entry.data or b"")
            if len(chunk) >= size or held >= BYTES // 4:
                yield chunk
                chunk, held = [], 0
        if chunk:
            yield chunk

    def _batch(self, seen: list[Seen], images: list[Tensor]) -> Batch:
        if not images:
            return Batch(seen, None)
        parts = [self.call(part).cpu() for part in torch.cat(images).split(self._most)]
        return Batch(seen, torch.cat(parts))


def finite(values: np.ndarray) -> np.ndarray:
    """Features as float16 can hold them: of what is too large, the largest."""
    limit = float(np.finfo(np.float16).max)
    flat: np.ndarray = values.reshape(len(values), math.prod(values.shape[1:]))
    return flat.clip(-limit, limit)
