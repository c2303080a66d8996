"""Pictures that are worth a look because of how they are: blank, tiny, blurred, very long.

What is measured costs less than decoding a picture does, and is done beside it; what counts as a
fault is decided later, of the numbers that were kept.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from zoo.collection.store import MEASURES

if TYPE_CHECKING:
    from zoo.collection.store import Pictures

__all__ = ["Fault", "faults", "measured", "opaque", "reduced"]

SIDE = 256
"""Pixels: a longer picture is reduced by a whole number to no more, before it is measured."""

_ENOUGH = 96
"""Pixels: of a picture no narrower, sharpness is of every other line alone."""

_TOGETHER = 1 << 18
"""Bytes of pictures of one size that are measured at once: few enough for a processor's cache."""

_UNLIKE = 10
"""Of 255: a colour that differs by more in any channel is another colour."""

_WINDOW = 9
"""Pixels, of the blur that a picture is compared with to tell whether it is blurred already."""

_LEAST_SIDE = 8
"""Pixels: a picture narrower than that is too small, whatever the others are."""

LIMITS = {
    "blank": 0.03,
    "one colour": 0.01,
    "too small": 0.1,
    "blurred": 0.4,
    "extreme proportions": 4.0,
}
"""Where each kind of fault begins: below it, and of the proportions above it."""


class Fault(NamedTuple):
    """The pictures that have one kind of fault, the worst first."""

    kind: str
    """One of :data:`LIMITS`."""
    value: str
    """What :attr:`values` are, for a column's title."""
    positions: np.ndarray
    """Among the P pictures, int64."""
    values: np.ndarray


