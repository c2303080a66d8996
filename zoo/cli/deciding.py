"""What a person says of the pictures of a collection: names, and whom they are learnt by."""

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
)
from zoo.errors import InputError
from zoo.files import path_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from zoo.collection.entries import Entry
    from zoo.collection.naming import Question
    from zoo.collection.opened import Opened
    from zoo.collection.recognising import Recogniser
    from zoo.model import ZooModel

folder = click.argument("folder", type=CollectionFolder(changes=True))


@click.command()
@folder
@click.argument("given", nargs=-1, metavar="[PICTURE...] [NAME]")
@click.option("--group", type=int, help="The number of the group to name.")
@click.option("--layer", default="middle", show_default=True, help="Of the groups: zoo group.")
@click.option("--as", "name", help="The name of the pictures.")
@click.option(
    "--words",
    metavar="WORD,WORD,...",
    help="Propose one of these for each group; for a model that knows words, as clip:... does.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="TEXT",
    help='With --words: a sentence to put them into, by default "a photo of a {}"; may be given '
    "again.",
)
@click.option(
    "--write", is_flag=True, help="With --words: name the groups that are sure and have no name."
)  # fmt: skip
@click.option("--remove", is_flag=True, help="Take the name from the pictures or the group.")
@click.option(
    "-n", "--number", default=10, show_default=True, type=click.IntRange(1, 1000),
    help="Questions to list.",
)  # fmt: skip
@as_json
def name(
    folder: Path,
    given: tuple[str, ...],
    group: int | None,
    layer: str,
    name: str | None,
    words: str | None,
    templates: tuple[str, ...],
    write: bool,
    remove: bool,
    number: int,
    as_json: bool,
) -> None:
    """Name groups and pictures; the names spread to what is like them.

    \b
    zoo name FOLDER                        what is most worth naming, and what has names; groups
                                           the pictures first, if that was not done
    zoo name FOLDER --group 3 cats         name a group
    zoo name FOLDER A.png B.png --as cats  name pictures: nothing changes that again but you
    zoo name FOLDER --group 3 --remove     take the names away again
    zoo name FOLDER --words cat,dog        propose one of these words for each group
    """
    from zoo.collection.opened import Opened

    if words is not None:
        if given or group is not None or name is not None or remove:
            raise InputError("--words proposes names for all groups: name no picture and no group")
        from zoo.cli.wording import propose

        propose(folder, words, templates, layer, write, as_json)
        return
    if templates or write:
        raise InputError("--template and --write go with --words")
    pictures, name = _meant(given, group, name, remove)
    collection = Opened(folder)
    if group is None and not pictures:
        note = _group_first(collection)
        _list(Opened(folder) if note else collection, number, note, as_json)
        return
    before = int(collection.naming.named.sum())
    hashes = collection.name(name, pictures, group, layer)
    _say_decided(collection, hashes, before, group, name, as_json)


def _meant(
    given: tuple[str, ...], group: int | None, name: str | None, remove: bool
) -> tuple[list[Path], str | None]:
    """The pictures that are named one by one, and the name; None for taking names away.

    Raises: InputError: the arguments do not say one thing.
    """
    from zoo.collection.decisions import valid_name

    if any(not each for each in given):
        raise InputError("a picture or a name is empty: name a file, or a name with some letters")
    if remove and name is not None:
        raise InputError("--as gives a name and --remove takes one away: leave one of them out")
    if group is not None and not remove:
        names = [*given, *([] if name is None else [name])]
        if len(names) != 1:
            raise InputError(
                f"--group {group} takes one name, got {', '.join(names) or 'none'}; one of several "
                'words is written in quotes: --group 3 "black cats"'
            )
        return [], valid_name(names[0])
    if group is not None:
        if given:
            raise InputError("--remove takes --group NUMBER or pictures, got both")
        return [], None
    if not given:
        if name is not None or remove:
            raise InputError("name at least one picture, or --group NUMBER")
        return [], None
    if name is None and not remove:
        raise InputError(
            f"how should {'these' if len(given) > 1 else given[0]} be named? Add --as NAME, or "
            "--remove to take names away"
        )
    return [Path(each) for each in given], None if name is None else valid_name(name)


def _say_decided(
    collection: "Opened",
    hashes: list[str],
    before: int,
    group: int | None,
    name: str | None,
    as_json: bool,
) -> None:
    import numpy as np

    facts = _facts(collection)
    still = int(collection.naming.named[np.isin(collection.pictures.hashes, hashes)].sum())
    if as_json:
        print_json({"decided": len(hashes), "name": name, "group": group, **facts})
        return
    _note(collection)
    what = "1 picture" if len(hashes) == 1 else f"{len(hashes):,} pictures"
    have = next((row["pictures"] for row in facts["names"] if row["name"] == name), 0)
    said = f"named {name}; {have:,} have this name now" if name else "no longer named by you"
    click.echo(
        f"{what} {said}. Of {facts['pictures']:,} pictures {facts['named']:,} have names "
        f"({before:,} before)"
    )
    if name is None and still:
        click.echo(f"{still:,} of them still get a name from what is like them")


