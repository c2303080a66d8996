"""Finds out from names alone which files of a folder belong to which part of a data set.

It knows the usual layouts of the Hub and of torchvision: ``train/``, ``test/``, ``val/`` in any
case, below them a folder for each class; Parquet files named after their part, in a folder for each
configuration or as the README says.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.files import path_text

__all__ = ["Layout", "of_parquet", "of_pictures"]

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Files in which the Hub's folders of pictures describe them; they are not read."""


@dataclass
class Layout:
    """The files of one part, and what a user should know of the choice.

    ``split`` is ``"all"`` where the set has no parts. ``classes`` are the names of the folders that
    the pictures of all parts are in, one for each class.
    """

    split: str
    names: list[str]
    classes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    configuration: str = ""


# -- pictures ------------------------------------------------------------------------------------


def of_pictures(folder: Path, names: list[str], pictures: list[str], split: str) -> Layout:
    """The part ``split`` of a folder of pictures.

    Args:
        names: all files, relative to ``folder``.
        pictures: those that are pictures by name.

    Raises:
        DataError: it has parts, and ``split`` is none of them.
    """
    top, parts = _parts(folder, pictures)
    inside = {name: name[len(top) :] for name in names if name.startswith(top)}
    shown = {inside[name] for name in pictures}
    if not parts:
        return Layout("all", names, _classes(shown))
    chosen, notes = _choose(folder, parts, split)
    folders = {name for part in parts.values() for name in part}
    outside = {name for name in shown if name.split(os.sep)[0] not in folders}
    if outside:
        notes.append(
            f"{len(outside)} pictures outside of the parts left out: {_some(sorted(outside))}"
        )
    beneath = {name.partition(os.sep)[2] for name in shown - outside}
    taken = [n for n, rest in inside.items() if rest.split(os.sep)[0] in parts[chosen]]
    # The classes of all parts, so that one that a part lacks does not shift the numbers.
    return Layout(split, taken, _classes(beneath), notes)


def _parts(folder: Path, pictures: list[str]) -> tuple[str, dict[str, list[str]]]:
    """The folder that holds all pictures, and its subfolders that are parts, if there are two.

    The first is relative and ends with a separator, unless it is ``folder`` itself.
    """
    top = ""
    while True:
        parts: dict[str, list[str]] = {}
        with os.scandir(folder / top) as entries:
            names = sorted(e.name for e in entries if e.name.lower() in _WORDS and e.is_dir())
        for name in names:
            parts.setdefault(_WORDS[name.lower()], []).append(name)
        if len(parts) > 1:
            return top, parts
        # All of them begin as the first and the last do.
        ends = {name[len(top) :].partition(os.sep) for name in (min(pictures), max(pictures))} if (
            pictures) else set()  # fmt: skip
        if len({first for first, _, _ in ends}) != 1 or not all(sep for _, sep, _ in ends):
            return top, {}
        top += next(iter(ends))[0] + os.sep


def _classes(names: set[str]) -> tuple[str, ...]:
    """The classes: the folders of the pictures, if each picture is exactly one folder deep."""
    if any(name.count(os.sep) != 1 for name in names):
        return ()
    classes = sorted({name.split(os.sep)[0] for name in names})
    return tuple(classes) if len(classes) > 1 else ()


# -- Parquet -------------------------------------------------------------------------------------


def of_parquet(folder: Path, names: list[str], split: str, asked: list[str]) -> Layout:
    """The part ``split`` of a folder of Parquet files, of one configuration.

    Args:
        names: the Parquet files, relative to ``folder``.
        asked: names that the user gave after a ``#``, perhaps that of a configuration.

    Raises:
        DataError: several configurations, none of which is the default; or there is no such part.
    """
    configurations = _of_readme(folder, names) or _of_folders(names)
    chosen, notes = _configuration(folder, configurations, asked)
    parts = configurations[chosen]
    known = [files for each in configurations.values() for files in each.values()]
    if rest := sorted(set(names).difference(*known)):
        notes.append(f"{len(rest)} files of no configuration left out: {_some(rest)}")
    if set(parts) == {""}:
        return Layout("all", parts[""], notes=notes, configuration=chosen)
    if unnamed := parts.pop("", []):
        notes.append(f"{len(unnamed)} files of no part left out: {_some(unnamed)}")
    part, more = _choose(folder, parts, split)
    return Layout(split, parts[part], notes=notes + more, configuration=chosen)


