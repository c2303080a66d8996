"""The page as files that open from a disk: one HTML with all inside, or a folder with shards.

A page from a disk may read no file beside it but scripts and pictures. So thumbnails (WebP, as
base64) and neighbours lie in scripts, those of some pictures in each, which are loaded when they
are looked at; of very many pictures, everything does (:mod:`zoo.collection.page.tiles`).
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.collection.page import tiles
from zoo.collection.page.data import PageData, neighbours_json, script_json, to_json
from zoo.errors import InputError
from zoo.files import new_folder, path_text, write_atomically

__all__ = ["MARK", "SHARD", "SINGLE", "Exported", "asset", "export"]

SHARD = 256
"""Pictures of a shard: a megabyte or two."""
SINGLE = 10_000
"""Pictures that one file may hold; a browser reads it whole before it shows any."""
MARK = b"<!doctype html>\n<!-- a page of zoo browse -->\n"
"""How every page begins, by which an earlier one is known."""

Thumbnail = Callable[[int], bytes | None]


class Exported(NamedTuple):
    """What was written: how many files, of how many bytes."""

    files: int
    bytes: int


def asset(name: str) -> str:
    """A file of the page's own: its script, its style, its licences."""
    return (files("zoo.collection.page") / "static" / name).read_text("utf-8")


def export(data: PageData, thumbnail: Thumbnail, out: Path) -> Exported:
    """Write the page to ``out``, atomically: a file where that ends in ``.html``, else a folder.

    Args:
        thumbnail: the WebP of a picture by its number in ``data``; None if there is none.

    Raises:
        InputError: there are too many pictures for one file, or the folder is not empty.
    """
    refuse(out, len(data))
    order = data.by_group()
    if (order != np.arange(len(data))).any():
        data = data.reordered(order)
    shards = _shards(data, lambda i: thumbnail(int(order[i])))
    return (_one_file if is_file(out) else _folder)(data, shards, out)


def is_file(out: Path) -> bool:
    """Whether the page is to be one file."""
    return out.suffix.lower() in (".html", ".htm")


def refuse(out: Path, count: int = 0) -> None:
    """What :func:`export` refuses of ``out``, before anything is made. Raises: InputError."""
    if not is_file(out) and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} is there already and is no empty folder, so nothing was written. Choose "
            "another folder, or a file that ends in .html"
        )
    if is_file(out) and count > SINGLE:
        raise InputError(
            f"one file can hold the page of {SINGLE:,} pictures, these are {count:,}. Name a "
            f"folder instead: --export {path_text(out.with_suffix(''))}"
        )


def _one_file(data: PageData, shards: Iterator[str], out: Path) -> Exported:
    inside = [
        f'<script type="application/json" id="shard-{number}">{shard}</script>'
        for number, shard in enumerate(shards)
    ]
    page = _page(to_json(data), "\n".join(inside))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page)
    return Exported(1, len(page))


def _folder(data: PageData, shards: Iterator[str], out: Path) -> Exported:
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = tiles.Parts(data) if tiles.is_tiled(data) else None
    size, count = 0, 0
    with new_folder(out) as folder:
        for name, text in _beside(shards, parts):
            written = text.encode()
            (folder / name).write_bytes(written)
            size, count = size + len(written), count + 1
        page = _page(to_json(data) if parts is None else parts.first)
        (folder / "index.html").write_bytes(page)
    return Exported(count + 1, size + len(page))


def _beside(shards: Iterator[str], parts: "tiles.Parts | None") -> Iterator[tuple[str, str]]:
    """Names and texts of the scripts beside the page."""
    for number, shard in enumerate(shards):
        yield f"thumbnails-{number:05}.js", f"zooShard({number},{shard})\n"
    if parts is not None:
        for name, made in parts.others.items():
            yield f"{name}.js", f"zooPart({json.dumps(name)},{script_json(made())})\n"


def _shards(data: PageData, thumbnail: Thumbnail) -> Iterator[str]:
    """The thumbnails and neighbours of every :data:`SHARD` pictures, as JSON."""
    for start in range(0, len(data), SHARD):
        end = min(start + SHARD, len(data))
        shard: dict[str, Any] = {
            "thumbnails": [
                base64.b64encode(thumbnail(i) or b"").decode() for i in range(start, end)
            ]
        }
        yield script_json(shard | neighbours_json(data, start, end))


def _page(data: dict[str, Any], inside: str = "") -> bytes:
    """The HTML, whose policy allows its own script and style and no request to any host."""
    script, style = asset("page.js"), asset("page.css")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_digest(style)}; script-src {_digest(script)} 'strict-dynamic'; "
        "trusted-types zoo; require-trusted-types-for 'script'"
    )
    parts = {
        "policy": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "style": f"<style>{style}</style>",
        "data": f'<script type="application/json" id="collection">{script_json(data)}'
        f"</script>\n{inside}",
        "script": f"<script>{script}</script>\n<!--\n{asset('LICENSES.txt')}-->",
    }
    return MARK + _filled(parts).encode("ascii", "xmlcharrefreplace")


def served_page() -> bytes:
    """The HTML of a page whose script, style and data a server has."""
    parts = {
        "policy": "",
        "style": '<link rel="stylesheet" href="page.css">',
        "data": "",
        "script": '<script src="page.js"></script>',
    }
    return MARK + _filled(parts).encode()


def _filled(parts: dict[str, str]) -> str:
    """The page's HTML with its parts, each put in once: none is looked for in another."""
    text = asset("page.html").removeprefix("<!doctype html>\n")
    done = ""
    for name, part in parts.items():
        before, _, text = text.partition(f"<!-- {name} -->")
        done += before + part
    return done + text


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
