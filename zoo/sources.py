"""Resolves a name to a record or to a weights folder, once; the result is carried along.

A name is parsed (:func:`parse`) and then resolved either to a record (:func:`declared`,
:func:`described`) or to a weights folder on this machine (:func:`locate`), which loading,
measuring, publishing and cards work on.
"""

import os
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from zoo.boundary import typed, user_path
from zoo.discovery import Plugin
from zoo.errors import (
    InvalidConfig,
    ModelNameError,
    PluginError,
    UnknownModel,
    UnknownTag,
    WeightsError,
    WeightsNotFound,
    ZooError,
)
from zoo.folder import FolderConfig, inside_run, is_unread, read_config, weights_root
from zoo.names import FolderName, HubName, Name, PluginName, PrefixName, parse_name
from zoo.registry import builder, registry
from zoo.spec import ModelSpec, Source, Weights

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Located:
    """A weights folder on this machine, with all that was found out on the way to it.

    ``config`` is its config.json, ``recorded`` the sha256 that the plugin's own record has.
    """

    kind: str
    name: str
    folder: Path
    spec: ModelSpec
    config: FolderConfig
    commit: str | None = None
    recorded: str | None = None

    @property
    def source(self) -> Source:
        """The ``source`` attribute of a model that is loaded from here."""
        return Source(kind=self.kind, name=self.name, folder=self.folder, commit=self.commit)

    @property
    def cached(self) -> bool:
        """Whether it is in the cache of the Hub's client, whose files are never written to."""
        return self.kind == "hub"


def parse(text: str) -> Name:
    """The parts of the name ``text``, given the prefixes of the installed plugins.

    Raises:
        InvalidName: it is of no form that names have.
    """
    return parse_name(text, registry().prefix_names())


def has_folder(name: str) -> bool:
    """Whether ``name`` means a weights folder, which a name with a plugin's prefix does not."""
    return not isinstance(parse(name), PrefixName)


# -- records -------------------------------------------------------------------------------------


def declared(name: PluginName) -> tuple[Plugin, ModelSpec]:
    """The plugin and the record of a model.

    Raises: as :meth:`zoo.registry.Registry.find`.
    """
    plugin, spec = registry().find(name.model, name.distribution)
    _warn_of_old_name(name.model, spec)
    return plugin, spec


def owner(name: str) -> Plugin:
    """The plugin that a name belongs to, as far as the name itself says.

    Raises:
        UnknownModel: it is a folder or a repository, which only claims to be of a plugin.
    """
    match parse(name):
        case PrefixName(prefix=prefix):
            return registry().find_prefix(prefix)[0]
        case PluginName(model=model, distribution=distribution):
            return registry().find(model, distribution)[0]
        case FolderName() | HubName():
            raise UnknownModel(f"{name} is of no plugin: expected a model such as 'deep_ae'")


def described(name: Name) -> ModelSpec:
    """The record of the model that a name means; with a tag, only that set of weights is in it.

    Of a repository on the Hub, config.json is fetched and no tensors.
    """
    match name:
        case PrefixName():
            return of_builder(name, "describe", ModelSpec)
        case PluginName():
            _, spec = declared(name)
            if name.tag is None:
                return spec
            weights = find_weights(spec, name.tag)
            return replace(spec, weights=(weights,), default_tag=weights.tag)
        case HubName():
            from zoo import hub

            config = hub.peek(name.repo, name.revision).config
        case FolderName():
            config = read_config(inside_run(user_path(name.path)))
    return replace(claimed(config), weights=(), default_tag=None, config=config.config)


def claimed(config: FolderConfig, where: str = "") -> ModelSpec:
    """The plugin's own record of the model that a folder claims to have.

    Raises:
        InvalidConfig: no plugin that is installed declares it; the text begins with ``where``.
    """
    try:
        name = parse_name(config.model)
        if not isinstance(name, PluginName) or name.tag or name.distribution:
            raise InvalidConfig("not the bare name of a model")
        owners = {
            plugin.distribution
            for plugin, spec in registry().specs()
            if name.model in (spec.name, *spec.renamed_from)
        }
        chosen = config.plugin if config.plugin in owners else None
        _, spec = registry().find(name.model, chosen)
    except (ModelNameError, InvalidConfig) as error:
        raise InvalidConfig(
            f"{where or config.where} asks for the model {config.model!r:.80} of the "
            f"plugin {config.plugin!r:.80}, which is not installed here (the folder says so, "
            f"nobody checked it).\n{error}"
        ) from error
    _warn_of_old_name(name.model, spec)
    return spec


def _warn_of_old_name(used: str, spec: ModelSpec) -> None:
    if used != spec.name:
        warnings.warn(
            f"{used!r} is now called {spec.name!r}; the old name works for the time being",
            FutureWarning,
            stacklevel=_levels_to_the_caller(),
        )


