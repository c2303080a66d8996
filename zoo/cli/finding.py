"""Pictures of a collection that are like others, or like words."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.shared import (
    UserPath,
    as_json,
    new_table,
    print_json,
    print_table,
    printable,
    refuse_loss,
)
from zoo.errors import InputError
from zoo.files import path_text

if TYPE_CHECKING:
    import numpy as np

    from zoo.collection.finding import Found
    from zoo.collection.opened import Opened


@click.command()
@click.argument("folder", type=UserPath(home=False))
@click.argument("query", nargs=-1, metavar="PICTURE... | WORDS")
@click.option(
    "--not", "unwanted", multiple=True, type=UserPath(), metavar="PICTURE",
    help="Unlike this one; may be given again.",
)  # fmt: skip
@click.option(
    "--crop", metavar="LEFT,TOP,RIGHT,BOTTOM",
    help="Only this part of PICTURE: pixels of the upright picture, or shares of it up to 1.",
)  # fmt: skip
@click.option(
    "-n", "--number", default=10, show_default=True, type=click.IntRange(1, 100_000),
    help="Pictures to find.",
)  # fmt: skip
@click.option("--out", type=UserPath(dir_okay=False), help="A PNG of what was found.")
@as_json
def find(
    folder: Path,
    query: tuple[str, ...],
    unwanted: tuple[Path, ...],
    crop: str | None,
    number: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Find the pictures that are most like PICTURE, like several, or like WORDS.

    \b
    zoo find FOLDER cat.jpg                     the nearest of the collection
    zoo find FOLDER a.jpg b.jpg --not c.jpg     like a and b, and unlike c
    zoo find FOLDER cat.jpg --crop 0,0,0.5,1    like its left half
    zoo find FOLDER a red car                   by words, where the model knows any
    """
    from zoo.collection.opened import Opened

    if out is not None:
        refuse_loss(out, ".png", [Path(each) for each in query])
    pictures, words = _meant(folder, query)
    if crop is not None and len(pictures) != 1:
        raise InputError("--crop is a part of one picture: name one")
    if words and unwanted:
        raise InputError("--not goes with pictures, not with words")
    collection = Opened(folder)
    if words:
        found = _by_words(collection, words, number)
    else:
        found = _by_pictures(collection, pictures, list(unwanted), crop, number)
    if out is not None:
        _write_sheet(collection, pictures, found, out)
    _say(collection, query, found, out, as_json)


def _meant(folder: Path, query: tuple[str, ...]) -> tuple[list[Path], str]:
    """The pictures, or the words.

    Raises: InputError: neither, or both.
    """
    from zoo.images import why_not_opened

    if not query or any(not each for each in query):
        raise InputError(f"name a picture, or some words: zoo find {folder} PICTURE")
    pictures = [Path(each) for each in query if Path(each).is_file()]
    others = [each for each in query if not Path(each).is_file()]
    if not others:
        return pictures, ""
    like_a_file = [
        each for each in others if "/" in each or not why_not_opened(each) or Path(each).exists()
    ]
    if pictures or like_a_file:
        missing = (like_a_file or others)[0]
        what = "is a folder" if Path(missing).is_dir() else "there is no such file"
        raise InputError(f"{missing}: {what}; name pictures, or words alone")
    return [], " ".join(others)


def _by_pictures(
    collection: "Opened",
    pictures: list[Path],
    unwanted: list[Path],
    crop: str | None,
    number: int,
) -> "Found":
    import numpy as np

    from zoo.collection.finding import crop_box, direction, nearest

    box = None if crop is None else crop_box(crop)
    known = [] if box else [collection.position(path) for path in pictures]
    wanted = _vectors(collection, pictures, known or [None], box)
    avoided = [collection.position(path) for path in unwanted]
    query = direction(wanted, _vectors(collection, unwanted, avoided) if unwanted else None)
    same = {collection.pictures.hashes[i] for i in (*known, *avoided) if i is not None}
    own = np.flatnonzero(np.isin(collection.pictures.hashes, list(same)))
    return nearest([collection.vectors], query, number, own.tolist())


def _vectors(
    collection: "Opened",
    paths: list[Path],
    known: list[int | None],
    box: tuple[float, float, float, float] | None = None,
) -> "np.ndarray":
    """The vectors of pictures, in the collection (at the position that is known) or not."""
    import numpy as np

    from zoo.collection.finding import features_of

    parts = []
    for path, position in zip(paths, known, strict=True):
        if position is not None:
            parts.append(collection.vectors[position])
        else:
            features = features_of(collection.model, path, box)
            parts.append(collection.projection.apply(features[None])[0])
    return np.stack(parts)


def _by_words(collection: "Opened", words: str, number: int) -> "Found":
    from zoo.collection.finding import embedded_words, nearest, unit

    query = embedded_words(collection.model, words, collection.folder)
    rows = collection.pictures.rows
    blocks = (
        unit(collection.store.features(rows[begin : begin + 4096]))
        for begin in range(0, len(rows), 4096)
    )
    return nearest(blocks, query, number)


def _say(
    collection: "Opened", query: tuple[str, ...], found: "Found", out: Path | None, as_json: bool
) -> None:
    naming = collection.naming
    rows: list[dict[str, Any]] = [
        {
            "path": collection.pictures.paths[picture],
            "similarity": round(float(similarity), 4),
            "name": naming.of(picture),
            "hash": collection.pictures.hashes[picture],
        }
        for picture, similarity in zip(found.pictures.tolist(), found.similarities, strict=True)
    ]
    if as_json:
        print_json(
            {
                "query": list(query),
                "pictures": len(collection.pictures),
                "count": len(rows),
                "out": None if out is None else str(out),
                "found": rows,
            }
        )
        return
    table = new_table("similarity", "picture", "name")
    for row in rows:
        table.add_row(f"{row['similarity']:.3f}", printable(row["path"]), row["name"] or "")
    print_table(table)
    written = f"; see {out}" if out is not None else ""
    click.echo(
        path_text(f"The nearest {len(rows):,} of {len(collection.pictures):,} pictures{written}")
    )


def _write_sheet(collection: "Opened", pictures: list[Path], found: "Found", out: Path) -> None:
    """The pictures that were asked for, and those that were found, as a PNG."""
    import torch

    from zoo.errors import ImageError
    from zoo.images import to_images
    from zoo.pictures import grid, write_png
    from zoo.spec import Preprocessing

    tile = Preprocessing(channels=3, height=128, width=128, fit="pad", background=1.0)
    paths = [*pictures, *(Path(collection.pictures.paths[i]) for i in found.pictures[:100])]
    images = []
    for path in paths:
        try:
            images.append(to_images(path, tile))
        except ImageError as error:
            click.echo(printable(f"not in {out}: {error}"), err=True)
    if not images:
        raise InputError(f"none of the pictures can be read any more, so {out} was not written")
    write_png(grid(torch.cat(images), scale=1, gap=4), out)
