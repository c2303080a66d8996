"""Pictures that are worth a look because of how they are: blank, tiny, blurred, very long.

What is measured costs a thousandth of a second a picture, while it is decoded; what counts as a
fault is decided later, of the numbers that were kept.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from zoo.collection.store import Pictures

__all__ = ["Fault", "faults", "measure", "opaque", "reduced"]

SIDE = 256
"""Pixels: a longer picture is reduced by a whole number to no more, before it is measured."""

_ENOUGH = 128
"""Pixels: of a picture no narrower, levels and sharpness are of every other line alone."""

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


def measure(pixels: np.ndarray, width: int, height: int) -> dict[str, float]:
    """How bright, contrasted, coloured and sharp a picture is.

    Args:
        pixels: H x W x C uint8, upright; C is 1, 2, 3 or 4, of which the second and the fourth are
            opacity. They may be fewer than the picture has.
        width: of the picture itself.
        height: of the picture itself.

    Returns:
        ``brightness``, the mean in [0, 1]; ``contrast``, the largest difference that a channel has
        between its darkest and its brightest two hundredth, in [0, 1]; ``colours``, the share of
        the pixels whose colour is not the usual one; ``sharpness``, the share of the differences
        between neighbouring pixels that a blur would take away, in [0, 1].
    """
    small = reduced(opaque(pixels))
    every = 2 if min(small.shape[:2]) >= _ENOUGH else 1
    low, median, high = _levels(_picture(small[::every]))
    channels = np.ascontiguousarray(np.moveaxis(small, 2, 0))
    unlike = np.zeros(small.shape[:2], bool)
    for values, middle in zip(channels, median.tolist(), strict=True):
        lowest, highest = max(middle - _UNLIKE, 0), min(middle + _UNLIKE, 255)
        # What is lower becomes a large number, as bytes have no sign: one comparison for both.
        unlike |= values - np.uint8(lowest) > highest - lowest
    total = channels.sum(0, dtype=np.int16)  # grey, but for a factor
    return {
        "brightness": float(total.mean() / (255 * len(channels))),
        "contrast": float((high - low).max() / 255),
        "colours": np.count_nonzero(unlike) / unlike.size,
        "sharpness": min(_sharpness(total[:, ::every]), _sharpness(total[::every].T)),
    }


def opaque(pixels: np.ndarray) -> np.ndarray:
    """H x W x 1 or 3 uint8: over white where it is transparent."""
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if pixels.shape[2] in (1, 3):
        return pixels
    colour, opacity = pixels[:, :, :-1].astype(np.float32), pixels[:, :, -1:] / np.float32(255)
    return np.asarray(np.rint(colour * opacity + 255 * (1 - opacity)), np.uint8)


def _levels(picture: Image.Image) -> np.ndarray:
    """Of each channel the darkest two hundredth, the middle and the brightest two hundredth.

    Returns:
        3 x C.
    """
    upto = np.reshape(picture.histogram(), (-1, 256)).cumsum(1)
    wanted = picture.width * picture.height * np.array((0.005, 0.5, 0.995))
    return np.array([np.searchsorted(each, wanted) for each in upto]).T


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


def _sharpness(grey: np.ndarray) -> float:
    """How much of the differences down the columns a blur takes away (Crete et al. 2007).

    Args:
        grey: int16, of at most 765, so that nine times a difference is no larger than int16 holds.
    """
    grey = np.ascontiguousarray(grey)
    length = len(grey)
    window = min(_WINDOW, length)
    if length < 3:
        return 1.0  # nothing can be said of it
    before = np.abs(grey[1:] - grey[:-1])
    # A mean over a window differs from the next one by what comes in and what goes out; beyond its
    # edges the picture goes on as it is there.
    first, last = window // 2, window - window // 2
    framed = np.concatenate([grey[:1].repeat(first, 0), grey, grey[-1:].repeat(last - 1, 0)])
    after = np.abs(framed[window : window + length - 1] - framed[: length - 1])
    whole = int(before.sum(dtype=np.int64))
    before *= window
    taken = int(np.maximum(before - after, 0).sum(dtype=np.int64))
    return taken / (window * whole) if whole else 1.0


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
