"""All models and prefixes that the plugins declare, and how one of them is looked up by name."""

import importlib
from collections.abc import Iterator
from pathlib import Path

from zoo.discovery import (
    Discovery,
    Plugin,
    candidates_in_trees,
    candidates_installed,
    discover,
    normalise,
    repeated,
)
from zoo.errors import AmbiguousName, MissingDependency, PluginError, UnknownModel, ZooError
from zoo.installing import install_command, install_plugins_command
from zoo.spec import ModelSpec, Prefix, is_prefix


class Registry:
    """All plugins, as they were found. Use :func:`registry`."""

    def __init__(self, found: Discovery) -> None:
        self.plugins = found.plugins
        self.switched_off = found.switched_off

    def specs(self) -> Iterator[tuple[Plugin, ModelSpec]]:
        """Every declared model, by name."""
        pairs = [(plugin, spec) for plugin in self.plugins for spec in plugin.specs]
        return iter(sorted(pairs, key=lambda pair: (pair[1].name, pair[0].distribution)))

    def names(self) -> list[str]:
        """The names that :meth:`find` takes: in full for a model that two plugins declare."""
        pairs = list(self.specs())
        often = repeated(spec.name for _, spec in pairs)
        return [f"{p.distribution}:{s.name}" if s.name in often else s.name for p, s in pairs]

    def version(self, distribution: str) -> str | None:
        """The version of a plugin distribution that is installed; None if it is not."""
        versions = (p.candidate.version for p in self.plugins if p.distribution == distribution)
        return next(versions, None)

    def names_with(self, capability: str) -> list[str]:
        """Those of :meth:`names` whose models declare ``capability``, then such prefixes."""
        pairs = zip(self.names(), self.specs(), strict=True)
        names = [name for name, (_, spec) in pairs if capability in spec.capabilities]
        prefixes = [f"{p.name}:..." for _, p in self.prefixes() if capability in p.capabilities]
        return names + sorted(set(prefixes))

    def broken_weights(self) -> list[tuple[Plugin, str, ZooError]]:
        """Weights whose record cannot be read: their plugin, their name, and why.

        It reads the records of all, whose folders discovery does not look into.
        """
        broken = []
        for full, (plugin, spec) in zip(self.names(), self.specs(), strict=True):
            for weights in spec.weights:
                try:
                    weights.to_dict()
                except ZooError as error:
                    broken.append((plugin, f"{full}.{weights.tag}", error))
        return broken

    def prefixes(self) -> Iterator[tuple[Plugin, Prefix]]:
        """Every declared prefix, by name."""
        pairs = [(plugin, prefix) for plugin in self.plugins for prefix in plugin.prefixes]
        return iter(sorted(pairs, key=lambda pair: (pair[1].name, pair[0].distribution)))

    def prefix_names(self) -> set[str]:
        """The names of :meth:`prefixes`, as :func:`zoo.names.parse_name` wants them."""
        return {prefix.name for _, prefix in self.prefixes()}

    def find_prefix(self, name: str) -> tuple[Plugin, Prefix]:
        """The plugin that owns a prefix, and its record.

        Raises:
            UnknownModel: no plugin has it; the text names the one to install, if that is known.
            AmbiguousName: several have it, and all but one have to be switched off.
            PluginError: the distribution that has it failed to load; the reason is chained.
        """
        found = [pair for pair in self.prefixes() if pair[1].name == name]
        if len(found) == 1:
            return found[0]
        if found:
            owners = [plugin.distribution for plugin, _ in found]
            raise AmbiguousName(
                f"{len(owners)} plugins own the prefix {name!r}: {', '.join(owners)}.\n"
                "Switch off or uninstall all but one, such as by "
                f"ZOO_PLUGINS_BLOCK={','.join(owners[1:])}"
            )
        owner = usual_owner(name)
        if owner in {*self.switched_off, *(plugin.distribution for plugin in self.plugins)}:
            self._require(owner)
        raise UnknownModel(
            f"no plugin that is installed owns the prefix {name!r}\n"
            f"If it is one of ours, type: {install_command(owner)}"
        )

    def find(self, model: str, distribution: str | None = None) -> tuple[Plugin, ModelSpec]:
        """The plugin and record of ``model``; an old name finds the renamed one too.

        Raises:
            UnknownModel: no plugin declares it; the text has close matches and broken plugins.
            AmbiguousName: several do; the text has their full names.
            PluginError: the distribution asked for failed to load; the reason is chained.
        """
        if distribution is not None:
            distribution = normalise(distribution)
        found = [
            (plugin, spec)
            for plugin, spec in self.specs()
            if spec.name == model and distribution in (None, plugin.distribution)
        ] or [
            (plugin, spec)
            for plugin, spec in self.specs()
            if model in spec.renamed_from and distribution in (None, plugin.distribution)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            full = [f"{plugin.distribution}:{spec.name}" for plugin, spec in found]
            raise AmbiguousName(
                f"{len(full)} plugins declare {model!r}. Write one of: {', '.join(full)}"
            )
        if distribution is not None:
            self._require(distribution)
        raise self._unknown(model, distribution)

    def _require(self, distribution: str) -> None:
        if variable := self.switched_off.get(distribution):
            raise UnknownModel(f"the plugin {distribution} is switched off by {variable}")
        plugins = [p for p in self.plugins if p.distribution == distribution]
        if not plugins:
            if is_prefix(distribution):  # timm:resnet18.a1 looks like a model of a distribution
                self.find_prefix(distribution)
            have = ", ".join(sorted({p.distribution for p in self.plugins})) or "none"
            raise UnknownModel(
                f"no plugin distribution {distribution!r} is installed; installed: {have}.\n"
                f"To install it, type: {install_command(distribution)}"
            )
        for plugin in plugins:
            if plugin.fault and plugin.fault.fatal:
                raise PluginError(
                    f"the plugin {plugin} failed to load.\n{plugin.fault}"
                ) from plugin.fault.exception

    def _unknown(self, model: str, distribution: str | None) -> Exception:
        lines = [
            f"no model {model!r}"
            + (f" in {distribution}" if distribution else " in the plugins that are installed")
        ]
        import difflib

        names = sorted({spec.name for _, spec in self.specs()})
        if close := difflib.get_close_matches(model, names, n=3, cutoff=0.5):
            lines.append(f"Did you mean: {', '.join(close)}?")
        elif names:
            lines.append(f"There are: {', '.join(names)}")
        if not self.plugins:
            lines.append(f"No plugin is installed. Type: {install_plugins_command()}")
        broken = [p for p in self.plugins if p.fault and p.fault.fatal]
        lines += [f"This plugin failed to load and may have it: {p}: {p.fault}" for p in broken]
        error = UnknownModel("\n".join(lines))
        if broken:
            error.__cause__ = broken[0].fault.exception  # type: ignore[union-attr]
        return error


_registry: Registry | None = None
_trees: list[Path] = []


def registry() -> Registry:
    """The one registry; plugins are discovered at the first call.

    Raises:
        PluginError: a plugin failed and ``ZOO_PLUGINS_STRICT`` is set.
    """
    global _registry
    if _registry is None:
        _registry = Registry(discover([*candidates_in_trees(_trees), *candidates_installed()]))
    return _registry


def add_tree(root: Path) -> None:
    """Use the plugins in ``root/plugins``, which need not be installed, before installed ones."""
    global _registry
    if root not in _trees:
        _trees.append(root)
        _registry = None


def builder(spec: ModelSpec | Prefix) -> type:
    """The class that ``spec.builder`` names, imported now.

    Raises:
        MissingDependency: it needs a library that is not installed.
        PluginError: the module or the class is not there, or fails to import.
    """
    module, _, attribute = spec.builder.partition(":")
    try:
        found: type = getattr(importlib.import_module(module), attribute)
    except MissingDependency:  # its text has the pip command
        raise
    except Exception as error:
        raise PluginError(
            f"the builder {spec.builder} of {spec.name} cannot be imported.\n"
            f"{type(error).__name__}: {error}"
        ) from error
    return found


def usual_owner(prefix: str) -> str:
    """The distribution that owns a prefix if it is one of ours: ``latentzoo-<prefix>``."""
    return normalise(f"latentzoo-{prefix}")
