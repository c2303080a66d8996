"""Finds the installed plugins and reads their records, so that a broken one harms no other.

pluggy keeps the hooks; the loop around it is ours, since pluggy's own entry-point loader dies
with the first broken plugin. :mod:`zoo.registry` runs it once, when somebody first needs a record,
in the order of the distributions' names. Three environment variables steer it:

``ZOO_PLUGINS``          only these distributions (names, separated by commas)
``ZOO_PLUGINS_BLOCK``    all but these
``ZOO_PLUGINS_STRICT``   1: the first plugin that fails raises at once
"""

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import pluggy

from zoo import hookspecs
from zoo.errors import PluginError, SpecError
from zoo.spec import ModelSpec, Prefix

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
            return "(its message cannot be read)"

    def __str__(self) -> str:
        return f"{self.stage}: {type(self.exception).__name__}: {self.message}"


class Candidate(NamedTuple):
    """An entry point that announces a plugin."""

    distribution: str
    version: str
    entry_point: str
    module: str
    path: Path | None = None  # of a plugin in a source tree that is not installed
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


@dataclass
class Discovery:
    """What was found: the plugins, and which are switched off by which variable."""

    plugins: list[Plugin] = field(default_factory=list)
    switched_off: dict[str, str] = field(default_factory=dict)


def discover(candidates: Iterable[Candidate]) -> Discovery:
    """Load every candidate that the environment allows, each on its own.

    Of two candidates with the same distribution and entry point the first counts.
    """
    allowed = _names_in("ZOO_PLUGINS")
    blocked = _names_in("ZOO_PLUGINS_BLOCK") or set()
    strict = os.environ.get("ZOO_PLUGINS_STRICT", "") not in ("", "0")
    unique = {(c.distribution, c.entry_point): c for c in reversed(list(candidates))}
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    found = Discovery()
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
    """Prefixes of ``plugin`` that are the name of an installed distribution."""
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
    """For a message: which function has the name of a hook but lacks ``@hookimpl``, if one does."""
    for name in ("zoo_models", "zoo_prefixes"):
        if callable(function := getattr(root, name, None)) and not hasattr(function, "zoo_impl"):
            return f": {name} is there, and @hookimpl is missing before it"
    return ""


def _validated(answers: list[Any], hook: str, kind: type[_R]) -> tuple[_R, ...]:
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
    if twice := repeated(record.name for record in records):
        raise SpecError(f"{hook} returned {', '.join(sorted(twice))} more than once")
    return records


def candidates_installed() -> Iterator[Candidate]:
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


def candidates_in_trees(trees: Iterable[Path]) -> Iterator[Candidate]:
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


def normalise(distribution: str) -> str:
    """A distribution's name as the packaging standard (PEP 503) spells it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _names_in(variable: str) -> set[str] | None:
    value = os.environ.get(variable)
    return None if value is None else {normalise(n.strip()) for n in value.split(",") if n.strip()}


def repeated(names: Iterable[str]) -> set[str]:
    """Those of ``names`` that are there more than once."""
    seen: set[str] = set()
    twice: set[str] = set()
    for name in names:
        (twice if name in seen else seen).add(name)
    return twice
