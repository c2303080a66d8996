"""Data sets for training and measuring: images as uint8, decoded once.

:func:`load_data` takes a name that is known (:mod:`zoo.data.named`), a folder of pictures, a
``.npz`` file, or Parquet as the Hub's data sets ship it. What these hold is one tensor when it fits
into the memory given, and otherwise a file (:mod:`zoo.data.imagefile`).
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from zoo.boundary import cache_folder, typed, user_path
from zoo.data import imagefile
from zoo.data.any_size import ANY_SIZE, is_any_size
from zoo.data.folder import open_folder
from zoo.data.imagefile import ImageFile, ImageRows
from zoo.data.named import NAMED, find_named
from zoo.data.npz import open_npz
from zoo.data.parquet import open_parquet
from zoo.data.shards import Shards
from zoo.data.source import SPLITS, Source
from zoo.data.stream import Stream
from zoo.data.tar import open_tar
from zoo.errors import DataError
from zoo.files import path_text, write_atomically
from zoo.images import nothing_read, refuse_unreadable, skipped_text
from zoo.isolation import isolated
from zoo.spec import Preprocessing
from zoo.system import memory as machine_memory

__all__ = [
    "NAMED",
    "Dataset",
    "ImageFile",
    "ImageRows",
    "load_data",
    "split_validation",
    "to_float",
]

_DECODING = 2
"""A version, to be raised when decoding gives other pixels, so that old files are not reused."""


@dataclass(frozen=True)
class Dataset:
    """Images N x C x H x W uint8, in memory or in a file, with labels when the set has them.

    Labels are N int64, negative where no class is known; ``classes`` are their names, where they
    have any. ``skipped`` is what could not be read, ``notes`` are sentences that a user should see
    once: what was left out on purpose, and what was chosen where there was a choice.
    """

    name: str
    split: str
    images: Tensor | ImageFile | ImageRows | Stream
    labels: Tensor | None
    source: str
    licence: str
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # They come from paths, and go into config.json, cards and metrics.
        texts = {
            "name": path_text(self.name),
            "source": path_text(self.source),
            "classes": tuple(map(path_text, self.classes)),
        }
        for key, value in texts.items():
            object.__setattr__(self, key, value)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def unlabelled(self) -> int:
        """How many images have no label in a set that has labels."""
        return 0 if self.labels is None else int((self.labels < 0).sum())

    def labelled(self) -> "Dataset":
        """This set without the images that have no label: what everything learns and measures
        from that needs labels. Of a set without any label, the images alone."""
        if self.labels is None or not self.unlabelled:
            return self
        rows = (self.labels >= 0).nonzero()[:, 0]
        if not len(rows):
            return replace(self, labels=None)
        return replace(self, images=_only(self.images, rows), labels=self.labels[rows])

    @property
    def remarks(self) -> list[str]:
        """What a user should see once: the notes, and what could not be read."""
        return [*self.notes, *filter(None, [skipped_text(self.skipped)])]

    def batches(self, size: int = 500) -> Iterator[Tensor]:
        """All images in order, as float32 in [0, 1]."""
        for start in range(0, len(self), size):
            yield to_float(self.images_at(torch.arange(start, min(start + size, len(self)))))

    def images_at(self, indices: Tensor) -> Tensor:
        """The images at ``indices``; of those in a :class:`Stream`, the ones that can be read."""
        if isinstance(self.images, Stream):
            return self.images.readable(indices)
        return self.images[indices]


def _only(
    images: Tensor | ImageFile | ImageRows | Stream, rows: Tensor
) -> Tensor | ImageFile | ImageRows | Stream:
    if isinstance(images, Tensor):
        return images[rows]
    return images.only(rows) if isinstance(images, Stream) else ImageRows(images, rows)


def to_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]."""
    return images.float().div_(255)