def _facts(collection: "Opened") -> dict[str, Any]:
    """What has names, as JSON has it."""
    import numpy as np

    naming = collection.naming
    likeliest = np.where(naming.named, naming.likeliest, -1)
    return {
        "pictures": len(collection.pictures),
        "named": int(naming.named.sum()),
        "by_person": int(naming.given.sum()),
        "names": [
            {
                "name": each,
                "pictures": int((likeliest == i).sum()),
                "by_person": int((naming.given & (likeliest == i)).sum()),
            }
            for i, each in enumerate(naming.names)
        ],
        "notes": collection.read.notes(),
    }


def _note(collection: "Opened") -> None:
    for note in collection.read.notes():
        click.echo(printable(note), err=True)


def _group_first(collection: "Opened") -> str:
    """Find groups where there are none yet; what was done, or why it was not, for a person."""
    from zoo.collection.derived import regroup
    from zoo.errors import ZooError

    if collection.layers or not len(collection.pictures):
        return ""
    try:
        middle = regroup(collection.folder)[1]
    except (ZooError, OSError) as error:
        return f"there are no groups yet, and they cannot be made: {error}"
    return (
        f"there were no groups yet: grouped into {int(middle.labels.max()) + 1:,}, as "
        f"zoo group {path_text(collection.folder)} does"
    )


def _list(collection: "Opened", number: int, note: str, as_json: bool) -> None:
    """What is most worth naming, and what has names."""
    questions = collection.questions(number)
    facts = _facts(collection)
    if note:
        facts["notes"] = [note, *facts["notes"]]
        click.echo(printable(note), err=True)
    if as_json:
        print_json({**facts, "questions": [_question(collection, each) for each in questions]})
        return
    _note(collection)
    table = new_table("to name", "pictures", "perhaps", "such as")
    for question in questions:
        shown = [collection.pictures.paths[i] for i in question.pictures[:3]]
        table.add_row(
            _called(question), f"{question.size:,}", question.guess,
            printable("\n".join(shown)),
        )  # fmt: skip
    if questions:
        print_table(table)
    if facts["names"]:
        table = new_table("name", "pictures", "named by you")
        for row in facts["names"]:
            table.add_row(row["name"], f"{row['pictures']:,}", f"{row['by_person']:,}")
        print_table(table)
    click.echo(
        path_text(
            f"{facts['named']:,} of {facts['pictures']:,} pictures have names. "
            f"{_advice(collection, questions)}"
        )
    )


def _called(question: "Question") -> str:
    """How a question is answered in the shell."""
    if question.group is None:
        return "a picture"
    layer = "" if question.layer == "middle" else f"--layer {question.layer} "
    return f"{layer}--group {question.group}"


def _advice(collection: "Opened", questions: "list[Question]") -> str:
    if not questions:
        return "Nothing is left to ask"
    first = questions[0]
    if first.group is None:
        picture = collection.pictures.paths[int(first.pictures[0])]
        return f"Type: zoo name {collection.folder} {picture} --as NAME"
    return f"Type: zoo name {collection.folder} {_called(first)} NAME"


def _question(collection: "Opened", question: "Question") -> dict[str, Any]:
    return {
        "layer": question.layer or None,
        "group": question.group,
        "pictures": question.size,
        "gain": round(question.gain, 3),
        "guess": question.guess or None,
        "such_as": [collection.pictures.paths[i] for i in question.pictures],
    }


# -- recognisers ---------------------------------------------------------------------------------


@click.command()
@folder
@click.argument("new", nargs=-1, type=UserPath(home=False), metavar="NEW...")
@click.option(
    "--save", type=UserPath(file_okay=False), help="A folder to write the recogniser into."
)
@as_json
def recognise(folder: Path, new: tuple[Path, ...], save: Path | None, as_json: bool) -> None:
    """Name new pictures as those of a collection are named, or say that they are none of these.

    FOLDER is a collection that has names (zoo name), of which the recogniser is learnt, once for
    the names that there are, or a folder with a recogniser that was saved. NEW are pictures,
    folders and archives; nothing of them is added to the collection.
    """
    from zoo.collection.recognising import RECORD, Recogniser

    if not new and save is None:
        raise InputError(
            f"name at least one picture or folder: zoo recognise {folder} NEW..., or "
            "--save FOLDER to keep the recogniser"
        )
    kept = (folder / RECORD).is_file()
    recogniser = Recogniser.load(folder) if kept else _learnt(folder)
    if save is not None:
        _refuse_others(save)
        recogniser.save(save)
    results, unread = _recognised(recogniser, new) if new else ([], [])
    if as_json:
        print_json(_counts(recogniser, results, unread, save))
    else:
        _say_recognised(recogniser, results, unread, save)


