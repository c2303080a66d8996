"""Resolves the rest of a name to an architecture of open_clip and the place of its weights.

=====================================  ===========================================================
``ViT-B-32.laion2b_s34b_b79k``         weights that open_clip lists, from their repository
``ViT-B-32``                           the architecture: for an untrained model
``ViT-B-32.openai@<commit>``           those of this revision of their repository on the Hub
``hf-hub:org/name``, ``...@<commit>``  any repository on the Hub that open_clip's tools pushed
=====================================  ===========================================================
"""

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zoo import hub
from zoo.errors import InvalidConfig, UnknownModel, UnknownTag, UnsafeWeights, WeightsNotFound
from zoo.folder import CARD, read_json
from zoo.names import parse_repo
from zoo_clip.config import Pictures, checked_model, checked_pictures
from zoo_clip.library import VERSION, factory, pretrained

_HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
TENSORS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""What open_clip pushes today, and what the Hub's own bot made of repositories of before."""
SAFE = ("ViT-B-32.laion2b_s34b_b79k", "ViT-B-16-SigLIP.webli", "MobileCLIP-S1.datacompdr")
"""For a message: weights that are published as safetensors."""


@dataclass(frozen=True)
class Source:
    """An architecture of open_clip, and where its weights are."""

    name: str
    """The text after ``clip:``, without a revision."""
    config: Mapping[str, Any]
    """The arguments of open_clip's classes, checked."""
    pictures: Pictures = field(default_factory=Pictures)
    """How pictures are prepared."""
    repo: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = TENSORS
    """Names that the tensors may have there, the first that exists."""
    licence: str | None = None
    """As the repository's card names it, where that was fetched."""

    @property
    def tokenizer(self) -> bool:
        """Whether its tokenizer is a file of the repository, and not open_clip's own."""
        return bool(self.config["text_cfg"].get("hf_tokenizer_name"))

    def require_weights(self) -> str:
        """The repository of the weights.

        Raises:
            UnknownTag: the name is that of an architecture; the text has its weights.
            UnsafeWeights: open_clip knows an address of a pickle alone.
        """
        if self.repo is not None:
            return self.repo
        architecture, _, tag = self.name.partition(".")
        if tag:
            raise UnsafeWeights(
                f"open_clip has {self.name} as a pickle alone; the zoo reads safetensors and "
                f"nothing else, such as clip:{', clip:'.join(SAFE)}"
            )
        raise UnknownTag(
            f"clip:{self.name} is an architecture, without weights. {_weights_of(architecture)}.\n"
            f"For an untrained one: zoo.create('clip:{self.name}')"
        )


def find(rest: str) -> Source:
    """What ``rest`` of a name ``clip:rest`` is.

    Raises:
        UnknownModel, UnknownTag: open_clip does not have it; the text has close matches.
        InvalidName: what follows ``hf-hub:`` is not a repository.
        InvalidConfig: the repository's config does not describe a model of open_clip.
        CapabilityError: it is one that the zoo does not build.
        HubError: the repository cannot be found or reached.
    """
    if rest.startswith(_HUB):
        pushed = parse_repo(rest.removeprefix(_HUB))
        return _pushed(pushed.repo, pushed.revision)
    name, at, revision = rest.partition("@")
    if ":" in name or "/" in name:
        raise UnknownModel(
            f"clip:{rest} is no name of open_clip. Names look like: clip:{SAFE[0]}, "
            "clip:hf-hub:org/name"
        )
    source = _listed(name)
    if not at:
        return source
    # So that a wrong revision is found here, with the usual message.
    pinned = parse_repo(f"{source.require_weights()}@{revision}")
    return replace(source, repo=pinned.repo, revision=pinned.revision)


def _listed(name: str) -> Source:
    architecture, _, tag = name.partition(".")
    config = copy.deepcopy(factory.get_model_config(architecture))
    if config is None:
        raise UnknownModel(f"open_clip {VERSION} has no {architecture!r}. {_close(name)}")
    if not tag:
        return Source(name, checked_model(config, f"clip:{name}"))
    declared = pretrained.get_pretrained_cfg(architecture, tag)
    if not declared:
        raise UnknownTag(
            f"open_clip {VERSION} has no weights {tag!r} of {architecture}. "
            f"{_weights_of(architecture)}"
        )
    # Weights that were learnt with the quick form of GELU are wrong with the other.
    quick = bool(config.get("quick_gelu") or declared.get("quick_gelu"))
    checked = checked_model({**config, "quick_gelu": quick}, f"clip:{name}")
    pictures = checked_pictures(declared, f"clip:{name}")
    org, _, more = str(declared.get("hf_hub") or "").partition("/")
    repository, _, file = more.partition("/")
    safe = () if not file else (f"{file.rpartition('.')[0]}.safetensors",)
    repo = f"{org}/{repository}" if repository else None
    return Source(name, checked, pictures, repo, None, (*safe, *TENSORS))


def _weights_of(architecture: str) -> str:
    tags = pretrained.list_pretrained_tags_by_model(architecture)
    names = [f"clip:{architecture}.{tag}" for tag in tags]
    return f"There are: {', '.join(names)}" if names else "There are no weights of it"


def _close(name: str) -> str:
    tags = [f"{model}.{tag}" for model, tag in pretrained.list_pretrained()]
    names = tags if "." in name else factory.list_models()
    by_case = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name.lower(), by_case, n=3, cutoff=0.5)
    if close:
        return "Did you mean: " + ", ".join(f"clip:{by_case[each]}" for each in close) + "?"
    return "open_clip.list_pretrained() in Python lists what there is"


def _pushed(repo: str, revision: str | None) -> Source:
    """The model of a repository that was written by open_clip's ``push_to_hf_hub`` or otherwise."""
    try:
        fetched, _ = hub.fetch_first(repo, with_card(CONFIG), revision)
    except WeightsNotFound as error:
        raise WeightsNotFound(
            f"{error}.\nWithout {CONFIG} it is no repository of open_clip. If open_clip lists its "
            f"weights, they have a name such as clip:{SAFE[0]}"
        ) from error
    where = f"{CONFIG} of hf-hub:{repo}@{fetched.commit}"
    try:
        config = read_json(fetched.folder / CONFIG)
    except InvalidConfig as error:
        raise InvalidConfig(f"{where} cannot be used: {error}") from None
    # From here on the commit is fixed: the tensors are those of this config.
    return Source(
        f"hf-hub:{repo}",
        checked_model(config.get("model_cfg"), where),
        checked_pictures(config.get("preprocess_cfg", {}), where),
        repo,
        fetched.commit,
        licence=hub.stated_licence(fetched.folder),
    )


def with_card(*names: str) -> list[tuple[str, ...]]:
    """The choices for :func:`zoo.hub.fetch_first`: one of these files, with the repository's card
    if it has one."""
    return [(name, *more) for more in ((CARD,), ()) for name in names]