def measured(pictures: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """How bright, contrasted, coloured and sharp each picture is.

    Small pictures of one size are measured together: alone, each would cost more calls than work.

    Args:
        pictures: H x W x C uint8, upright; C is 1, 2, 3 or 4, of which the second and the fourth
            are opacity. They may have fewer pixels than the picture has.

    Returns:
        ``brightness``, the mean in [0, 1]; ``contrast``, the largest difference that a channel has
        between its darkest and its brightest two hundredth, in [0, 1]; ``colours``, the share of
        the pixels whose colour is not the usual one; ``sharpness``, the share of the differences
        between neighbouring pixels that a blur would take away, in [0, 1].
    """
    fewer = [reduced(opaque(pixels)) for pixels in pictures]
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, pixels in enumerate(fewer):
        alike.setdefault(pixels.shape, []).append(i)
    found: list[dict[str, float]] = [{}] * len(fewer)
    for places in alike.values():
        step = max(1, _TOGETHER // fewer[places[0]].nbytes)
        for begin in range(0, len(places), step):
            some = places[begin : begin + step]
            values = _of_one_size(np.stack([fewer[i] for i in some]))
            for i, row in zip(some, values.tolist(), strict=True):
                found[i] = dict(zip(MEASURES, row, strict=True))
    return found


def _of_one_size(pictures: np.ndarray) -> np.ndarray:
    """N x H x W x C uint8 to N x 4: what :data:`MEASURES` names, of each."""
    channels = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    every = 2 if min(channels.shape[2:]) >= _ENOUGH else 1
    low, median, high = _levels(channels)
    lowest, highest = np.maximum(median - _UNLIKE, 0), np.minimum(median + _UNLIKE, 255)
    unlike = np.zeros((len(pictures), *channels.shape[2:]), bool)
    for c in range(channels.shape[1]):
        # What is lower becomes a large number, as bytes have no sign: one comparison for both.
        above = channels[:, c] - _each(lowest[:, c])
        unlike |= above > _each(highest[:, c] - lowest[:, c])
    total = channels.sum(1, dtype=np.int16)  # grey, but for a factor
    sharpness = _sharpness(total[:, :, ::every]), _sharpness(total[:, ::every].swapaxes(1, 2))
    columns = (
        total.mean((1, 2)) / (255 * channels.shape[1]),
        (high - low).max(1) / 255,
        unlike.mean((1, 2)),
        np.minimum(*sharpness),
    )
    return np.stack(columns, 1)


def _each(values: np.ndarray) -> np.ndarray:
    """A value for each picture, beside its pixels."""
    return values.astype(np.uint8)[:, None, None]


def opaque(pixels: np.ndarray) -> np.ndarray:
    """H x W x 1 or 3 uint8: over white where it is transparent."""
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if pixels.shape[2] in (1, 3):
        return pixels
    colour, opacity = pixels[:, :, :-1].astype(np.float32), pixels[:, :, -1:] / np.float32(255)
    return np.asarray(np.rint(colour * opacity + 255 * (1 - opacity)), np.uint8)


def _levels(channels: np.ndarray) -> np.ndarray:
    """Of each channel the darkest two hundredth, the middle and the brightest two hundredth.

    Args:
        channels: N x C x H x W uint8.

    Returns:
        3 x N x C.
    """
    n, c, height, width = channels.shape
    upto = _histograms(channels.reshape(n * c, -1)).cumsum(1)
    wanted = height * width * np.array((0.005, 0.5, 0.995))
    return np.stack([(upto < of).sum(1).reshape(n, c) for of in wanted])


def _histograms(rows: np.ndarray) -> np.ndarray:
    """How often each row has each of the 256 values."""
    if rows.shape[1] > 12_000:  # Pillow counts faster, but each row needs calls of its own
        return np.array([Image.fromarray(row[None]).histogram() for row in rows])
    places = rows + 256 * np.arange(len(rows))[:, None]
    return np.bincount(places.ravel(), minlength=256 * len(rows)).reshape(-1, 256)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def reduced(pixels: np.ndarray) -> np.ndarray:
    """The picture with means over squares of pixels, uint8."""
    factor = -(-max(pixels.shape[:2]) // SIDE)
    if factor > 1:
        # Pillow takes a fiftieth of numpy's time, and lets other threads run meanwhile.
        means = np.asarray(_picture(pixels).reduce(factor))
        pixels = means.reshape(*means.shape[:2], -1)
    return pixels


def _sharpness(grey: np.ndarray) -> np.ndarray:
    """How much of the differences down the columns a blur takes away (Crete et al. 2007).

    Args:
        grey: N x H x W int16, of at most 765, so that nine times a difference is no larger than
            int16 holds.

    Returns:
        One for each of the N.
    """
    grey = np.ascontiguousarray(grey)
    length = grey.shape[1]
    window = min(_WINDOW, length)
    if length < 3:
        return np.ones(len(grey))  # nothing can be said of it
    before = np.abs(grey[:, 1:] - grey[:, :-1])
    # A mean over a window differs from the next one by what comes in and what goes out; beyond its
    # edges the picture goes on as it is there.
    first, last = window // 2, window - window // 2
    edges = grey[:, :1].repeat(first, 1), grey[:, -1:].repeat(last - 1, 1)
    framed = np.concatenate([edges[0], grey, edges[1]], 1)
    after = np.abs(framed[:, window : window + length - 1] - framed[:, : length - 1])
    whole = before.sum((1, 2), dtype=np.int64)
    before *= window
    taken = np.maximum(before - after, 0).sum((1, 2), dtype=np.int64)
    return np.where(whole > 0, taken / np.maximum(window * whole, 1), 1.0)


def faults(pictures: "Pictures") -> list[Fault]:
    """The pictures of each kind of fault, in the order of :data:`LIMITS`; kinds without are there.

    Too small is what has less than a tenth of the usual side (the square root of width times
    height, of which the median counts), or is narrower than 8 pixels. Of a blank picture nothing
    is said of its colours, and of neither whether it is blurred.
    """
    widths, heights = (of.astype(np.float64) for of in (pictures.widths, pictures.heights))
    sides = np.sqrt(widths * heights)
    usual = sides / np.median(sides) if len(sides) else sides
    shorter, longer = np.minimum(widths, heights), np.maximum(widths, heights)
    contrast, colours, sharpness = (
        pictures.measures[name] for name in ("contrast", "colours", "sharpness")
    )
    blank = contrast < LIMITS["blank"]
    one_colour = ~blank & (colours < LIMITS["one colour"])
    blurred = ~blank & ~one_colour & (sharpness < LIMITS["blurred"])
    proportions = longer / np.maximum(shorter, 1)
    return [
        _fault("blank", "contrast", blank, contrast),
        _fault("one colour", "share of other colours", one_colour, colours),
        _fault(
            "too small",
            "side, of the usual one",
            (usual < LIMITS["too small"]) | (shorter < _LEAST_SIDE),
            usual,
        ),
        _fault("blurred", "sharpness", blurred, sharpness),
        _fault(
            "extreme proportions",
            "longer side, of the shorter",
            proportions > LIMITS["extreme proportions"],
            proportions,
            worst_is_low=False,
        ),
    ]


def _fault(
    kind: str, value: str, has: np.ndarray, values: np.ndarray, *, worst_is_low: bool = True
) -> Fault:
    positions = np.flatnonzero(has)
    order = np.argsort(values[positions] * (1 if worst_is_low else -1), kind="stable")
    return Fault(kind, value, positions[order], values[positions[order]])
