"""``zoo check``: the contract's checks, run and reported so that an author can act on them.

The checks themselves are plain functions in :mod:`zoo.authoring.checks`. This module turns a target
into names, runs each check on each name, and makes a :class:`Result` of what was raised: what was
expected, what was found, and the line of the plugin to look at.
"""

import inspect
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo import api
from zoo.authoring import checks
from zoo.authoring.checks.elsewhere import elsewhere
from zoo.authoring.checks.support import NotApplicable, get_model, has_weights, line_of, record_line
from zoo.boundary import typed, user_path
from zoo.discovery import normalise
from zoo.errors import InvalidName, PluginError, UnknownModel
from zoo.names import FolderName, HubName, PluginName
from zoo.registry import builder, registry
from zoo.sources import parse, weights_folder

__all__ = ["Result", "check", "names_of"]

PASSED, FAILED, EXPECTED, UNEXPECTED = "passed", "failed", "failed as expected", "passed after all"
NOT_APPLICABLE = "not applicable"
STATES = (PASSED, EXPECTED, NOT_APPLICABLE, UNEXPECTED, FAILED)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one check of one name.

    ``state`` is ``passed``, ``failed``, ``failed as expected`` (the class declares it, with
    ``reason``), ``passed after all`` (the class declares a failure that there is not), or ``not
    applicable`` (nothing was checked, for ``reason``).
    """

    name: str
    check: str
    state: str
    expected: str
    """What the check expects, in a sentence."""
    got: str = ""
    """The exception, if one was raised."""
    look: str = ""
    """The file and line to look at."""
    reason: str = ""
    """Why the failure is expected, or the check is not applicable."""
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        """Whether nothing has to be done."""
        return self.state in (PASSED, EXPECTED, NOT_APPLICABLE)

    def to_dict(self) -> dict[str, Any]:
        """This result as plain JSON types."""
        return {**asdict(self), "well": self.well}


@typed()
def names_of(target: str) -> list[str]:
    """What is checked for ``target``: names that :func:`zoo.load` or :func:`zoo.create` takes.

    Args:
        target: a plugin distribution (all its models and weights), the folder of its project (the
            one with pyproject.toml), a model (and all its weights), a model with weights, a
            weights folder, or a repository on the Hub.

    Raises:
        ModelNameError: it is unknown here, or the project is not installed.
        PluginError: the distribution failed to load; the reason is chained.
        WeightsError: a folder or repository that holds no weights of a model that is known here.
    """
    folder = user_path(target)
    if folder.is_dir() and (folder / "pyproject.toml").is_file():
        return _names_of_distribution(_project(folder), f"pip install --editable {folder}")
    if any(plugin.distribution == normalise(target) for plugin in registry().plugins):
        return _names_of_distribution(target)
    if normalise(target) in registry().switched_off:
        return _names_of_distribution(target)
    if folder.is_dir() and ":" not in target:
        target = f"local-dir:{target}"
    try:
        name = parse(target)
    except InvalidName as error:
        have = ", ".join(sorted({p.distribution for p in registry().plugins})) or "none"
        raise InvalidName(
            f"{error}\nTo check a whole plugin, give its distribution; installed: {have}"
        ) from None
    if isinstance(name, FolderName):
        weights_folder(target)
        return [target]
    if isinstance(name, HubName):  # a branch may move while it is checked
        _, commit = api.pulled(target)
        return [f"hf-hub:{name.repo}@{commit}"]
    spec = api.info(target)
    if not isinstance(name, PluginName) or name.tag:
        return [target]
    return [target, *(f"{target}.{weights.tag}" for weights in spec.weights)]


def check(target: str, *, report: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Run all checks on everything that ``target`` means.

    Args:
        target: as :func:`names_of` takes it.
        report: called with each result as it comes.

    Returns:
        The results, in order: all is well if each is :attr:`Result.well`.

    Raises: as :func:`names_of`.
    """
    results = []
    get_model.cache_clear()  # a folder may have changed since
    elsewhere.cache_clear()
    for name in names_of(target):
        for result in _results(name):
            results.append(result)
            report(result)
    return results


