"""Whether two pictures are one and the same, turned, mirrored, cropped a little or saved again.

Three steps, each of which leaves few pairs to the next one:

1. :func:`candidates`: nearest neighbours of a short description of the small pixels that the eight
   orientations leave as it is, and a crop nearly so. No step compares every picture with every one.
2. :func:`fit_small`: the small pixels themselves, in all orientations and crop windows.
3. :func:`compare` and :func:`is_same`: both pictures at up to 128 pixels, laid over each other by
   moving and stretching one. What then differs anywhere by more than saving a file changes makes
   it another picture. A simple flat drawing (a letter, an arrow, a flag) turned or mirrored is
   another one too, since many are: a "b" is no "d".

A description is of cosines of low frequency (a discrete cosine transform) of three channels:
brightness and two of colour. Turning and mirroring change only signs and swap rows with columns.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from zoo.collection.neighbours import each_once

__all__ = [
    "EXACT",
    "LIKELY",
    "SIDES",
    "Comparison",
    "Fit",
    "candidates",
    "compare",
    "fit_small",
    "is_same",
    "likely",
    "may_be_same",
    "may_turn",
    "ordered",
    "side_for",
    "turned",
    "worth_trying",
]

Floats = np.ndarray
Pixels = np.ndarray

Array = np.ndarray
Rows = Callable[[np.ndarray], np.ndarray]
"""Gives the small pixels at some positions, n x 32 x 32 x 3."""

SIDES = (16, 20, 24, 28, 32, 48, 64, 96, 128)
"""Sides of the squares that pictures are compared as; the largest that both of a pair have."""
ORIENTATIONS = 8
LIKELY = 0.4
"""The largest misfit of small pixels, in parts of their contrast, that is looked at closely."""
_COSINES = 6
_CROPS = ((0.0, 1.0), (0.05, 1.0), (0.0, 0.95), (0.05, 0.95))
"""Which part of a side is left: all, without the first or the last twentieth, without both."""
_CHANNELS = np.array(
    [[1, 1, 1], [1.5**0.5, 0, -(1.5**0.5)], [0.5**0.5, -(2**0.5), 0.5**0.5]], np.float32
) / np.float32(3**0.5)
"""Red, green and blue to brightness and two of colour; a rotation, so that distances stay."""
_FINE = 0.7
"""The blur of the finest detail that is compared, in pixels."""
_NOISE = 2
"""Grey levels that are not taken for contrast."""
_LEAST, _MOST = np.array([0.75, 0.75, -0.3, -0.3]), np.array([1.35, 1.35, 0.25, 0.25])
"""How far one picture is stretched (rows, columns) and moved to lie over another."""


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``pixels`` (... x H x W x C) in one of eight orientations; 0 is as it is.

    Bit 1 mirrors left and right, bit 2 upside down, bit 4 swaps rows and columns after that.
    """
    if orientation & 1:
        pixels = pixels[..., :, ::-1, :]
    if orientation & 2:
        pixels = pixels[..., ::-1, :, :]
    return pixels.swapaxes(-3, -2) if orientation & 4 else pixels


# -- descriptions --------------------------------------------------------------------------------


def _waves(side: int, start: float, stop: float) -> Floats:
    """Cosines over a part of a side, ``_COSINES x side``: the mean square of a picture is kept."""
    edges = np.arange(side + 1) / side
    low, high = np.clip(edges[:-1], start, stop), np.clip(edges[1:], start, stop)
    middle = ((low + high) / 2 - start) / (stop - start)
    waves = np.cos(np.pi * np.arange(_COSINES)[:, None] * middle) * (high - low) / (stop - start)
    waves[1:] *= 2**0.5
    return waves.astype(np.float32)


def cosines(small: Pixels) -> Floats:
    """N x side x side x 3 to N x crops x crops x 3 x ``_COSINES`` x ``_COSINES``, rows first."""
    crops = len(_CROPS)
    waves = np.concatenate([_waves(small.shape[1], *crop) for crop in _CROPS])
    x = small.astype(np.float32) @ _CHANNELS.T
    x = np.einsum("vy,nyxc->nvxc", waves, x, optimize=True)
    x = np.einsum("ux,nvxc->nvuc", waves, x, optimize=True)
    x = x.reshape(len(x), crops, _COSINES, crops, _COSINES, 3)
    found: Floats = x.transpose(0, 1, 3, 5, 2, 4)
    return found


