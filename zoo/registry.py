"""Finds plugins and asks each for its records, so that none can disturb another.

pluggy keeps the hooks; the loop around it is ours, since pluggy's own entry-point loader dies
with the first broken plugin. It runs once, when somebody first needs a record, in the order of
the distributions' names. Three environment variables steer it:

``ZOO_PLUGINS``          only these distributions (names, separated by commas)
``ZOO_PLUGINS_BLOCK``    all but these
``ZOO_PLUGINS_STRICT``   1: the first plugin that fails raises at once
"""

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

import pluggy

from zoo import hookspecs
from zoo.errors import AmbiguousName, PluginError, SpecError, UnknownModel, ZooError
from zoo.installing import install_command, install_plugins_command
from zoo.spec import ModelSpec, Prefix, is_prefix

_R = TypeVar("_R", ModelSpec, Prefix)

GROUP = "zoo"
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "huggingface_hub", "tensorflow", "jax")
"""Libraries whose import while plugins are discovered makes every command slow."""


class Fault(NamedTuple):
    """What went wrong with a plugin, and where.

    ``stage``: ``announce`` (the entry point), ``import`` (the module), ``hooks`` (a wrong signature
    or an unknown hook), ``call`` (the hook raised), ``result`` (it returned something else than
    valid records), or ``heavy`` (it works, but imported a heavy library, named in the exception).
    """

    stage: str
    exception: BaseException

    @property
    def fatal(self) -> bool:
        """Whether the plugin's models are out of reach."""
        return self.stage != "heavy"

    @property
    def message(self) -> str:
        """The exception's text, on one line."""
        try:
            return " ".join(str(self.exception).split())
        except Exception:  # a plugin's own exception, whose __str__ fails too
            return "(its text cannot be had)"

    def __str__(self) -> str:
        return f"{self.stage}: {type(self.exception).__name__}: {self.message}"


class Candidate(NamedTuple):
    """An entry point that announces a plugin."""

    distribution: str
    version: str
    entry_point: str
    module: str
    path: Path | None = None  # of a plugin that lies in a tree and is not installed
    problem: str = ""  # what is wrong with the announcement itself


