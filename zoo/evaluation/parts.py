"""The data that a model is measured on: where they are, and their train and test parts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.boundary import user_path
from zoo.errors import DataError, InputError
from zoo.files import path_text
from zoo.folder import FolderConfig, read_config

if TYPE_CHECKING:
    from zoo.data import Dataset
    from zoo.model import ZooModel

LEAST_TRAIN = 2
"""The fewest images that a baseline can be fitted to: one image has no spread."""


def learnt_from(
    name: str, folder: Path, dataset: str | None = None, *, config: FolderConfig | None = None
) -> str:
    """The data that weights were trained on, as :func:`zoo.data.load_data` takes them.

    The path of a file or folder is not published: a training run keeps it in its own folder.

    Args:
        name: of the model, for messages.
        folder: its weights folder.
        dataset: what the data are called, if they are not those of config.json.
        config: the folder's config.json, if it was read already.

    Raises:
        InputError: they are no longer where they were, or that was not recorded.
    """
    from zoo.data import NAMED
    from zoo.data.any_size import is_any_size
    from zoo.manifest import WEIGHTS, read_manifest

    dataset = dataset or (config or read_config(folder)).facts["dataset"]
    if dataset in NAMED:
        return dataset
    run = read_manifest(folder.parent) if folder.name == WEIGHTS else None
    source = run["facts"].get("source") if run else None
    if isinstance(source, str) and dataset in (Path(source).name, Path(source).stem):
        if Path(source).exists():
            return source
        where = f"which is no longer at {source}"
    elif is_any_size(dataset):
        return dataset
    else:
        where = "and where that was is not known here"
    if Path(dataset).expanduser().exists():
        return dataset
    raise InputError(
        f"{name} learnt from {path_text(dataset)}, {path_text(where)}.\n"
        f"Type: zoo evaluate {name} --data FILE_OR_FOLDER"
    )


def train_and_test(
    model: "ZooModel",
    data: str,
    data_dir: str | Path | None,
    seed: int,
    read: Callable[[int, int], None] | None = None,
) -> "tuple[Dataset, Dataset]":
    """The train and the test part of ``data``. Raises: DataError: one of them is too small."""
    from zoo.data import load_data, split_validation

    where = None if data_dir is None else user_path(data_dir)
    test = load_data(data, "test", model.preprocessing, data_dir=where, progress=read)
    if test.split == "test":
        train = load_data(data, "train", model.preprocessing, data_dir=where, progress=read)
        return _enough(train, test)
    parts = zip(("train", "test"), split_validation(test, 0.2, seed), strict=True)
    train, test = (
        replace(
            test,
            split=split,
            images=test.images[indices],
            labels=None if test.labels is None else test.labels[indices],
        )
        for split, indices in parts
    )
    return _enough(train, test)


def _enough(train: "Dataset", test: "Dataset") -> "tuple[Dataset, Dataset]":
    """Both parts, if there is anything to measure. Raises: DataError."""
    if len(train) < LEAST_TRAIN or not len(test):
        raise DataError(
            f"{test.name} is too small to measure on: {len(train)} images to learn from and "
            f"{len(test)} to test with, where at least {LEAST_TRAIN} and 1 are needed, and some "
            "hundreds make figures worth having. Give more images, or parts train and test"
        )
    return train, test


def unlabelled_note(data: "Dataset") -> str:
    """What to say of images that have no label, if there are any."""
    left = f"{data.unlabelled:,} of {len(data):,} {data.split} images of {data.name} have no label"
    return f"{left}: they are left out of what needs labels" if data.unlabelled else ""