def _unturned(waves: Floats) -> Floats:
    """What all eight orientations of a picture have in common, ``... x 3 x K x K`` to ``... x F``.

    Two pictures are never farther apart here than in their best orientation.
    """
    size = np.abs(waves)
    swapped = size.swapaxes(-1, -2)
    rows, columns = np.triu_indices(_COSINES, 1)
    diagonal = np.arange(_COSINES)
    parts = [
        ((size + swapped) / 2**0.5)[..., rows, columns],
        (np.abs(size - swapped) / 2**0.5)[..., rows, columns],
        size[..., diagonal, diagonal],
    ]
    return np.concatenate(parts, -1).reshape(*waves.shape[:-3], -1)


_ASKED = ((0, 0), (3, 3))
"""The crops (of rows, of columns) whose neighbours are looked for: none, and all round."""
EXACT = 50_000
"""Pictures up to which the descriptions of all are compared, as 32-bit numbers."""
_SCANNED = 4096
"""Descriptions that each is compared with where there are more."""
_LONGEST = 4
"""Waves of a side that the cells and what is scanned in them know of."""
_BLOCK = 1024
_SEARCHED = 16384
_PAIRS = 16384


def candidates(
    small: Rows,
    count: int,
    k: int = 10,
    more: Iterable[Array] = (),
    new: np.ndarray | None = None,
) -> Array:
    """Pairs (i < j) of pictures that may be the same, M x 2; at most ``2 k`` a picture.

    Args:
        small: of ``count`` pictures.
        more: pairs of other origin, such as neighbours by features, to be looked at as well; in
            blocks, since of very many pictures they are too many.
        new: whose pairs are wanted, ``count`` bool; of all unless given.
    """
    new = np.ones(count, bool) if new is None else new
    asked, contrast = _described(small, count)
    index = _index(asked[0])
    kept = [np.empty((0, 2), np.int64)]
    some = (pairs[new[pairs].any(1)] for pairs in more)
    for pairs in itertools.chain(some, _found(index, asked, new, min(k + 1, count))):
        for part in np.array_split(pairs, len(pairs) // _PAIRS + 1):
            limit = LIKELY * (contrast[part].max(1) + _NOISE)
            kept.append(part[_apart(asked, part) <= limit])
    return ordered(np.concatenate(kept))


def _described(small: Rows, count: int) -> tuple[Floats, Floats]:
    """The descriptions of all pictures, whole and cropped all round, and their contrast."""
    kind = np.float32 if count <= EXACT else np.float16
    asked = np.empty((len(_ASKED), count, 3 * _COSINES**2), kind)
    contrast = np.empty(count, np.float32)
    for begin in range(0, count, _BLOCK):
        part = np.arange(begin, min(begin + _BLOCK, count))
        waves = cosines(small(part))
        contrast[part] = _contrast(waves)
        for found, (rows, columns) in zip(asked, _ASKED, strict=True):
            found[part] = _unturned(waves[:, rows, columns])
    return asked, contrast


def _index(described: Floats) -> Any:
    """What finds the nearest of the descriptions that :func:`_sought` gives: of very many by cells,
    and nearly always."""
    from zoo.optional import optional

    faiss = optional("faiss", "faiss-cpu", "collection")
    count = len(described)
    width = _sought(described[:1], count).shape[1]
    if count <= EXACT:
        index = faiss.IndexFlatL2(width)
    else:
        cells = 4 * math.isqrt(count)
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
        index.cp.niter, index.cp.max_points_per_centroid = 6, 40
        index.cp.min_points_per_centroid = 1
        index.nprobe = max(_SCANNED * cells // count, 1)
        step = max(count // (40 * cells), 1)
        index.train(_sought(described[::step], count))
    for begin in range(0, count, _SEARCHED):
        index.add(_sought(described[begin : begin + _SEARCHED], count))
    return index


def _sought(described: Floats, count: int) -> Floats:
    """What the nearest are looked for by: of very many the longest waves, half as many numbers.

    Of 4,000 photographs that were turned, cut and saved again, .999 were among the nearest so, and
    all by all numbers, in twice the time. What is found is compared by all of them.
    """
    if count > EXACT:
        _, columns = np.triu_indices(_COSINES, 1)  # of each pair of waves the shorter one
        waves = np.concatenate([columns, columns, np.arange(_COSINES)])  # as in _unturned
        planes = described.reshape(len(described), 3, -1)
        described = planes[..., waves < _LONGEST].reshape(len(described), -1)
    return described.astype(np.float32)


def _found(index: Any, asked: Floats, new: np.ndarray, k: int) -> Iterator[Array]:
    """The pairs of each new picture and the nearest descriptions, in blocks."""
    rows = np.flatnonzero(new)
    for queries in asked:
        for begin in range(0, len(rows), _SEARCHED):
            block = rows[begin : begin + _SEARCHED]
            _, near = index.search(_sought(queries[block], len(queries)), k)
            yield ordered(np.stack([np.repeat(block, k), near.ravel()], 1))


def _apart(asked: Floats, pairs: Array) -> Floats:
    """The least distance of the descriptions of pairs, whole or cropped all round."""
    first, second = pairs.T
    both = [(0, 0), (0, 1), (1, 0)]
    found: Floats = np.min(
        [
            np.sqrt(np.square(asked[a][first].astype(np.float32) - asked[b][second]).sum(1))
            for a, b in both
        ],
        axis=0,
    )
    return found


def ordered(pairs: Array) -> Array:
    """Each pair once, the smaller first, without those of a picture with itself or with -1."""
    low, high = pairs.min(1).astype(np.int64), pairs.max(1).astype(np.int64)
    there = (low >= 0) & (low != high)
    low, high = low[there], high[there]
    count = int(high.max(initial=0)) + 1
    return np.stack(np.divmod(each_once(low * count + high), count), 1)


class Fit(NamedTuple):
    """How well the small pixels of M pairs fit, for each orientation of the second."""

    misfit: Floats
    """M x 8: the difference in parts of the contrast, the least over all crops of either one."""
    crop: Array
    """M x 8: with which of 32 crops: 16 of the first, then 16 of the second."""


@functools.lru_cache(ORIENTATIONS)
def _signs(orientation: int) -> Floats:
    wave = np.arange(_COSINES)
    across = (-1.0) ** wave if orientation & 1 else np.ones(_COSINES)
    down = (-1.0) ** wave if orientation & 2 else np.ones(_COSINES)
    return (down[:, None] * across).astype(np.float32)


def _turned_waves(waves: Floats, orientation: int) -> Floats:
    signed: Floats = waves * _signs(orientation)
    return signed.swapaxes(-1, -2) if orientation & 4 else signed


def fit_small(small: Rows, pairs: Array) -> Fit:
    """For each pair how well the small pixels fit in each orientation of its second picture."""
    parts = [_fit_small(small, pairs[i : i + _BLOCK]) for i in range(0, len(pairs), _BLOCK)]
    if not parts:
        return Fit(np.empty((0, ORIENTATIONS), np.float32), np.empty((0, ORIENTATIONS), np.int64))
    return Fit(np.concatenate([p.misfit for p in parts]), np.concatenate([p.crop for p in parts]))


def _fit_small(small: Rows, pairs: Array) -> Fit:
    rows, places = np.unique(pairs, return_inverse=True)
    waves = cosines(small(rows))
    contrast = _contrast(waves)
    places = places.reshape(pairs.shape)
    first, second = waves[places[:, 0]], waves[places[:, 1]]
    # Crops of the second are compared as they lie, so the first is turned the other way.
    there = [_turned_waves(second[:, 0, 0], each) for each in range(ORIENTATIONS)]
    back = [_turned_waves(first[:, 0, 0], _inverse(each)) for each in range(ORIENTATIONS)]
    both = np.concatenate([_distances(first, there), _distances(second, back)], 1)
    crop = both.argmin(1)
    misfit = np.take_along_axis(both, crop[:, None], 1)[:, 0]
    return Fit(misfit / (contrast[places].max(1) + _NOISE)[:, None], crop)


def _distances(crops: Floats, wholes: list[Floats]) -> Floats:
    """Of each crop (n x rows x columns x ...) from each whole picture (n x ...), n x 16 x 8.

    By products of matrices, in which a tenth of a grey level may get lost.
    """
    flat = crops.reshape(len(crops), len(_CROPS) ** 2, -1)
    whole = np.stack([each.reshape(len(each), -1) for each in wholes], 2)
    squares = np.square(flat).sum(2)[:, :, None] + np.square(whole).sum(1)[:, None]
    found: Floats = np.sqrt(np.maximum(squares - 2 * (flat @ whole), 0))
    return found


def _contrast(waves: Floats) -> Floats:
    """The standard deviation of a picture's low frequencies, in grey levels."""
    whole = waves[:, 0, 0].reshape(len(waves), 3, -1)
    found: Floats = np.sqrt(np.square(whole[:, :, 1:]).sum((1, 2)))
    return found


def _inverse(orientation: int) -> int:
    """The orientation that undoes another one."""
    if orientation & 4:  # what mirrored columns before the swap mirrors rows after it
        return 4 | (orientation & 1) << 1 | (orientation & 2) >> 1
    return orientation


# -- laying one over the other -------------------------------------------------------------------


class Comparison(NamedTuple):
    """What is left of a pair when one picture lies over the other as well as it can."""

    side: int
    """Of the squares that were compared."""
    explained: float
    """The correlation of the detail of both, 1 for the same picture."""
    texture: float
    """How much detail there is, in grey levels: next to nothing in a gradient."""
    structure: float
    """The same of what is coarser than the marks that compression leaves."""
    different: float
    """The largest difference of any small part, in grey levels, beyond what its edges explain."""
    detail: float
    """The share of the picture that is not flat: little in a drawing, most of a photograph."""
    tones: float
    """The entropy of the brightness in bits: 4 to 8 in a photograph, less in a drawing."""
    contrast: float
    """The standard deviation of the brightness, in grey levels."""
    stretch: float
    """By how much one picture was stretched in height more than in width, 1 for not at all."""


class _Laid(NamedTuple):
    scale: tuple[float, float]  # of rows, of columns
    shift: tuple[float, float]


def compare(
    first: Pixels, second: Pixels, crop: int, enough: Callable[[Comparison], bool] | None = None
) -> Comparison:
    """Lay ``first`` over ``second`` (both side x side x 3, of one orientation) and look.

    Args:
        crop: where to begin, as :class:`Fit` has it.
        enough: when it says so of two whole pictures as they lie, nothing is moved, which takes
            most of the time and of pictures that were only saved again makes no difference.
    """
    a, b = _planes(first), _planes(second)
    laid = _begin(crop)
    if enough is not None and laid == _begin(0):
        seen = _looked(a, b, laid)
        if enough(seen):
            return seen
    for coarse, steps in ((4, 5), (2, 5), (1, 2)):
        if a.shape[-1] // coarse >= 16:
            laid = _follow(_shrunk(a, coarse), _shrunk(b, coarse), laid, steps)
    return _looked(a, b, laid)


def _planes(pixels: Pixels) -> Floats:
    """3 x side x side: matrices that move and blur a side are multiplied from left and right."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


def _begin(crop: int) -> _Laid:
    crops = len(_CROPS)
    which, (rows, columns) = crop // crops**2, divmod(crop % crops**2, crops)
    parts = [_CROPS[rows], _CROPS[columns]]
    if which == 0:  # the second is a part of the first
        scale, shift = [b - a for a, b in parts], [a for a, _ in parts]
    else:
        scale = [1 / (b - a) for a, b in parts]
        shift = [-a / (b - a) for a, b in parts]
    return _Laid((scale[0], scale[1]), (shift[0], shift[1]))


def _shrunk(planes: Floats, by: int) -> Floats:
    side = planes.shape[-1] // by
    cut = planes[:, : side * by, : side * by]
    found: Floats = cut.reshape(3, side, by, side, by).mean((2, 4), dtype=np.float32)
    return found


@functools.lru_cache(128)
def _blur(side: int, sigma: float) -> Floats:
    """A matrix that blurs one side; what lies beyond an end counts as nothing."""
    at = np.arange(side)
    weights = np.exp(-0.5 * np.square((at[:, None] - at) / sigma))
    weights[weights < 1e-6] = 0  # processors are slow with the smallest numbers there are
    found: Floats = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return found


@functools.lru_cache(128)
def _box(side: int, width: int) -> Floats:
    """A matrix of means over ``width`` neighbours, one row a place where all of them are."""
    at, begin = np.arange(side), np.arange(side - width + 1)[:, None]
    return ((at >= begin) & (at < begin + width)).astype(np.float32) / np.float32(width)


def _sampling(side: int, scale: float, shift: float) -> tuple[Floats, np.ndarray]:
    """A matrix that reads a side at ``scale * x + shift`` (linearly), and which places are there.

    Places are fractions of the side.
    """
    at = ((np.arange(side) + 0.5) / side * scale + shift) * side - 0.5
    there = (at > -0.75) & (at < side - 0.25)
    at = np.clip(at, 0, side - 1)
    low = np.minimum(at.astype(int), side - 2)
    matrix = np.zeros((side, side), np.float32)
    rows = np.arange(side)
    matrix[rows, low] = 1 - (at - low)
    matrix[rows, low + 1] += at - low
    return matrix, there


def _follow(a: Floats, b: Floats, laid: _Laid, steps: int) -> _Laid:
    """Move and stretch ``a`` towards ``b`` by Gauss and Newton (Lucas and Kanade's way)."""
    side = a.shape[-1]
    blur = _blur(side, 1.0)
    a, b = blur @ a @ blur.T, blur @ b @ blur.T
    down, across = np.gradient(a, axis=(1, 2))
    place = ((np.arange(side) + 0.5) / side).astype(np.float32)
    now = np.array([*laid.scale, *laid.shift])
    for _ in range(steps):
        rows, rows_there = _sampling(side, now[0], now[2])
        columns, columns_there = _sampling(side, now[1], now[3])
        there = rows_there[:, None] & columns_there
        rest = (b - rows @ a @ columns.T) * there
        gy, gx = ((rows @ each @ columns.T) * (there * side) for each in (down, across))
        slopes = np.stack([gy * place[:, None], gx * place, gy, gx]).reshape(4, -1)
        normal = slopes @ slopes.T
        normal += np.eye(4, dtype=np.float32) * (1e-3 * np.trace(normal) + 1e-6)
        step = np.clip(np.linalg.solve(normal, slopes @ rest.ravel()), -0.05, 0.05)
        now = np.clip(now + step, _LEAST, _MOST)
        if np.abs(step).max() * side < 0.02:
            break
    return _Laid((float(now[0]), float(now[1])), (float(now[2]), float(now[3])))


def _looked(a: Floats, b: Floats, laid: _Laid) -> Comparison:
    side = a.shape[-1]
    rows, rows_there = _sampling(side, laid.scale[0], laid.shift[0])
    columns, columns_there = _sampling(side, laid.scale[1], laid.shift[1])
    tones = min(_tones(a), _tones(b))
    contrast = min(float(each.mean(0).std()) for each in (a, b))
    a = (rows @ a @ columns.T)[:, rows_there][:, :, columns_there]
    b = b[:, rows_there][:, :, columns_there]
    if min(a.shape[1:]) < side // 2:
        return Comparison(side, 0.0, 0.0, 0.0, 255.0, 0.0, tones, contrast, 1.0)
    a, b = (np.tensordot(_CHANNELS, each, 1) for each in (a, b))
    fine, fair, wide = (
        [_blurred(each, sigma) for each in (a, b)]
        for sigma in (_FINE, max(1.3, side / 64), side / 16)
    )
    edges = np.hypot(*np.gradient(fine[1], axis=(1, 2)))
    rest = fine[0] - fine[1]
    return Comparison(
        side,
        explained=_correlation(fine[0] - wide[0], fine[1] - wide[1]),
        texture=float(np.sqrt(np.square(fine[1] - wide[1]).sum(0).mean())),
        structure=_correlation(fair[0] - wide[0], fair[1] - wide[1]),
        different=max(
            _largest(rest[:1], edges[:1], max(4, side // 16)),
            _largest(rest[1:], edges[1:], max(8, side // 12)),  # JPEG keeps less of colours
        ),
        detail=min(_detail(each[0]) for each in fine),
        tones=tones,
        contrast=contrast,
        stretch=laid.scale[0] / laid.scale[1],
    )


def _blurred(planes: Floats, sigma: float) -> Floats:
    height, width = planes.shape[1:]
    found: Floats = _blur(height, sigma) @ planes @ _blur(width, sigma).T
    return found


def _correlation(a: Floats, b: Floats) -> float:
    """Of two pictures without their coarse parts; 1 where there is less than noise of either."""
    noise = float(a[0].size)
    power = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return (float((a * b).sum()) + noise) / (power + noise)


def _largest(rest: Floats, edges: Floats, box: int) -> float:
    """The largest mean difference of a box, beyond what its edges explain."""
    down, across = _box(rest.shape[1], box), _box(rest.shape[2], box)
    rest, edges = np.abs(down @ rest @ across.T), down @ edges @ across.T
    return float((rest - 0.5 * edges).max())


def _detail(brightness: Floats) -> float:
    slope = np.abs(np.gradient(brightness / 3**0.5, axis=(0, 1))).max(0)
    return float((slope > 3).mean())


def likely(small: Rows, pairs: Array, fits: Fit) -> np.ndarray:
    """Which pairs are worth a close look, M bool: of plain drawings, those that fit as they lie."""
    plain = {}
    for begin in range(0, len(pairs), _BLOCK):
        rows = each_once(pairs[begin : begin + _BLOCK])
        for row, pixels in zip(rows.tolist(), small(rows), strict=True):
            plain[row] = _tones(pixels.transpose(2, 0, 1)) < _PLAIN
    either = np.array([plain[a] or plain[b] for a, b in pairs.tolist()], bool)
    found: np.ndarray = np.where(
        either, fits.misfit[:, 0] <= LIKELY / 2, fits.misfit.min(1) <= LIKELY
    )
    return found


def _tones(planes: Floats) -> float:
    counts = np.bincount(planes.mean(0).astype(int).ravel(), minlength=256)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


# -- the verdict ---------------------------------------------------------------------------------


def side_for(*sizes: int) -> int:
    """The side to compare pictures at, the least of whose widths and heights are ``sizes``."""
    return max((side for side in SIDES if side <= min(sizes)), default=SIDES[0])


def is_same(seen: Comparison, is_turned: bool, proportions: float) -> bool:
    """Whether a pair that was laid over each other is one picture.

    Args:
        is_turned: the second had to be turned or mirrored.
        proportions: width by height of the second, by that of the first.
    """
    if seen.contrast < _BLANK:
        return False  # nothing is seen that could tell pictures apart
    drawn_in_detail = seen.detail >= _DETAIL and seen.side >= 96
    if seen.texture >= _TEXTURE and (seen.tones >= _TONES or drawn_in_detail):
        return _agrees(seen, _LARGE if seen.side >= 48 else _TINY)
    return (
        not is_turned
        and seen.contrast >= 2 * _BLANK  # faint outlines of different things hardly differ
        and _agrees(seen, _FLAT if seen.texture >= _TEXTURE else _GRADIENT)
        and abs(math.log(proportions * seen.stretch)) < 0.05
    )


def _agrees(seen: Comparison, limits: tuple[tuple[float, float, float], ...]) -> bool:
    return any(
        seen.explained >= explained and seen.structure >= structure and seen.different <= different
        for explained, structure, different in limits
    )


def may_turn(pixels: Pixels) -> bool:
    """Whether :func:`is_same` may take a picture and a turned one for the same: no simple drawing.

    Args:
        pixels: side x side x 3, as :func:`compare` is given them.
    """
    planes = _planes(pixels)
    if _tones(planes) >= _TONES:
        return True
    brightness = _blurred(np.tensordot(_CHANNELS[:1], planes, 1), _FINE)
    return len(pixels) >= 96 and _detail(brightness[0]) >= 0.8 * _DETAIL  # a part may have more


def may_be_same(seen: Comparison) -> bool:
    """Whether small pixels, laid over each other, allow for the pictures to be the same."""
    return seen.contrast >= _BLANK / 2 and min(seen.explained, seen.structure) >= 0.6


def worth_trying(misfit: Floats) -> list[int]:
    """The orientations that fit about as well as the best one, which may be by accident."""
    limit = min(LIKELY, 1.5 * float(misfit.min()) + 0.05)
    order = np.argsort(misfit, kind="stable")
    return [int(each) for each in order if misfit[each] <= limit][:4]


_BLANK = 4.0
_TONES, _DETAIL = 4.2, 0.42
"""What a photograph has at least one of, and a symbol neither."""
_PLAIN = 3.0
"""Bits of brightness of the small pixels, below which no photograph is."""
_TEXTURE = 2.0
"""Grey levels: a picture with less is a gradient, which turned is another one."""
_LARGE = ((0.96, 0.98, 4.0), (0.972, 0.987, 9.0), (0.99, 0.994, 14.0))
"""Of photographs: the least correlations (of all detail, of structure) and the largest difference.

Saved as JPEG of quality 30, hardly larger than they are compared, they had a structure of .989 and
differed by up to 8.4, larger ones .995 and more; of 256 colours, .998 and up to 12.6; as thumbnails
.983 and 2.8. Pictures of one face, taken one after the other, had .989 and 15, .988 and 5."""
_TINY = ((0.88, 0.92, 9.0),)
"""The same of tiny pictures, which strong compression changes more."""
_FLAT, _GRADIENT = ((0.985, 0.99, 6.0),), ((0.985, 0.99, 3.0),)
"""The same of flat drawings and of gradients, of which many are nearly alike."""