@dataclass
class Plugin:
    """What discovery found out about one candidate."""

    candidate: Candidate
    root: ModuleType | None = None
    specs: tuple[ModelSpec, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    fault: Fault | None = None

    @property
    def distribution(self) -> str:
        """The distribution's name, which a full model name starts with."""
        return self.candidate.distribution

    def __str__(self) -> str:
        c = self.candidate
        return f"{c.distribution} {c.version} ({c.entry_point} = {c.module})"


class Registry:
    """All plugins, as they were found. Use :func:`registry`."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.switched_off: dict[str, str] = {}  # distribution: the variable that did it

    def specs(self) -> Iterator[tuple[Plugin, ModelSpec]]:
        """Every declared model, by name."""
        pairs = [(plugin, spec) for plugin in self.plugins for spec in plugin.specs]
        return iter(sorted(pairs, key=lambda pair: (pair[1].name, pair[0].distribution)))

    def names(self) -> list[str]:
        """The names that :meth:`find` takes: in full for a model that two plugins declare."""
        pairs = list(self.specs())
        often = _repeated(spec.name for _, spec in pairs)
        return [f"{p.distribution}:{s.name}" if s.name in often else s.name for p, s in pairs]

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
            UnknownModel: no plugin has it; the text has the one to install, if that is known.
            AmbiguousName: several have it, and there is no way to choose but to switch one off.
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
        _registry = discover([*_candidates_in_trees(_trees), *_candidates_installed()])
    return _registry


def add_tree(root: Path) -> None:
    """Use the plugins in ``root/plugins``, which need not be installed, before installed ones."""
    global _registry
    if root not in _trees:
        _trees.append(root)
        _registry = None


def discover(candidates: Iterable[Candidate]) -> Registry:
    """Load every candidate that the environment allows, each on its own.

    Of two candidates with the same distribution and entry point the first counts.
    """
    allowed = _names_in("ZOO_PLUGINS")
    blocked = _names_in("ZOO_PLUGINS_BLOCK") or set()
    strict = os.environ.get("ZOO_PLUGINS_STRICT", "") not in ("", "0")
    unique = {(c.distribution, c.entry_point): c for c in reversed(list(candidates))}
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    found = Registry()
    for key in sorted(unique):
        candidate = unique[key]
        if candidate.distribution in blocked:
            found.switched_off[candidate.distribution] = "ZOO_PLUGINS_BLOCK"
            continue
        if allowed is not None and candidate.distribution not in allowed:
            found.switched_off[candidate.distribution] = "ZOO_PLUGINS"
            continue
        plugin = _load(candidate, manager)
        found.plugins.append(plugin)
        _raise_if(strict, plugin)
    for plugin in found.plugins:  # once all distributions are known
        if hidden := sorted(_hidden(plugin, {p.distribution for p in found.plugins})):
            plugin.specs, plugin.prefixes = (), ()
            plugin.fault = Fault(
                "result",
                SpecError(
                    f"the prefix {hidden[0]}: is the name of an installed plugin distribution, "
                    f"whose models are called {hidden[0]}:model already"
                ),
            )
            _raise_if(strict, plugin)
    return found


def _raise_if(strict: bool, plugin: Plugin) -> None:
    if strict and plugin.fault:
        raise PluginError(
            f"the plugin {plugin} failed, and ZOO_PLUGINS_STRICT is set.\n{plugin.fault}"
        ) from plugin.fault.exception


def _hidden(plugin: Plugin, distributions: set[str]) -> set[str]:
    """Prefixes of ``plugin`` that would stand before the models of a distribution."""
    return {p.name for p in plugin.prefixes if normalise(p.name) in distributions}


def _load(candidate: Candidate, manager: pluggy.PluginManager) -> Plugin:
    plugin = Plugin(candidate)
    light = {name for name in HEAVY if name not in sys.modules}
    stage = "announce"
    try:
        if candidate.problem:
            raise SpecError(candidate.problem)
        stage = "import"
        if candidate.path is not None and str(candidate.path) not in sys.path:
            sys.path.insert(0, str(candidate.path))
        plugin.root = importlib.import_module(candidate.module)
        stage = "hooks"
        others = list(manager.get_plugins())
        manager.register(plugin.root, f"{candidate.distribution}:{candidate.entry_point}")
        _refuse_unknown_hooks(plugin.root, manager)
        manager.check_pending()
        stage = "call"
        models = manager.subset_hook_caller("zoo_models", remove_plugins=others)()
        prefixes = manager.subset_hook_caller("zoo_prefixes", remove_plugins=others)()
        stage = "result"
        if not models and not prefixes:
            raise SpecError(
                "implements no hook zoo_models or zoo_prefixes, or it returned None"
                + _unmarked(plugin.root)
            )
        specs = _validated(models, "zoo_models", ModelSpec)
        plugin.prefixes = _validated(prefixes, "zoo_prefixes", Prefix)
        plugin.specs = specs  # both or neither
    # SystemExit too: a plugin that calls exit() must not end somebody else's program.
    except (Exception, SystemExit) as error:
        plugin.fault = Fault(stage, error)
        if plugin.root is not None and manager.is_registered(plugin.root):
            own = manager.get_name(plugin.root) == f"{candidate.distribution}:" + (
                candidate.entry_point
            )
            if own:  # not so for a second entry point of the same module
                manager.unregister(plugin.root)
        return plugin
    if heavy := sorted(light & set(sys.modules)):
        plugin.fault = Fault(
            "heavy",
            ImportWarning(
                f"imports {', '.join(heavy)} while it is discovered, which makes every command "
                "slow; import it where the model is built"
            ),
        )
    return plugin


def _refuse_unknown_hooks(root: ModuleType, manager: pluggy.PluginManager) -> None:
    """Raises: SpecError: ``root`` implements a hook that there is not."""
    callers = manager.get_hookcallers(root) or []
    known = sorted(caller.name for caller in vars(manager.hook).values() if caller.has_spec())
    for caller in callers:
        if caller.has_spec():
            continue
        import difflib

        (function,) = (i.function for i in caller.get_hookimpls() if i.plugin is root)
        near = difflib.get_close_matches(caller.name, known, n=1, cutoff=0.5)
        code = function.__code__
        raise SpecError(
            f"there is no hook {caller.name!r} ({code.co_filename}:{code.co_firstlineno}); the "
            f"hooks are {', '.join(known)}." + (f" Did you mean {near[0]}?" if near else "")
        )


def _unmarked(root: ModuleType) -> str:
    """That a function has a hook's name and is no hook, if so."""
    for name in ("zoo_models", "zoo_prefixes"):
        if callable(function := getattr(root, name, None)) and not hasattr(function, "zoo_impl"):
            return f": {name} is there, and @hookimpl is missing before it"
    return ""


def _validated(answers: list, hook: str, kind: type[_R]) -> tuple[_R, ...]:
    """What ``hook`` returned, if the plugin implements it."""
    if not answers:
        return ()
    (answer,) = answers
    expected = f"{hook} should return {kind.__name__} records"
    if isinstance(answer, str | bytes | dict) or not isinstance(answer, Iterable):
        raise SpecError(f"{expected}, got {answer!r:.200}")
    records = tuple(answer)
    for record in records:
        if not isinstance(record, kind):
            raise SpecError(f"{expected}, got {record!r:.200}")
    if twice := _repeated(record.name for record in records):
        raise SpecError(f"{hook} returned {', '.join(sorted(twice))} more than once")
    return records


def _candidates_installed() -> Iterator[Candidate]:
    """Entry points of the group in every ``*.dist-info`` on sys.path.

    Read here and not with importlib.metadata, whose import and parsing (it needs the email, csv and
    zip libraries) would be a fifth of the time that ``zoo list`` takes.
    """
    seen = set()
    for path in sys.path:
        try:
            names = sorted(os.listdir(path or "."))
        except OSError:  # not a folder, or gone
            continue
        for info in names:
            stem, _, kind = info.rpartition(".")
            if kind not in ("dist-info", "egg-info"):
                continue
            distribution, _, version = stem.partition("-")
            name = normalise(distribution)
            if name in seen:  # shadowed by one earlier on sys.path, as imports are
                continue
            seen.add(name)
            try:
                text = Path(path, info, "entry_points.txt").read_text("utf-8", "replace")
            except OSError:  # most distributions have none
                continue
            for entry_point, module in _entry_points(text):
                problem = "" if module else "expected name = module in its entry_points.txt"
                yield Candidate(name, version or "unknown", entry_point, module, problem=problem)


def _entry_points(text: str) -> Iterator[tuple[str, str]]:
    """Names and modules in the section of our group: ``[zoo]``, then ``name = module`` lines."""
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line[1:-1].strip()
        elif section == GROUP and line and not line.startswith("#"):
            name, _, module = line.partition("=")
            yield name.strip(), module.strip()


def _candidates_in_trees(trees: Iterable[Path]) -> Iterator[Candidate]:
    for root in trees:
        import tomllib  # here, since nearly always there is no tree

        for pyproject in sorted(root.glob("plugins/*/pyproject.toml")):
            try:
                project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
                distribution, version = normalise(project["name"]), project["version"]
                entry_points = dict(project.get("entry-points", {}).get(GROUP, {}))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                problem = f"{pyproject} cannot be used: {error!r}"
                yield Candidate(pyproject.parent.name, "unknown", "?", "?", problem=problem)
                continue
            for name, module in entry_points.items():
                yield Candidate(distribution, version, name, module, pyproject.parent / "src")


def builder(spec: ModelSpec | Prefix) -> type:
    """The class that ``spec.builder`` names, imported now.

    Raises:
        PluginError: the module or the class is not there, or fails to import.
    """
    module, _, attribute = spec.builder.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise PluginError(
            f"the builder {spec.builder} of {spec.name} cannot be imported.\n"
            f"{type(error).__name__}: {error}"
        ) from error


def usual_owner(prefix: str) -> str:
    """The distribution that has a prefix, if it is called as ours are."""
    return normalise(f"latentzoo-{prefix}")


def normalise(distribution: str) -> str:
    """A distribution's name as the packaging standard (PEP 503) spells it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _names_in(variable: str) -> set[str] | None:
    value = os.environ.get(variable)
    return None if value is None else {normalise(n.strip()) for n in value.split(",") if n.strip()}


def _repeated(names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}