@isolated()
def split_validation(data: Dataset, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the part to train on and of the validation part, the same for the same seed.

    Of images that stay in their files, at most a few thousand are for validation:
    :meth:`zoo.data.stream.Stream.split`.
    """
    if isinstance(data.images, Stream):
        return data.images.split(fraction, seed)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    held_out = round(len(data) * fraction)
    return order[held_out:], order[:held_out]


@typed()
@isolated()
def load_data(
    name: str | Dataset,
    split: str,
    preprocessing: Preprocessing,
    *,
    data_dir: Path | None = None,
    strict: bool = False,
    memory: int | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    stream: bool = False,
) -> Dataset:
    """The ``train`` or ``test`` part of a data set.

    Args:
        name: one of these:

            - a key of :data:`NAMED`;
            - ``procedural``, unless there is a file or folder of that name: pictures in the model's
              size that are made by procedure (:mod:`zoo.data.procedural`); and ``general``: these
              beside CIFAR-10's photographs, to learn from, and CIFAR-10's test images
              (:mod:`zoo.data.general`);
            - a folder of pictures of any size and kind. Of its subfolders ``train``, ``test`` and
              ``validation`` (or ``val``; in any case) each is that part, if there are two of them;
              without ``test``, ``validation`` is taken for it. If each picture lies in a subfolder
              (of its part) and none deeper, the subfolders are the classes;
            - a ``.npz`` file with uint8 ``images`` or ``train_images`` and ``test_images``,
              N x H x W, N x H x W x C or N x C x H x W, and perhaps ``labels`` or
              ``train_labels`` and ``test_labels``: N (or N x 1) whole numbers of any type, negative
              or NaN where no class is known;
            - a Parquet file, or a folder of them, with a column of pictures and perhaps one of
              whole numbers called ``label``, as ``datasets`` and the Hub write them. Files and
              folders that are called after their part (``train-00000-of-00001.parquet``) are of
              that part. Of several configurations (by their folders, or as the README says), of
              several columns of pictures or of labels, one is chosen by its name after a ``#``:
              ``folder#small``, ``file.parquet#depth``, ``folder#small,depth,kind``;
            - a tar file, or a folder of them, with pictures and perhaps their classes, as
              WebDataset writes them (``0001.png``, ``0001.cls``), not compressed. Of several
              pictures in a sample one is chosen by its ending after a ``#``: ``folder#seg.png``;
            - a folder with a collection, for the pictures that it is of;
            - a data set, which is only checked.
        preprocessing: makes pictures the model's images. Arrays must have the model's size.
        data_dir: where to look for a named set first; ``ZOO_DATA_DIR`` by default.
        strict: refuse a folder in which a picture cannot be read (by its name it is one).
        memory: bytes that the decoded images may take (a named set takes what it needs); half of
            the machine's by default.
        cache: the folder for decoded images that take more, in ``data-*`` files that are reused
            while nothing has changed; ``~/.cache/latentzoo/images`` by default.
        progress: called with the number of pictures read so far and of all.
        stream: leave pictures that would take more memory in their files, to be decoded when they
            are wanted (:class:`zoo.data.stream.Stream`). Only training can do with such a set. A
            .npz file is decoded all the same.

    Raises:
        DataError: it is not found (the text has all places that were searched), damaged, ambiguous
            (the text has the choice), or not of the model's shape; it vanished while it was read;
            or the cache cannot be written.
        ImageError: no picture can be read, or (strict) one cannot.
        MissingDependency: Parquet without pyarrow.
    """
    if split not in SPLITS:
        raise DataError(f"expected the part train or test, got {split!r}")
    if isinstance(name, Dataset):
        data = name
    elif name in NAMED:
        images, labels, found = find_named(name, split, data_dir)
        data = Dataset(name, split, images, _known(labels), str(found), NAMED[name].licence)
    else:
        _refuse_address(name)
        path, asked = _asked(user_path(name, "the data"))
        source = _open(path, split, preprocessing, asked, data_dir)
        chosen = f"#{','.join(asked)}" if asked else ""
        source.name += chosen
        _check_shape(source.name, source.shape, preprocessing)
        data = _read(source, preprocessing, strict, memory, cache, progress, stream)
        data = replace(data, source=data.source + chosen)
    _check_shape(data.name, tuple(data.images.shape[1:]), preprocessing)
    if len(data) == 0:
        raise DataError("\n".join([f"{data.source} holds no images", *data.notes]))
    return data


def _refuse_address(name: str) -> None:
    """Raises: DataError: it is an address of a store, and no path of this machine."""
    from zoo.collection.remote import is_address

    if is_address(name):
        raise DataError(
            f"{path_text(name)} is an address: pictures in a store are learnt from through a "
            f"collection of them. Type: zoo index {path_text(name)} --out FOLDER; then: --data "
            "FOLDER"
        )


def _check_shape(name: str, got: tuple[int, ...], preprocessing: Preprocessing) -> None:
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    if got != shape:
        raise DataError(
            f"the images of {name} are {got} (C, H, W), the model takes {shape}; set its size "
            f"and channels: --config size={got[-1]} --config channels={got[0]}"
        )


def _open(
    path: Path, split: str, preprocessing: Preprocessing, asked: list[str], data_dir: Path | None
) -> Source:
    try:
        if path.is_dir():
            return open_folder(path, split, preprocessing, asked)
        if path.suffix == ".npz" and path.is_file():
            if asked:
                raise DataError(f"{path} has no {asked[0]}: only Parquet has names after a #")
            return open_npz(path, split, preprocessing)
        if path.suffix.lower() == ".parquet" and path.is_file():
            return open_parquet(path, [path], "all", preprocessing, asked, [], [])
        if path.suffix.lower() == ".tar" and path.is_file():
            return open_tar(path, [path], "all", preprocessing, asked, [], [])
        if is_any_size(path):
            return ANY_SIZE[str(path)](split, preprocessing, data_dir)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    raise DataError(
        f"no data set {str(path)!r}: expected {', '.join([*NAMED, *ANY_SIZE])}, a folder of "
        "pictures or of Parquet files, a .npz, .parquet or .tar file (there is none at "
        f"{path.absolute()})"
    )


def _asked(path: Path) -> tuple[Path, list[str]]:
    """A path and the names after its last ``#``, unless there is a file of the whole name."""
    before, mark, names = str(path).rpartition("#")
    if not mark or os.path.lexists(path) or not os.path.lexists(before):
        return path, []
    return Path(before), [name.strip() for name in names.split(",") if name.strip()]


def _read(
    source: Source,
    preprocessing: Preprocessing,
    strict: bool,
    memory: int | None,
    cache: Path | None,
    progress: Callable[[int, int], None] | None,
    stream: bool,
) -> Dataset:
    fits = source.most * math.prod(source.shape) <= (
        machine_memory() // 2 if memory is None else memory
    )
    if stream and not fits and source.shards is not None:
        return _streamed(source, source.shards, preprocessing, strict)
    labels: list[int] = []
    unusable = ""  # why the labels cannot be used, if there are some
    skipped: list[tuple[Path, str]] = []

    def images() -> Iterator[Tensor]:
        nonlocal unusable
        done = 0
        for part in source.parts():
            skipped.extend(part.skipped)
            if strict:
                refuse_unreadable(part.skipped)
            if isinstance(part.labels, str):
                unusable = part.labels
            else:
                labels.extend(part.labels)
            done += len(part.images) + len(part.skipped)
            if progress:
                progress(min(done, source.most), source.most)
            yield part.images
        if skipped and len(skipped) == done:
            raise nothing_read(skipped, source.notes)

    kept: Tensor | ImageFile
    if fits:
        kept = _in_memory(images(), source.most, source.shape)
    else:
        what = f"{_DECODING} {source.key} {source.shape} {preprocessing}"
        key = hashlib.sha256(what.encode()).hexdigest()
        folder = cache_folder("images") if cache is None else cache
        path = folder / f"data-{source.split}-{key[:20]}.npy"
        if found := _cached(path):
            kept, labels, unusable, skipped = found
            if strict:
                refuse_unreadable(skipped)
        else:
            imagefile.write(images(), source.most, source.shape, path)
            _note(path, labels, unusable, skipped)
            kept = ImageFile(path)
    return _dataset(source, kept, unusable or labels, skipped)


def _streamed(
    source: Source, shards: Shards, preprocessing: Preprocessing, strict: bool
) -> Dataset:
    """A data set that stays in its files: nothing is decoded yet, and all labels are read."""
    if strict:
        refuse_unreadable(source.unread)
    skipped = [*source.unread]
    images = Stream(shards, preprocessing, skipped, strict=strict)
    size = math.prod(images.shape) / 1e6
    source.notes = [
        *source.notes,
        f"decoded, {len(images):,} images would take {size:,.1f} MB, more than --memory: each "
        "epoch decodes them anew",
    ]
    return _dataset(source, images, shards.labels(), skipped)


def _dataset(
    source: Source,
    images: Tensor | ImageFile | Stream,
    labels: list[int] | str,
    skipped: list[tuple[Path, str]],
) -> Dataset:
    """The images of a source with their labels, or why these cannot be used."""
    unusable = labels if isinstance(labels, str) else ""
    return Dataset(
        name=source.name,
        split=source.split,
        images=images,
        labels=None if unusable else _known(torch.tensor(labels)),
        source=str(source.path),
        licence=source.licence,
        skipped=skipped,
        classes=source.classes,
        notes=[*source.notes, *([f"the labels are left out: {unusable}"] if unusable else [])],
    )


def _known(labels: Tensor) -> Tensor | None:
    """The labels; None if none of them is known."""
    return labels if (labels >= 0).any() else None


def _in_memory(parts: Iterator[Tensor], most: int, shape: tuple[int, int, int]) -> Tensor:
    try:
        images = torch.empty(most, *shape, dtype=torch.uint8)
    except RuntimeError as error:
        raise DataError(
            f"no memory for {most:,} images, {most * math.prod(shape) / 1e6:,.0f} MB; allow them "
            "less, and they are kept in a file"
        ) from error
    count = 0
    for part in parts:
        if count + len(part) > most:
            raise DataError(f"expected at most {most:,} images, got {count + len(part):,}")
        images[count : count + len(part)] = part
        count += len(part)
    return images[:count]


_Facts = tuple[list[int], str, list[tuple[Path, str]]]  # labels, why they cannot be used, skipped


def _note(path: Path, labels: list[int], unusable: str, skipped: list[tuple[Path, str]]) -> None:
    """Write the labels and skipped files of the images in ``path``, to mark them as complete."""
    named = [[str(file), reason] for file, reason in skipped]
    facts = {"labels": labels, "unusable": unusable, "skipped": named}
    try:
        write_atomically(path.with_suffix(".json"), json.dumps(facts).encode())
    except OSError as error:
        raise DataError(f"{path.with_suffix('.json')}: {error.strerror}; make room") from error


def _cached(path: Path) -> tuple[ImageFile, *_Facts] | None:
    """The images that an earlier run decoded; None if they may be incomplete or outdated."""
    try:
        facts = json.loads(path.with_suffix(".json").read_bytes())
        images = ImageFile(path)
        labels = [int(label) for label in facts["labels"]]
        unusable = str(facts["unusable"])
        skipped = [(Path(file), str(reason)) for file, reason in facts["skipped"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError, DataError):
        return None
    good = unusable or len(labels) in (0, len(images))
    return (images, labels, unusable, skipped) if good else None
