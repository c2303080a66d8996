"""Recognises repositories of other libraries, and says what loads them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UnsafeWeights, WeightsNotFound, ZooError
from zoo.folder import CARD, CONFIG, PICKLES
from zoo.hub.errors import clean
from zoo.installing import install_command
from zoo.registry import usual_owner

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo


LIBRARIES = {"diffusers": "diffusers:{}", "open_clip": "clip:hf-hub:{}", "timm": "timm:hf-hub:{}"}
"""Other libraries, by what the Hub calls them, and the zoo's names of their repositories."""


def is_ours(config: Mapping[str, Any]) -> bool:
    return {"api_version", "model", "config"} <= config.keys()


def foreign(
    repo: str, listing: "ModelInfo | None", config: Mapping[str, Any] | None = None
) -> ZooError:
    """The error for a repository that is not the zoo's: what it looks like, and what loads it."""
    files = {str(f.rfilename) for f in listing.siblings or ()} if listing else set()
    library = (listing and listing.library_name) or _library(files, config or {})
    ways = {
        "timm": f"zoo.load('timm:hf-hub:{repo}') ({install_command(usual_owner('timm'))})",
        "open_clip": f"zoo.load('clip:hf-hub:{repo}') ({install_command(usual_owner('clip'))})",
        "transformers": f"transformers.AutoModel.from_pretrained({repo!r})",
        "diffusers": f"zoo.load('diffusers:{repo}') ({install_command(usual_owner('diffusers'))})",
        "sentence-transformers": f"sentence_transformers.SentenceTransformer({repo!r})",
    }
    lines = [
        f"hf-hub:{repo} has no weights of the zoo: "
        + ("its config.json is of something else" if CONFIG in files or config else
           "it has no config.json")
    ]  # fmt: skip
    if library in ways:
        lines.append(f"It looks like a repository of {library}. Try: {ways[library]}")
    elif library and library != "latentzoo":
        lines.append(f"It says that it is a repository of {clean(library, 50)}")
    elif pickles := sorted(f for f in files if f.lower().endswith(PICKLES)):
        return UnsafeWeights(
            f"{lines[0]}, and it has {pickles[0]!r:.200}, which is a pickle or may be one: reading "
            "it could run any code, and the zoo never does"
        )
    elif files:
        lines.append(f"It has: {clean(', '.join(sorted(files)), 300)}")
    return WeightsNotFound("\n".join(lines))


def stated_licence(folder: Path) -> str | None:
    """The licence that a repository's card states, if it lies in the folder and does."""
    card = folder / CARD
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        head = file.read(5000)
    found = re.search(r"^license:[ \t]*['\"]?([\w.+-]{1,60})", head.partition("\n---")[0], re.M)
    return found and found[1]


def _library(files: set[str], config: Mapping[str, Any]) -> str | None:
    if "model_index.json" in files or "_diffusers_version" in config:
        return "diffusers"
    if "open_clip_config.json" in files:
        return "open_clip"
    if "modules.json" in files:
        return "sentence-transformers"
    if "pretrained_cfg" in config or "architecture" in config:
        return "timm"
    return "transformers" if {"model_type", "architectures"} & config.keys() else None
