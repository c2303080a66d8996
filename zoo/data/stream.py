"""Pictures that stay in their files, and are decoded in the background shortly before a step.

The order of an epoch comes from the epoch's random numbers alone: blocks in random order, cut into
windows, and the rows of a window in random order. The processes of a run share the blocks: each
decodes its own part. A run that goes on in the middle of an epoch decodes only what is left of it.

A picture that cannot be read is noted, and the next one in the order of the files takes its place,
whatever was read before: so a step sees the same images in a run that was interrupted.
"""

import contextlib
import hashlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.data.fingerprint import PARTS
from zoo.data.shards import Shards
from zoo.errors import DataError
from zoo.files import path_text
from zoo.images import (
    PATIENCE,
    chunk_size,
    decode_few,
    decode_many,
    nothing_read,
    refuse_unreadable,
)
from zoo.isolation import isolated
from zoo.spec import Preprocessing

__all__ = ["Stream"]

WINDOW = 8192
"""Images that are mixed with each other, of which two windows are in memory."""
WINDOW_BYTES = 256_000_000
"""Of large images there are fewer in a window."""
HELD_OUT = 5000
"""Images that are held out at most: they stay in memory."""
HELD_OUT_BYTES = 256_000_000


class _Taken(NamedTuple):
    """Some rows of a block, and where their images go."""

    block: int
    inside: np.ndarray  # ascending numbers within the block
    places: np.ndarray


class _Chunk(NamedTuple):
    """Rows that are decoded together."""

    rows: list[int]
    places: list[int]
    sources: list[str | bytes]


