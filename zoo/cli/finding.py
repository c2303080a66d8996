"""Pictures of a collection that are like others, or like words."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.shared import (
    CollectionFolder,
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
    from zoo.collection.finding import Found
    from zoo.collection.opened import Opened


@click.command()
@click.argument("folder", type=CollectionFolder())
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
    from zoo.collection.finding import crop_box, like, saying
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
        found = saying(collection, words, number)
    else:
        box = None if crop is None else crop_box(crop)
        found = like(collection, pictures, unwanted, box, number)
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
                "recall": _recall(collection, query),
                "out": None if out is None else str(out),
                "found": rows,
            }
        )
        return
    table = new_table("similarity", "picture", "name")
    for row in rows:
        table.add_row(f"{row['similarity']:.3f}", printable(row["path"]), row["name"] or "")
    print_table(table)
    recall = _recall(collection, query)
    if recall < 1:
        click.echo(
            f"Of so many pictures those around PICTURE were looked at: of the nearest "
            f"{100 * recall:.1f} in 100 are found so"
        )
    written = f"; see {out}" if out is not None else ""
    click.echo(
        path_text(f"The nearest {len(rows):,} of {len(collection.pictures):,} pictures{written}")
    )


def _recall(collection: "Opened", query: tuple[str, ...]) -> float:
    """The share of the nearest that is found, as it was measured; words are compared with all."""
    if collection.searched is None or not Path(query[0]).is_file():
        return 1.0
    return collection.searched.recall


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
