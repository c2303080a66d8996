"""``zoo new-plugin``: a complete separate package for a model of one's own.

copier renders the template in ``zoo/authoring/template``, which comes in the zoo's own wheel. It
runs no task and no extension: copier refuses templates that want to unless they are declared
trusted.
"""

import keyword
import re
from pathlib import Path

import zoo
from zoo.boundary import typed, user_path
from zoo.errors import InputError, InvalidName, PluginError
from zoo.files import new_folder
from zoo.installing import core_anywhere
from zoo.optional import optional
from zoo.registry import registry

__all__ = ["new_plugin"]

KINDS = {"autoencoder": "AE", "generator": "Flow", "features": "Net"}
"""Kinds of plugins, each with the end of its model's class name."""
TEMPLATE = Path(__file__).parent / "template"
LONGEST = 30
"""The most letters of a name, so that no line of what is written gets too long."""


@typed()
def new_plugin(name: str, out: Path | None = None, *, kind: str = "autoencoder") -> Path:
    """Write the package of a new plugin, all of it or nothing, and return its folder.

    Args:
        name: ``mine`` or ``latentzoo-mine``: the distribution is then ``latentzoo-mine``, its
            module ``zoo_mine`` and its model ``mine``.
        out: the package's folder, which must be new or empty; ``latentzoo-mine`` here if not given.
        kind: what its model does: an ``autoencoder`` has all calls, a ``generator`` only
            ``generate``, and one of ``features`` only ``encode`` and ``features``.

    Raises:
        InputError: there is no such kind.
        InvalidName: of another form, or taken by a plugin that is installed.
        PluginError: the folder is not empty, or cannot be written.
        MissingDependency: copier is not installed.
    """
    if kind not in KINDS:
        raise InputError(f"expected a kind of plugin ({', '.join(KINDS)}), got {kind[:100]!r}")
    model = _model_name(name)
    distribution = f"latentzoo-{model.replace('_', '-')}"
    _require_new(model, distribution)
    folder = user_path(out if out is not None else distribution)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise PluginError(
            f"{folder} exists already and is not an empty folder, so nothing was written. Choose "
            "another one with --out"
        )
    copier = optional("copier", "copier", "plugin")
    try:
        with new_folder(folder.absolute()) as temporary:
            copier.run_copy(
                str(TEMPLATE),
                temporary,
                data={
                    "distribution": distribution,
                    "module": f"zoo_{model}",
                    "model": model,
                    "kind": kind,
                    "class_name": "".join(map(str.capitalize, model.split("_"))) + KINDS[kind],
                    "zoo_version": zoo.__version__,
                    "core": core_anywhere(),
                },
                defaults=True,
                quiet=True,
                unsafe=False,
                skip_tasks=True,
            )
    except OSError as error:
        raise PluginError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _model_name(name: str) -> str:
    plain = re.sub(r"[-_.]+", "_", name.strip().lower()).strip("_")
    plain = re.sub(r"^(latentzoo|zoo)(_|$)", "", plain)
    safe = re.sub(r"[^a-z0-9_]+", "_", plain).strip("_").lstrip("0123456789_")[:LONGEST]
    wanted = (
        f"expected a plugin's name such as mine or latentzoo-mine: a letter, then at most "
        f"{LONGEST - 1} more letters, digits or hyphens; got {name[:100]!r}"
    )
    if safe != plain or not safe or keyword.iskeyword(safe) or name != name.strip().lower():
        good = safe.strip("_") and not keyword.iskeyword(safe)
        raise InvalidName(
            f"{wanted}.\nTry: zoo new-plugin "
            + (safe.strip("_").replace("_", "-") if good else f"my-{safe or 'model'}")
        )
    return plain


def _require_new(model: str, distribution: str) -> None:
    for plugin in registry().plugins:
        taken = [s.name for s in plugin.specs if model in (s.name, *s.renamed_from)]
        if plugin.distribution == distribution or taken:
            raise InvalidName(
                f"{model} is taken: "
                + (f"the model {taken[0]} is in" if taken else "installed here is")
                + f" {plugin}.\nTry: zoo new-plugin my-{model.replace('_', '-')}"
            )