class Stream:
    """Images N x C x H x W uint8 that are decoded when they are wanted.

    Args:
        shards: the files.
        preprocessing: makes pictures the model's images.
        skipped: gets what cannot be read, and why, when it is met.
        strict: refuse what cannot be read.
        numbers: the rows that it consists of, ascending; all, unless given.
    """

    dtype = torch.uint8

    def __init__(
        self,
        shards: Shards,
        preprocessing: Preprocessing,
        skipped: list[tuple[Path, str]],
        *,
        strict: bool = False,
        numbers: np.ndarray | None = None,
    ):
        self.shards, self.preprocessing = shards, preprocessing
        self.skipped, self.strict = skipped, strict
        self.unread: dict[int, str] = {}
        """By row: why it could not be read."""
        self._starts = np.concatenate([[0], np.cumsum(shards.counts)]).astype(np.int64)
        self.numbers = np.arange(self._starts[-1]) if numbers is None else numbers
        p = preprocessing
        self.shape = (len(self.numbers), p.channels, p.height, p.width)
        self._row = p.channels * p.height * p.width
        self.window = max(1, min(WINDOW, WINDOW_BYTES // self._row))

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, indices: Tensor) -> "Stream":
        """The images at these ascending indices."""
        return Stream(
            self.shards, self.preprocessing, self.skipped, strict=self.strict,
            numbers=self.numbers[indices.numpy()],
        )  # fmt: skip

    def fingerprint(self) -> dict[str, Any]:
        """What shows whether two are the same: the files' names and sizes, and some of their bytes.

        The window is in it, since the order of an epoch depends on it.
        """
        count = int(self._starts[-1])
        stretches = min(PARTS, count)
        bounds = [count * i // stretches for i in range(stretches + 1)]
        return {
            "images": len(self),
            "shape": list(self.shape[1:]),
            "window": self.window,
            "parts": [self._digest(a, b) for a, b in itertools.pairwise(bounds)],
        }

    def _digest(self, start: int, stop: int) -> str:
        digest = hashlib.sha256()
        at = start
        while at < stop:
            block = self._block(at)
            first, end = int(self._starts[block]), min(stop, int(self._starts[block + 1]))
            digest.update(self.shards.key(block, at - first, end - first))
            at = end
        (source,) = self._sources(start)
        with contextlib.suppress(OSError):
            digest.update(source if isinstance(source, bytes) else Path(source).read_bytes())
        return digest.hexdigest()[:16]

    def _block(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, "right")) - 1

    def _sources(self, *rows: int) -> list[str | bytes]:
        """The files, or their bytes, of rows of one block."""
        block = self._block(rows[0])
        return [*self.shards.read(block, np.array(rows) - self._starts[block])]

    # -- some of them ------------------------------------------------------------------------------

    @isolated()
    def split(self, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of the part to train on and of the part to hold out: whole blocks, but one.

        So few files are read for it, and no picture of a film is in both parts beside its
        neighbour.
        """
        rng = torch.Generator().manual_seed(seed)
        most = min(HELD_OUT, HELD_OUT_BYTES // self._row)
        wanted = min(round(len(self) * fraction), most)
        held_out: list[np.ndarray] = [np.empty(0, np.int64)]
        bounds = np.searchsorted(self.numbers, self._starts)
        for block in torch.randperm(len(self.shards.counts), generator=rng).tolist():
            if wanted <= 0:
                break
            rows = np.arange(bounds[block], bounds[block + 1])[:wanted]
            wanted -= len(rows)
            held_out.append(rows)
        found = torch.from_numpy(np.concatenate(held_out))
        kept = np.ones(len(self), bool)
        kept[found.numpy()] = False
        mixed = found[torch.randperm(len(found), generator=rng)]
        return torch.from_numpy(np.flatnonzero(kept)), mixed

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """The images at ``index``, as a tensor gives them.

        Raises: ImageError: one of them cannot be read.
        """
        if isinstance(index, int):
            return self[torch.tensor([index])][0]
        indices = torch.arange(len(self))[index]
        images = self.readable(indices)
        if len(images) < len(indices):
            raise nothing_read(self.skipped)
        return images

    def readable(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` that can be read, in that order."""
        rows = self.numbers[indices.numpy()]
        places = np.argsort(rows, kind="stable")
        images = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        read = np.zeros(len(rows), bool)
        found = self._decoded(self._by_blocks(rows[places], places))
        with contextlib.closing(found):
            for at, numbers, some in found:
                images[torch.from_numpy(at)] = some
                read[at] = [row not in self.unread for row in numbers.tolist()]
        return images[torch.from_numpy(read)]

    def _by_blocks(self, rows: np.ndarray, places: np.ndarray) -> Iterator[_Taken]:
        blocks = np.searchsorted(self._starts, rows, "right") - 1
        for block in np.unique(blocks):
            here = blocks == block
            yield _Taken(int(block), rows[here] - self._starts[block], places[here])

    # -- an epoch ----------------------------------------------------------------------------------

    def epoch(
        self,
        chosen: Tensor,
        rng: torch.Generator,
        *,
        size: int,
        steps: int,
        start: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> Generator[tuple[Tensor, np.ndarray]]:
        """This process's images for each step from ``start`` on, and the rows that they are of.

        Args:
            chosen: the indices of those to learn from.
            rng: decides the order; the same in all processes.
            size: images a step of this process.
        """
        kept = np.zeros(int(self._starts[-1]), bool)
        kept[self.numbers[chosen.numpy()]] = True
        blocks = torch.randperm(len(self.shards.counts), generator=rng).numpy()
        seed = int(torch.randint(2**40, (1,), generator=rng))
        low, high = (len(chosen) * i // processes for i in (process, process + 1))
        span = range(size * start, min(size * steps, high - low))
        taken = self._taken(kept, blocks, low, high, span, seed + process)
        with contextlib.closing(_Windows(self, taken, kept, high - low)) as windows:
            yield from _in_batches(windows, span, size, self.window)

    def _taken(
        self, kept: np.ndarray, blocks: np.ndarray, low: int, high: int, span: range, seed: int
    ) -> Iterator[_Taken]:
        """Where the rows from ``low`` to before ``high`` go, of those that are kept.

        Args:
            blocks: in the order in which they are read.
            span: the places in this order of ``high - low`` images that are wanted.
        """
        sums = np.concatenate([[0], np.cumsum(kept)])
        counts = sums[self._starts[1:]] - sums[self._starts[:-1]]
        ends = np.cumsum(counts[blocks])
        size = self.window
        mixed = (-1, np.empty(0, np.int64))
        for block, end in zip(blocks.tolist(), ends.tolist(), strict=True):
            first = end - int(counts[block]) - low
            if end - low <= span.start // size * size or first >= high - low or not counts[block]:
                continue
            inside = np.flatnonzero(kept[self._starts[block] : self._starts[block + 1]])
            at = np.arange(first, end - low)
            for window in range(max(0, first) // size, (min(end, high) - low - 1) // size + 1):
                left, right = window * size, min((window + 1) * size, high - low)
                if mixed[0] != window:
                    mixed = window, _mixed(right - left, seed, window)
                here = (at >= left) & (at < right)
                places = mixed[1][at[here] - left]
                wanted = (places + left >= span.start) & (places + left < span.stop)
                if wanted.any():
                    yield _Taken(block, inside[here][wanted], places[wanted] + left)

    # -- decoding ----------------------------------------------------------------------------------

    def _decoded(
        self, taken: Iterable[_Taken], kept: np.ndarray | None = None
    ) -> Generator[tuple[np.ndarray, np.ndarray, Tensor]]:
        """Places, rows and images of what is taken, in that order, a few at a time.

        Args:
            kept: by row, which may stand in for one that cannot be read; none may, unless given,
                and the images of such rows are black.
        """
        under_way: deque[_Chunk] = deque()

        def sources() -> Iterator[list[str | bytes]]:
            for chunk in self._chunks(taken):
                under_way.append(chunk)
                yield chunk.sources

        with contextlib.closing(decode_many(sources(), self.preprocessing)) as decoded:
            for images, reasons in decoded:
                chunk = under_way.popleft()
                rows = np.array(chunk.rows)
                if any(reasons):
                    images = self._repaired(rows, images, reasons, chunk.sources, kept)
                yield np.array(chunk.places), rows, images

    def _chunks(self, taken: Iterable[_Taken]) -> Iterator[_Chunk]:
        size = chunk_size(self.preprocessing)
        chunk = _Chunk([], [], [])
        for block, inside, places in taken:
            rows = (inside + self._starts[block]).tolist()
            sources = self.shards.read(block, inside)
            for row, place, source in zip(rows, places.tolist(), sources, strict=True):
                chunk.rows.append(row)
                chunk.places.append(place)
                chunk.sources.append(b"" if row in self.unread else source)
                if len(chunk.rows) == size:
                    yield chunk
                    chunk = _Chunk([], [], [])
        if chunk.rows:
            yield chunk

    def _repaired(
        self,
        rows: np.ndarray,
        images: Tensor,
        reasons: list[str],
        sources: list[str | bytes],
        kept: np.ndarray | None,
    ) -> Tensor:
        """The images of a chunk, with others in the place of what could not be read."""
        whole = torch.zeros(len(rows), *self.shape[1:], dtype=torch.uint8)
        whole[torch.tensor([not reason for reason in reasons])] = images
        for i in np.flatnonzero([bool(reason) for reason in reasons]):
            self._note(int(rows[i]), reasons[i], sources[i])
            if kept is not None:
                rows[i], whole[i] = self._stand_in(int(rows[i]), kept)
        return whole

    def _stand_in(self, row: int, kept: np.ndarray) -> tuple[int, Tensor]:
        """The next row that is kept and can be read, and its image."""
        rows = np.flatnonzero(kept)
        at = int(np.searchsorted(rows, row))
        for other in np.roll(rows, -at).tolist():
            if other in self.unread:
                continue
            (source,) = self._sources(other)
            images, (reason,) = decode_few([source], self.preprocessing)
            if not reason:
                return other, images[0]
            self._note(other, reason, source)
        raise nothing_read(self.skipped)

    def _note(self, row: int, reason: str, source: str | bytes) -> None:
        if row in self.unread:
            return
        if isinstance(source, str) and not os.path.lexists(source):
            raise DataError(
                f"{path_text(source)} was there when the run began, and is not any more: the "
                "folder was changed or unmounted while it was read. Type the same "
                "again with --resume"
            )
        self.remember([(row, reason if source else "the row has no picture")])
        if self.strict:
            refuse_unreadable(self.skipped[-1:])

    def remember(self, unread: Iterable[tuple[int, str]]) -> None:
        """Note what could not be read, here or elsewhere, by row."""
        for row, reason in unread:
            if row not in self.unread:
                self.unread[row] = reason
                block = self._block(row)
                place = self.shards.place(block, row - int(self._starts[block]))
                self.skipped.append((place, reason))


def _mixed(count: int, seed: int, window: int) -> np.ndarray:
    rng = torch.Generator().manual_seed(seed * 1_000_003 + window)
    order: np.ndarray = torch.randperm(count, generator=rng).numpy()
    return order


def _in_batches(
    windows: "_Windows", span: range, size: int, window: int
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Batches of ``size`` out of windows, the places of ``span`` one after the other."""
    at = span.start
    images: list[Tensor] = []
    rows: list[np.ndarray] = []
    missing = size
    for number, decoded, numbers in windows:
        while at < min(span.stop, (number + 1) * window):
            first = at - number * window
            here = slice(first, min(first + missing, len(numbers), first + span.stop - at))
            images.append(decoded[here].clone())  # a part of it would keep all of the window
            rows.append(numbers[here])
            at, missing = at + len(rows[-1]), missing - len(rows[-1])
            if not missing or at == span.stop:
                yield torch.cat(images), np.concatenate(rows)
                images, rows, missing = [], [], size
        del decoded, numbers


class _Windows:
    """Windows of decoded images, filled by a thread: one is used while the next is filled.

    Args:
        taken: the rows, window by window.
        kept: which rows may stand in for others.
        count: images in all windows.
    """

    def __init__(self, stream: Stream, taken: Iterator[_Taken], kept: np.ndarray, count: int):
        self.stream, self.taken, self.kept, self.count = stream, taken, kept, count
        self.filled: SimpleQueue[tuple[int, Tensor, np.ndarray] | BaseException | None]
        self.filled = SimpleQueue()
        self.free = threading.Semaphore(2)
        self.stopped = False
        self.thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def __iter__(self) -> Iterator[tuple[int, Tensor, np.ndarray]]:
        self.thread.start()
        while (window := self.filled.get()) is not None:
            if isinstance(window, BaseException):
                raise window
            yield window
            del window
            self.free.release()

    def close(self) -> None:
        """Stop the thread; what it waits for is not waited for longer than a few seconds."""
        self.stopped = True
        self.free.release()
        if self.thread.ident is not None:
            self.thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            self._fill()
            self.filled.put(None)
        except BaseException as error:  # the step that waits for the images raises it
            self.filled.put(error)

    def _fill(self) -> None:
        size, current = self.stream.window, -1
        images, rows = torch.empty(0), np.empty(0, np.int64)
        with contextlib.closing(self.stream._decoded(self.taken, self.kept)) as decoded:
            for places, numbers, some in decoded:
                for window in range(places[0] // size, places[-1] // size + 1):
                    if window != current:
                        if current >= 0:
                            self.filled.put((current, images, rows))
                        images = torch.empty(0)
                        self.free.acquire()
                        length = min(size, self.count - window * size)
                        images = torch.empty(length, *some.shape[1:], dtype=torch.uint8)
                        rows, current = np.full(length, -1), window
                    if self.stopped:
                        return
                    here = places // size == window
                    at = places[here] - window * size
                    images[torch.from_numpy(at)] = some[torch.from_numpy(here)]
                    rows[at] = numbers[here]
        if current >= 0:
            self.filled.put((current, images, rows))