def _learnt(folder: Path) -> "Recogniser":
    """A recogniser of the names in a collection. Raises: InputError: it has none."""
    from zoo.collection.opened import Opened
    from zoo.collection.recognising import learnt

    collection = Opened(folder)
    _note(collection)
    return learnt(collection)


def _refuse_others(save: Path) -> None:
    """Raises: InputError: ``save`` has files, and no recogniser."""
    from zoo.collection.recognising import RECORD

    if save.is_dir() and any(save.iterdir()) and not (save / RECORD).is_file():
        raise InputError(f"{save} is not empty and has no recogniser; choose another --save")


def _recognised(
    recogniser: "Recogniser", new: tuple[Path, ...]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """What is said of each picture, and the files that could not be read."""
    import os

    from zoo.collection.entries import listed, members
    from zoo.collection.pipeline import Pipeline, Work, finite

    for path in new:
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder")
    model = _model_of(recogniser)
    notes: list[str] = []
    files = listed([os.path.abspath(path) for path in new])

    def entries() -> "Iterator[Entry]":
        for i in range(len(files)):
            yield from members(files.entry(i), notes) if files.is_archive(i) else [files.entry(i)]

    results: list[dict[str, Any]] = []
    unread: list[dict[str, str]] = []
    for batch in Pipeline(model.features, Work(model.preprocessing))(entries()):
        paths = [_where(seen.entry) for seen in batch.seen if seen.decoded]
        unread += [
            {"path": _where(seen.entry), "reason": seen.reason}
            for seen in batch.seen
            if not seen.decoded
        ]
        if batch.values is not None:
            results += _rows(recogniser, paths, finite(batch.values.numpy()))
    for note in [*files.notes, *notes]:
        click.echo(printable(note), err=True)
    return results, unread


def _where(entry: "Entry") -> str:
    return entry.path if entry.member is None else f"{entry.path}/{entry.member}"


def _rows(recogniser: "Recogniser", paths: list[str], values: "np.ndarray") -> list[dict[str, Any]]:
    found = recogniser.recognise(values)
    return [
        {
            "path": path,
            "name": None if none else recogniser.names[likeliest],
            "perhaps": recogniser.names[likeliest],
            "probability": round(float(probability), 4),
        }
        for path, likeliest, probability, _, none in zip(paths, *found, strict=True)
    ]


def _model_of(recogniser: "Recogniser") -> "ZooModel":
    """The model whose features the recogniser knows.

    Raises: as :func:`zoo.load`, and CollectionError: it is another one by now.
    """
    from zoo.collection.indexing import identity
    from zoo.collection.models import loaded
    from zoo.errors import CollectionError

    wanted = recogniser.model
    model: ZooModel = loaded(wanted["name"], recogniser.preprocessing)
    sha256 = identity(model)["sha256"]
    if wanted.get("sha256") and sha256 != wanted["sha256"]:
        raise CollectionError(
            f"the recogniser was learnt from features of {wanted['name']}, whose weights are other "
            "ones by now: learn it again"
        )
    if model.preprocessing.to_dict() != recogniser.preprocessing:
        raise CollectionError(
            f"the recogniser was learnt from pictures that were made into images in another way "
            f"than {wanted['name']} makes them: learn it again"
        )
    return model


def _counts(
    recogniser: "Recogniser",
    results: list[dict[str, Any]],
    unread: list[dict[str, str]],
    save: Path | None,
) -> dict[str, Any]:
    return {
        "pictures": len(results),
        "recognised": sum(row["name"] is not None for row in results),
        "none_of_these": sum(row["name"] is None for row in results),
        "unread": len(unread),
        "names": recogniser.names,
        "measured": recogniser.measured,
        "saved": None if save is None else str(save),
        "results": results,
        "unread_files": unread,
    }


def _say_recognised(
    recogniser: "Recogniser",
    results: list[dict[str, Any]],
    unread: list[dict[str, str]],
    save: Path | None,
) -> None:
    for row in unread:
        click.echo(printable(f"{row['path']}: {row['reason']}"), err=True)
    if results:
        table = new_table("picture", "name", "probability")
        for row in results:
            name = row["name"] or "none of these"
            table.add_row(printable(row["path"]), name, f"{row['probability']:.2f}")
        print_table(table)
        counts = _counts(recogniser, results, unread, save)
        click.echo(
            f"{counts['recognised']:,} recognised, {counts['none_of_these']:,} none of these, "
            f"{len(unread):,} not read"
        )
    if save is not None:
        click.echo(
            path_text(
                f"A recogniser of {len(recogniser.names):,} names in {save}. To use it: "
                f"zoo recognise {save} NEW..."
            )
        )
    if recogniser.measured:
        click.echo(
            f"Of {recogniser.measured['pictures']:,.0f} named pictures that it had not learnt from "
            f"it names {recogniser.measured['accuracy']:.0%} as they are named"
        )