_Configurations = dict[str, dict[str, list[str]]]  # name: part ("" if none is named): files


def _of_folders(names: list[str]) -> _Configurations:
    """Configurations by folders, without folders that are named after a part, or ``data``."""
    found: _Configurations = {}
    for name in names:
        *folders, file = name.split(os.sep)
        own = [f for f in folders if not _is_no_configuration(f.lower())]
        part = next(filter(None, map(_part_of, [Path(file).stem, *reversed(folders)])), "")
        found.setdefault(os.sep.join(own), {}).setdefault(part, []).append(name)
    return found


def _is_no_configuration(folder: str) -> bool:
    """Whether a folder stands for a part, for nothing, or for the value of a column (``x=1``)."""
    return folder.removeprefix("partial-") in (*_WORDS, "data") or "=" in folder


def _part_of(text: str) -> str:
    words = re.split(r"[^a-z]+", text.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), "")


def _of_readme(folder: Path, names: list[str]) -> _Configurations:
    """Configurations by the README of a data set of the Hub; empty if none of them fits."""
    found: _Configurations = {}
    default = ""
    configs = _front_matter(folder).get("configs")
    for config in configs if isinstance(configs, list) else []:
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            continue
        for part, pattern in _patterns(config.get("data_files")):
            for name in names:
                if fnmatchcase(name.replace(os.sep, "/"), pattern):
                    parts = found.setdefault(config["config_name"], {})
                    files = parts.setdefault(_WORDS.get(part, part), [])
                    files.extend([name] if name not in files else [])
        if config.get("default") is True:
            default = config["config_name"]
    if default in found and "default" not in found:
        found = {default: found.pop(default), **found}
        found["default"] = found[default]
    return found


def _patterns(files: Any) -> Iterable[tuple[str, str]]:
    """Part and pattern of each entry of ``data_files``, in any of the forms that the Hub takes."""
    for entry in files if isinstance(files, list) else [files]:
        part, paths = ("", entry)
        if isinstance(entry, dict):
            part, paths = str(entry.get("split", "")), entry.get("path")
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str):
                pattern = path.removeprefix("./")
                yield part or _part_of(pattern), pattern + ("/*" if pattern.endswith("/") else "")


def _front_matter(folder: Path) -> dict[str, Any]:
    try:
        import yaml

        with (folder / "README.md").open("rb") as file:
            text = file.read(1 << 20).decode("utf-8", "replace")
        found = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
        front = yaml.safe_load(found[1]) if found else None
    except (ImportError, OSError, ValueError, RecursionError):
        return {}
    except yaml.YAMLError:
        return {}
    return front if isinstance(front, dict) else {}


def _configuration(
    folder: Path, configurations: _Configurations, asked: list[str]
) -> tuple[str, list[str]]:
    for name in asked:
        if name in configurations:
            return name, []
    if len(configurations) == 1:
        return next(iter(configurations)), []
    names = [name or "(files in no folder)" for name in configurations]
    other = next((name for name in configurations if name not in ("", "default")), "default")
    how = f"type: --data '{path_text(folder)}#{other}'"
    if "default" in configurations:
        others = [name for name in names if name != "default"]
        return "default", [
            f"the default configuration of {path_text(folder)} is read; for one of "
            f"{_some(others, 10)}, {how}"
        ]
    raise DataError(
        f"{path_text(folder)} holds several configurations of a data set: {_some(names, 10)}. "
        f"Choose one; {how}"
    )


# -- parts ---------------------------------------------------------------------------------------


def _choose(folder: Path, parts: Mapping[str, list[str]], split: str) -> tuple[str, list[str]]:
    """The part to read for ``split``, and what to say of it."""
    where = path_text(folder)
    if split in parts:
        if "validation" in parts and {"train", "test"} <= parts.keys():
            return split, [f"the part validation of {where} is not read"]
        return split, []
    if split == "test" and {"train", "validation"} <= parts.keys():
        return "validation", [f"{where} has no part test: its validation part is taken for it"]
    files = [name for names in parts.values() for name in names]
    raise DataError(
        f"{where} has no part {split}; its files are called {_some(files, 5)}. "
        "Name a folder or a file of it to take all of that"
    )


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(path_text, names[:most])) + more
