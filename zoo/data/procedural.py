"""Pictures that are made by procedure, without end: colour, shapes and texture to learn from.

Networks learn features of photographs from such pictures alone, as was found by Baradad et al. 2021
("Learning to see by looking at noise"), Baradad et al. 2022 ("Procedural image programs") and
Kataoka et al. 2020 (fractals). A picture is a function of its part and its index, and of nothing
else.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from zoo.data.source import Part, Source
from zoo.images import chunk_size
from zoo.spec import Preprocessing

PROCEDURAL = "procedural"
"""The name of the data set."""

COUNTS = {"train": 20_000, "test": 2_000}
_VERSION = 1
"""To be raised when a picture gets other pixels, so that old files are not reused."""
_GREY = np.array([0.299, 0.587, 0.114])


def is_procedural(data: str | Path) -> bool:
    """Whether data are these pictures: a file or folder of the same name comes first."""
    return str(data) == PROCEDURAL and not os.path.lexists(data)


def open_procedural(split: str, preprocessing: Preprocessing) -> Source:
    """The pictures of a part, in the model's size; the labels are the kinds."""
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    count, size = COUNTS[split], chunk_size(preprocessing)

    def parts() -> Iterator[Part]:
        for start in range(0, count, size):
            indices = range(start, min(start + size, count))
            images = np.stack([picture(split, index, *shape) for index in indices])
            yield Part(torch.from_numpy(images), [index % len(KINDS) for index in indices], [])

    return Source(
        name=PROCEDURAL,
        path=Path(PROCEDURAL),
        split=split,
        most=count,
        shape=shape,
        key=f"{PROCEDURAL} {_VERSION} {split}",
        parts=parts,
        classes=tuple(KINDS),
        licence="CC0-1.0 (made by latentzoo)",
    )


def picture(split: str, index: int, channels: int, height: int, width: int) -> np.ndarray:
    """One picture, C x H x W uint8; the kinds take turns."""
    rng = np.random.default_rng([list(COUNTS).index(split), index])
    pixels = list(KINDS.values())[index % len(KINDS)](rng, height, width)
    if channels == 1:
        pixels = (pixels @ _GREY)[..., None]
    pixels = np.clip(np.round(pixels * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def dead_leaves(rng: Generator, height: int, width: int) -> np.ndarray:
    """Discs, squares and bars that cover each other, small ones far more often than large ones."""
    y, x = _grid(height, width)
    image = np.broadcast_to(rng.random(3), (height, width, 3)).copy()
    for _ in range(int(rng.integers(15, 90))):
        radius = 0.04 / (0.08 + 0.92 * rng.random())
        angle, long = rng.random() * np.pi, 1 + 2 * rng.random()
        dy, dx = y - rng.random(), x - rng.random()
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / long
        v = dy * np.cos(angle) - dx * np.sin(angle)
        round_ = rng.random() < 0.5
        inside = u * u + v * v < radius**2 if round_ else np.maximum(abs(u), abs(v)) < radius
        shade = 1 + (rng.random() - 0.5) * (u + v)[inside][:, None] / radius
        image[inside] = rng.random(3) * shade
    return image


def fractal(rng: Generator, height: int, width: int) -> np.ndarray:
    """The points that a few random contracting maps lead to, on a plain ground."""
    maps = int(rng.integers(2, 7))
    turns = rng.random((maps, 2)) * 2 * np.pi
    scales = 0.25 + 0.6 * rng.random((maps, 2))
    shifts = 2 * rng.random((maps, 2)) - 1
    left, right = _rotations(turns[:, 0]), _rotations(turns[:, 1])
    matrices = left @ (scales[:, :, None] * right)
    points = 2 * rng.random((1500, 2)) - 1
    seen = []
    for step in range(24):
        chosen = rng.integers(0, maps, len(points))
        points = np.einsum("nij,nj->ni", matrices[chosen], points) + shifts[chosen]
        if step >= 12:
            seen.append(points)
    all_ = np.concatenate(seen)
    low, high = np.quantile(all_, 0.01, axis=0), np.quantile(all_, 0.99, axis=0)
    cells = ((all_ - low) / np.maximum(high - low, 1e-6) * 0.9 + 0.05) * [height, width]
    rows, columns = cells.astype(int).T
    inside = (cells >= 0).all(1) & (rows < height) & (columns < width)
    counts = np.zeros((height, width))
    np.add.at(counts, (rows[inside], columns[inside]), 1)
    covered = (counts / (counts + counts.mean()))[..., None]
    image: np.ndarray = (1 - covered) * rng.random(3) + covered * rng.random(3)
    return image


def waves(rng: Generator, height: int, width: int) -> np.ndarray:
    """A random program of sines, products and foldings, as shaders are written."""
    y, x = _grid(height, width)
    layers = [x - rng.random(), y - rng.random()]
    layers.append(np.hypot(*layers))
    for _ in range(int(rng.integers(3, 9))):
        first = int(rng.integers(0, len(layers)))
        # Another one: the difference of a layer from itself is blank.
        second = (first + 1 + int(rng.integers(0, len(layers) - 1))) % len(layers)
        a, b = layers[first], layers[second]
        kind = int(rng.integers(0, 3))
        if kind == 0:
            layers.append(np.sin((2 + 18 * rng.random()) * a + 4 * b))
        elif kind == 1:
            layers.append(a * b * 2)
        else:
            layers.append(abs(a - b) * 2 - rng.random())
    mixed = np.tensordot(np.stack(layers[-3:], 2), 2 * rng.random((3, 3)) - 1, 1)
    return 0.5 + 0.5 * np.sin(3 * mixed + 2 * np.pi * rng.random(3))


def clouds(rng: Generator, height: int, width: int) -> np.ndarray:
    """Noise whose spectrum falls as that of photographs, sometimes cut into a few tones."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    stretch = 0.3 + 1.4 * rng.random(2)
    frequency = np.maximum(np.hypot(fy * stretch[0], fx * stretch[1]), 1 / max(height, width))
    spectrum = np.fft.rfft2(rng.random((3, height, width)) - 0.5) / frequency ** (
        0.7 + 1.5 * rng.random()
    )
    noise = np.fft.irfft2(spectrum, (height, width)).transpose(1, 2, 0)
    noise = (noise - noise.mean((0, 1))) / np.maximum(noise.std((0, 1)), 1e-6)
    noise = noise @ (rng.random((3, 3)) - 0.3)
    if rng.random() < 0.3:
        noise = np.round(noise * 1.5) / 1.5
    image: np.ndarray = rng.random(3) + 0.3 * noise
    return image


KINDS: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "dead leaves": dead_leaves,
    "fractal": fractal,
    "waves": waves,
    "clouds": clouds,
}


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the pixels, from 0 to 1: rows and columns."""
    y, x = np.mgrid[:height, :width]
    return (y + 0.5) / height, (x + 0.5) / width


def _rotations(angles: np.ndarray) -> np.ndarray:
    """N x 2 x 2."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