def _names_of_distribution(distribution: str, install: str = "") -> list[str]:
    distribution = normalise(distribution)
    plugins = [p for p in registry().plugins if p.distribution == distribution]
    for plugin in plugins:
        if plugin.fault:  # also one that is only slow: a plugin that is checked should not be
            raise PluginError(
                f"the plugin {plugin} failed to load, so nothing of it can be checked.\n"
                f"{plugin.fault}\nWhere: zoo plugins --traceback"
            ) from plugin.fault.exception
    if not plugins and (variable := registry().switched_off.get(distribution)):
        raise UnknownModel(f"the plugin {distribution} is switched off by {variable}")
    if not plugins:
        raise UnknownModel(
            f"{distribution} is not installed here as a plugin of the zoo. Its pyproject.toml "
            f"should announce it under [project.entry-points.zoo].\nTo install it, type: {install}"
        )
    if not any(plugin.specs or plugin.prefixes for plugin in plugins):
        raise UnknownModel(
            f"{distribution} declares no model: its hook zoo_models returns an empty list"
        )
    return checks.models_of(distribution)


def _project(folder: Path) -> str:
    try:
        name = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidName(
            f"{folder / 'pyproject.toml'} names no project: {error!r}. Expected name = "
            "'latentzoo-...' under [project]"
        ) from None
    if not isinstance(name, str):
        raise InvalidName(f"{folder / 'pyproject.toml'}: expected a name as a text, got {name!r}")
    return name


def _results(name: str) -> Iterator[Result]:
    try:
        reasons = checks.expected_failures(name)
        get_model(name)
    except (Exception, SystemExit) as error:  # a plugin that calls exit() fails too
        yield Result(
            name=name,
            check="load" if has_weights(name) else "create",
            state=FAILED,
            expected="The model can be built; no other check was run.",
            got=_error_text(error),
            look=_where(name, error),
        )
        return
    for function in checks.CHECKS:
        yield _result(name, function, reasons.get(function.__name__, ""))


def _result(name: str, function: Callable[[str], None], reason: str) -> Result:
    start, error, why_not = time.perf_counter(), None, None
    try:
        function(name)
    except NotApplicable as raised:
        why_not = str(raised) or "the check gives no reason"
    except (Exception, SystemExit) as raised:
        error = raised
    states = {(False, False): PASSED, (True, False): FAILED, (True, True): EXPECTED}
    return Result(
        name=name,
        check=function.__name__,
        state=(
            states.get((error is not None, bool(reason)), UNEXPECTED)
            if why_not is None
            else NOT_APPLICABLE
        ),
        expected=(inspect.getdoc(function) or function.__name__).splitlines()[0],
        got="" if error is None else _error_text(error),
        look="" if error is None else _where(name, error),
        reason=why_not or reason,
        seconds=round(time.perf_counter() - start, 3),
    )


def _error_text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a plugin's own exception, whose __str__ fails too
        text = "(its message cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _where(name: str, error: BaseException) -> str:
    """The innermost line of the plugin that the error went through, or where its class begins."""
    if look := getattr(error, "look", ""):
        return look
    file, start = None, "zoo plugins --traceback"
    try:
        start = record_line(name)  # the class may not be there
        kind = builder(api.info(name))
        file = Path(inspect.getfile(kind))
        start = line_of(kind)
    except Exception:  # the class cannot be imported, or has no source
        pass
    frames = list(traceback.extract_tb(error.__traceback__))
    if file is not None:
        frames = [f for f in frames if Path(f.filename).is_relative_to(file.parent)]
        if frames:
            return f"{frames[-1].filename}:{frames[-1].lineno} (in {frames[-1].name})"
    return start
