"""What the docs site has besides docs/, for mkdocs (hooks in mkdocs.yml).

The navigation is the list in index.md, so that it stands in one place and is read on GitHub too.
Pages that lie elsewhere in the repository are brought in, and links between all of them are turned
to where they lie on the site.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TREE = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
BESIDE = {name: name.lower() for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
"""Pages at the root of the tree, and where they are on the site."""

MODULES = (
    "zoo.errors", "zoo.hookspecs", "zoo.testing", "zoo.nn", "zoo.optional", "zoo.converting",
    "zoo.sklearn",
)  # fmt: skip
"""Public modules that are shown whole, if they are there, after the names in ``zoo``."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = _navigation((TREE / "docs" / "index.md").read_text("utf-8"))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, uri in BESIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(TREE / name)))
    cards = sorted((TREE / "model_cards").iterdir())
    for path in cards:
        uri = f"cards/{path.name}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    files.append(File.generated(config, "gallery.md", content=_gallery(cards)))
    files.append(File.generated(config, "api.md", content=_api()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    def turned(link: re.Match[str]) -> str:
        target = _on_site((_source(page.file.src_uri).parent / link["path"]).resolve())
        if target is None:
            return link["text"][1:-1]  # a file that the site does not have
        here = os.path.dirname(page.file.src_uri)
        return f"{link['text']}({os.path.relpath(target, here or '.')}{link['anchor'] or ''})"

    return LINK.sub(turned, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The docstrings' ``:func:`` and the like are Sphinx's, and only code here."""
    return re.sub(r":(?:attr|class|data|exc|func|meth|mod):<code>~?", "<code>", html)


def _navigation(index: str) -> list[Any]:
    """The sections of index.md with their pages, and what is in none of them at the end."""
    sections: list[Any] = [{"Home": "index.md"}]
    listed = {"index.md"}
    for title, text in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", index, re.M | re.S):
        pages = []
        for link in LINK.finditer(text):
            if uri := _on_site((TREE / "docs" / link["path"]).resolve()):
                pages.append({link["text"][1:-1].capitalize(): uri})
                listed.add(uri)
        sections.append({title: pages})
    found = {path.name for path in (TREE / "docs").glob("*.md")}
    more = [name for name in sorted(found - listed)]
    sections += [{"More": more}] if more else []
    cards = [f"cards/{path.name}" for path in sorted((TREE / "model_cards").glob("*.md"))]
    return [*sections, {"Python": "api.md"}, {"Model cards": ["gallery.md", *cards]}]


def _on_site(path: Path) -> str | None:
    """Where a file or folder of the tree is on the site."""
    place = path.relative_to(TREE).as_posix() if path.is_relative_to(TREE) else ""
    if place in BESIDE:
        return BESIDE[place]
    if place == "README.md":
        return "index.md"
    if place == "model_cards":
        return "gallery.md"
    folder, _, name = place.partition("/")
    return {"docs": name, "model_cards": f"cards/{name}"}.get(folder) if name else None


def _source(uri: str) -> Path:
    """The inverse, for the pages of the site."""
    for name, other in BESIDE.items():
        if uri == other:
            return TREE / name
    return TREE / ("model_cards" if uri.startswith("cards/") else "docs") / Path(uri).name


def _gallery(cards: list[Path]) -> str:
    """A picture of every set of weights that has one, by data set; the others by name."""
    lines = [
        "# Model cards",
        "",
        "Where a model rebuilds, originals stand above what it makes of them; where it generates, "
        "the rest is made up. None is picked.",
    ]
    pages = [path for path in cards if path.suffix == ".md"]
    for dataset in sorted({_dataset(path) for path in pages}):
        lines += ["", f"## {dataset}", ""]
        for path in (path for path in pages if _dataset(path) == dataset):
            picture = path.with_name(path.stem + ".png")
            lines += [f"### [{path.stem}](../model_cards/{path.name})", ""]
            if picture.exists():
                lines += [f"![Images of {path.stem}](../model_cards/{picture.name})", ""]
    return "\n".join(lines) + "\n"


def _dataset(card: Path) -> str:
    return str(re.findall(r"^    dataset:\n      name: (.+)$", card.read_text("utf-8"), re.M)[0])


def _api() -> str:
    """The directives that mkdocstrings turns into the docstrings of all public names."""
    import importlib.util

    import zoo

    lines = ["# Python", "", "All of these are in `zoo`.", ""]
    for name in (name for name in zoo.__all__ if not name.startswith("_")):
        value = getattr(zoo, name)
        home = getattr(value, "__module__", "zoo") or "zoo"
        path = f"{home}.{name}" if home.startswith("zoo.") else f"zoo.{zoo._HOME[name]}.{name}"
        lines += [f"::: {path}", ""]
    lines += ["::: zoo.model.ZooModel", ""]
    for module in MODULES:
        if importlib.util.find_spec(module):
            lines += [f"## `{module}`", "", f"::: {module}", "    options:"]
            lines += ["      heading_level: 3", "      show_root_heading: false", ""]
    return "\n".join(lines)