def _levels_to_the_caller() -> int:
    """How far up the stack, from where this is called, the zoo's own code ends."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in ("zoo", "contextlib"):
        frame, levels = frame.f_back, levels + 1
    return levels


def find_weights(spec: ModelSpec, tag: str) -> Weights:
    """The record of the weights of ``spec`` with this tag.

    Raises:
        UnknownTag: it has none; the text has those that there are.
    """
    for weights in spec.weights:
        if weights.tag == tag:
            return weights
    have = ", ".join(f"{spec.name}.{w.tag}" for w in spec.weights)
    raise UnknownTag(
        f"{spec.name} has no weights {tag!r}. "
        + (f"There are: {have}" if have else "It has none at all.")
    )


def prefix_builder(name: PrefixName) -> type:
    """The class that a plugin has for the names with its prefix.

    Raises: as :meth:`zoo.registry.Registry.find_prefix` and :func:`zoo.registry.builder`.
    """
    return builder(registry().find_prefix(name.prefix)[1])


def of_builder(name: PrefixName, call: str, kind: type[_T], **arguments: Any) -> _T:
    """Call a class method of a prefix's builder, which is a plugin's code; check the result.

    Raises:
        PluginError: it fails, or returns something else than ``kind``.
    """
    plugin, prefix = registry().find_prefix(name.prefix)
    maker: Any = prefix_builder(name)
    from zoo.isolation import isolated

    try:
        # What create makes has its initial values from torch's global random state.
        with isolated(None if arguments.get("pretrained") is False else 0):
            answer = getattr(maker, call)(name.rest, **arguments)
    except ZooError:
        raise
    except Exception as error:
        raise PluginError(
            f"{name.text}: {prefix.builder}.{call} of the plugin {plugin} failed.\n"
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(answer, kind):
        raise PluginError(
            f"{name.text}: {prefix.builder}.{call} of the plugin {plugin} should return a "
            f"{kind.__name__}, got {answer!r:.200}"
        )
    return answer


# -- folders -------------------------------------------------------------------------------------


@typed()
def locate(name: str | Name, *, token: str | None = None, verify: bool = False) -> Located:
    """The weights folder that a name means; what is on the Hub is fetched.

    Args:
        name: as :func:`zoo.load` takes it.
        token: of the Hub.
        verify: read all files that were in the Hub's cache already, and mend them.

    Raises: as :func:`zoo.load`, but nothing in the folder except config.json is looked at.
    """
    name = name if isinstance(name, Name) else parse(name)
    match name:
        case PrefixName():
            raise WeightsNotFound(
                f"{name.text} has no weights folder: its tensors are kept as the library behind "
                f"the prefix {name.prefix}: keeps them. zoo.load({name.text!r}) loads them"
            )
        case HubName():
            return _on_the_hub(name, token, verify)
        case FolderName():
            folder = inside_run(user_path(name.path))
            config = read_config(folder)
            spec = claimed(config)
            return Located(kind="folder", name=name.text, folder=folder, spec=spec, config=config)
        case PluginName():
            return _of_plugin(name, token, verify)


def weights_folder(name: str, *, token: str | None = None) -> Path:
    """The path of the weights folder of ``name``; :func:`locate` gives more."""
    return locate(name, token=token).folder


def _on_the_hub(name: HubName, token: str | None, verify: bool) -> Located:
    from zoo import hub

    specs = []
    fetched = hub.fetch(
        name.repo,
        name.revision,
        token=token,
        verify=verify,
        accept=lambda config: specs.append(claimed(config, name.text)),
    )
    full = f"hf-hub:{name.repo}@{fetched.commit}"
    return Located(
        kind="hub",
        name=full,
        folder=fetched.folder,
        spec=specs[0] if specs else claimed(fetched.config, full),
        config=fetched.config,
        commit=fetched.commit,
    )


def _of_plugin(name: PluginName, token: str | None, verify: bool) -> Located:
    plugin, spec = declared(name)
    tag = name.tag or spec.default_tag
    if tag is None:
        raise UnknownTag(
            f"{spec.name} has no trained weights. For an untrained one: "
            f"zoo.create({spec.name!r}); to train it: zoo train {spec.name} --data ... "
            "--out FOLDER"
        )
    weights = find_weights(spec, tag)
    full = f"{spec.name}.{tag}"
    folder = None if _hub_first() else bundled_folder(plugin, spec, tag)
    if folder is not None:
        return Located(
            kind="bundled",
            name=full,
            folder=folder,
            spec=spec,
            config=read_config(folder),
            # A record that was not read yet would be read from this very config.
            recorded=None if is_unread(weights) else weights.sha256,
        )
    if weights.repo is None or weights.revision is None:
        asked = "ZOO_WEIGHTS=hub is set, but the record of" if _hub_first() else "the record of"
        raise WeightsNotFound(
            f"{asked} {full} in {plugin} names no "
            + ("commit" if weights.repo else "repository")
            + " on the Hub"
            + ("" if _hub_first() else ", and the plugin itself does not ship the weights")
            + (".\nUnset ZOO_WEIGHTS to load what the plugin ships" if _hub_first() else "")
        )
    from zoo import hub

    fetched = hub.fetch(
        weights.repo, weights.revision, sha256=weights.sha256, token=token, verify=verify
    )
    return Located(
        kind="hub",
        name=full,
        folder=fetched.folder,
        spec=spec,
        config=fetched.config,
        commit=fetched.commit,
        recorded=weights.sha256,
    )


def _hub_first() -> bool:
    value = os.environ.get("ZOO_WEIGHTS", "")
    if value not in ("", "hub"):
        raise WeightsError(f"ZOO_WEIGHTS should be 'hub', or not be set; it is {value!r:.80}")
    return value == "hub"


def bundled_folder(plugin: Plugin, spec: ModelSpec, tag: str) -> Path | None:
    """The weights folder that the plugin ships, under the model's name or an old one; or None."""
    if plugin.root is None or not plugin.root.__file__:
        return None
    root = weights_root(plugin.root.__file__)
    folders = (root / f"{name}.{tag}" for name in (spec.name, *spec.renamed_from))
    return next((folder for folder in folders if folder.is_dir()), None)
