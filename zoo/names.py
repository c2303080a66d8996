"""Parses names: of a model, of its weights, of a folder, or of a repository on the Hub.

===================================  =============================================
``deep_ae``                          a model, with its default weights
``deep_ae.mnist``                    a model with the weights of that tag
``latentzoo-ae:deep_ae.mnist``       the same, of that plugin distribution
``local-dir:runs/mine``              a weights folder
``hf-hub:org/deep_ae.mine@<commit>`` a repository on the Hugging Face Hub
``timm:resnet18.a1_in1k``            what the plugin that owns the prefix makes of it
===================================  =============================================
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeGuard

from zoo.errors import InvalidName
from zoo.spec import is_prefix

# Compiled when they are first used, which re then remembers.
_MODEL = (
    r"(?:(?P<distribution>[A-Za-z0-9](?:[\w.-]{0,98}[A-Za-z0-9])?):)?"
    r"(?P<model>[a-z][a-z0-9_]{0,62})(?:\.(?P<tag>[a-z][a-z0-9_]{0,62}))?"
)
_REPO = r"(?a:[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})"
_REVISION = r"(?a:\w[\w./-]{0,199})"
_HUB = rf"(?P<repo>{_REPO})(?:@(?P<revision>{_REVISION}))?"
_SLIPS = "hf[-_]?hub|hub|local[-_]?dir|dir|file"
_FORMS = "deep_ae, deep_ae.mnist, latentzoo-ae:deep_ae.mnist, local-dir:FOLDER, hf-hub:org/name"


@dataclass(frozen=True)
class PluginName:
    """A model that a plugin declares, with or without the tag of weights."""

    text: str
    model: str
    tag: str | None = None
    distribution: str | None = None


@dataclass(frozen=True)
class HubName:
    """A repository on the Hugging Face Hub."""

    text: str
    repo: str
    revision: str | None = None


@dataclass(frozen=True)
class FolderName:
    """A weights folder, or a training run that holds one."""

    text: str
    path: str


@dataclass(frozen=True)
class PrefixName:
    """A name with a plugin's prefix: the plugin decides what ``rest`` means."""

    text: str
    prefix: str
    rest: str


Name = PluginName | HubName | FolderName | PrefixName


def parse_name(text: str, prefixes: Collection[str] = ()) -> Name:
    """The parts of the name ``text``; nothing is looked up.

    ``prefixes`` are those that plugins own (:meth:`zoo.registry.Registry.prefixes`). What looks
    like one and is not among them, and is no name of a plugin's model either, is a
    :class:`PrefixName` too, whose plugin somebody may have to install.

    Raises:
        InvalidName: it is of no form that names have; the text has the nearest that would be.
    """
    if not isinstance(text, str):
        raise InvalidName(f"expected a name such as 'deep_ae.mnist', got {text!r}")
    shown = repr(text if len(text) <= 120 else text[:120] + "...")
    prefix, colon, rest = text.partition(":")
    if prefix == "local-dir" and colon:
        if not rest or "\0" in rest:
            raise InvalidName(f"{shown} names no folder; write local-dir:FOLDER")
        return FolderName(text, rest)
    if prefix == "hf-hub" and colon:
        match = re.fullmatch(_HUB, rest)
        if match is None or ".." in rest or "//" in rest:
            raise InvalidName(
                f"{shown} is not a repository on the Hub; write hf-hub:org/name or "
                "hf-hub:org/name@REVISION"
            )
        return HubName(text, match["repo"], match["revision"])
    if colon and prefix in prefixes:
        return PrefixName(text, prefix, _checked_rest(prefix, rest, shown))
    # local_dir:x would be a model x of the distribution local_dir
    slip = colon and re.fullmatch(_SLIPS, prefix, re.I)
    if not slip and (match := re.fullmatch(_MODEL, text)):
        return PluginName(text, match["model"], match["tag"], match["distribution"])
    if not slip and colon and is_prefix(prefix) and not rest.startswith(("/", "\\")):
        return PrefixName(text, prefix, _checked_rest(prefix, rest, shown))
    raise InvalidName(f"{shown} is not a name of the zoo. {_guess(text)}")


def parse_repo(text: str) -> HubName:
    """The parts of ``org/name`` or ``org/name@REVISION``, a repository on the Hub.

    Raises:
        InvalidName: it is no such name.
    """
    name = parse_name(f"hf-hub:{text}")
    assert isinstance(name, HubName), "a name that begins with hf-hub: is one, or is refused"
    return name


def unpinned(name: str) -> str:
    """``name`` without the revision that may follow it after ``@``."""
    return re.sub("@[^#]*", "", name)


def _checked_rest(prefix: str, rest: str, shown: str) -> str:
    if not rest.strip() or not rest.isprintable() or len(rest) > 300:
        raise InvalidName(
            f"{shown}: expected 1 to 300 printable characters after {prefix}:, got {len(rest)}"
            + ("" if rest.isprintable() else ", some of them not printable")
        )
    return rest


def is_repo(text: object) -> TypeGuard[str]:
    """Whether ``text`` is ``org/name``, of which a path can be made."""
    return isinstance(text, str) and bool(re.fullmatch(_REPO, text)) and ".." not in text


def is_revision(text: object) -> TypeGuard[str]:
    """Whether ``text`` can be a branch, a tag or a commit, of which a path can be made."""
    if not isinstance(text, str) or ".." in text or "//" in text:
        return False
    return bool(re.fullmatch(_REVISION, text))


def is_commit(text: object) -> TypeGuard[str]:
    """Whether ``text`` is a full commit sha, which means the same bytes for ever."""
    return isinstance(text, str) and len(text) == 40 and set(text) <= set("0123456789abcdef")


def _guess(text: str) -> str:
    url = re.match(r"https?://(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", text)
    if url:
        return f"It looks like a page of the Hub; write {_printable('hf-hub:' + url[1])}"
    slip = re.match(rf"({_SLIPS})(:/{{0,2}})(.+)", text, re.I)
    if slip:
        right = "hf-hub" if "hub" in slip[1].lower() else "local-dir"
        return f"Write {_printable(f'{right}:{slip[3]}')}"
    if re.match(r"[A-Za-z]:[\\/]", text) or text.startswith((".", "/", "~")) or "\\" in text:
        return f"It looks like a folder; write {_printable('local-dir:' + text)}"
    if text.count("/") == 1:
        return (
            "For a folder write " + _printable(f"local-dir:{text}") + ", for a repository on the "
            "Hub " + _printable(f"hf-hub:{text}")
        )
    if "/" in text:
        return f"For a folder write {_printable('local-dir:' + text)}"
    distribution, colon, model = text.strip().rpartition(":")
    plain = distribution + colon + model.lower().replace("-", "_").replace(" ", "_")
    if plain != text and re.fullmatch(_MODEL, plain):
        return f"Write {plain}"
    return f"Names look like: {_FORMS}"


def _printable(text: str) -> str:
    """``text`` without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text[:120])
