"""The images that a run learns from, batch by batch, wherever they lie."""

from collections.abc import Generator, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from zoo.data.imagefile import ImageFile, ImageRows
from zoo.data.stream import Stream
from zoo.images import skipped_text

__all__ = ["Feed", "feed_of"]

_Batch = tuple[Tensor, Tensor | None]
_AT_ONCE = 500
"""Images at once for what is computed in one pass."""


class Feed(Protocol):
    """What a run learns from, in whatever order an epoch's random numbers say."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def epoch(
        self, rng: torch.Generator, size: int, start: int, process: int, processes: int
    ) -> Generator[_Batch]:
        """From the step ``start`` on, this process's part of each batch of ``size`` images.

        Yields:
            Images n x C x H x W uint8, with their labels if the recipe asks for these. The rest
            that is no whole batch takes part in the next epoch.
        """
        ...

    def once(self) -> Iterator[Tensor]:
        """Every image once, uint8, in mixed order: the same at each call."""
        ...

    def unread(self) -> list[tuple[int, str]]:
        """What could not be read up to here, in a form that :meth:`remember` takes."""
        ...

    def remember(self, unread: list[tuple[int, str]]) -> None:
        """Count what could not be read before, or by another process."""
        ...

    def news(self) -> str:
        """What could not be read since this was last asked, for the user; empty without any."""
        ...


def feed_of(
    images: Tensor | ImageFile | ImageRows | Stream, chosen: Tensor, labels: Tensor | None = None
) -> Feed:
    """The images at the indices ``chosen``, with their labels out of those of all images."""
    if isinstance(images, Stream):
        return _Streamed(images, chosen, labels)
    return _Held(images, chosen, labels)


class _Held:
    """Images in memory or in a file: any of them can be had at any time."""

    def __init__(self, images: Any, chosen: Tensor, labels: Tensor | None):
        self.images, self.chosen, self.labels = images, chosen, labels

    def __len__(self) -> int:
        return len(self.chosen)

    def epoch(
        self, rng: torch.Generator, size: int, start: int, process: int, processes: int
    ) -> Generator[_Batch]:
        order = self.chosen[torch.randperm(len(self.chosen), generator=rng)]
        for step in range(start, len(order) // size):
            mine = order[step * size : (step + 1) * size][process::processes]
            yield self.images[mine], None if self.labels is None else self.labels[mine]

    def once(self) -> Iterator[Tensor]:
        for part in self.chosen.split(_AT_ONCE):
            yield self.images[part]

    def unread(self) -> list[tuple[int, str]]:
        return []

    def remember(self, unread: list[tuple[int, str]]) -> None:
        """What could not be read is known before such a run begins."""

    def news(self) -> str:
        return ""


class _Streamed:
    """Images that are decoded shortly before they are wanted."""

    def __init__(self, images: Stream, chosen: Tensor, labels: Tensor | None):
        self.images, self.chosen = images, chosen
        self.told = len(images.skipped)
        self.labels = labels  # by row
        if labels is not None and len(images):
            self.labels = torch.full((int(images.numbers[-1]) + 1,), -1)
            self.labels[torch.from_numpy(images.numbers)] = labels

    def __len__(self) -> int:
        return len(self.chosen)

    def epoch(
        self, rng: torch.Generator, size: int, start: int, process: int, processes: int
    ) -> Generator[_Batch]:
        batches = self.images.epoch(
            self.chosen, rng, size=size // processes, steps=len(self) // size, start=start,
            process=process, processes=processes,
        )  # fmt: skip
        for images, rows in batches:
            yield images, None if self.labels is None else self.labels[torch.from_numpy(rows)]

    def once(self) -> Iterator[Tensor]:
        rng = torch.Generator().manual_seed(0)
        steps = -(-len(self) // _AT_ONCE)
        for images, _ in self.images.epoch(self.chosen, rng, size=_AT_ONCE, steps=steps):
            yield images

    def unread(self) -> list[tuple[int, str]]:
        return sorted(self.images.unread.items())

    def remember(self, unread: list[tuple[int, str]]) -> None:
        self.images.remember(unread)

    def news(self) -> str:
        new = self.images.skipped[self.told :]
        self.told += len(new)
        return skipped_text(new)
