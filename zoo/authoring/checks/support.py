"""What the checks share: the model and images of a name, its plugin, and comparisons."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import api
from zoo.discovery import Plugin
from zoo.errors import InputError
from zoo.isolation import isolated
from zoo.model import ZooModel
from zoo.names import PluginName, PrefixName
from zoo.registry import registry
from zoo.sources import parse

TOLERANCE = 1e-4
"""Between one image alone and the same image in a batch: only the order of additions differs."""

SMALL = 3 * 64 * 64
"""Only images of fewer numbers are tried in more than a batch: it would take minutes."""


class NotApplicable(Exception):
    """A check has nothing to look at in this model; the text is the reason."""


class CheckFailed(AssertionError):
    """A failed check with the file and line to look at, for which there is no traceback."""

    def __init__(self, message: str, look: str):
        super().__init__(message)
        self.look = look


def has_weights(name: str) -> bool:
    """Whether ``name`` is loaded and not created: it has a tag, or is a folder or repository."""
    match parse(name):
        case PluginName(tag=tag):
            return tag is not None
        case PrefixName():
            return False
    return True


@cache
def get_model(name: str) -> ZooModel:
    """The model that the checks of ``name`` share; none of them changes it."""
    with isolated(0):
        return api.load(name) if has_weights(name) else api.create(name)


@isolated()
def images_for(model: ZooModel, n: int = 6) -> Tensor:
    """``n`` images that fit ``model``: smooth, then noisy, then black and white at the end."""
    rng = torch.Generator().manual_seed(7)
    coarse = torch.rand(n, model.image_shape[0], 4, 4, generator=rng)
    images = torch.nn.functional.interpolate(coarse, model.image_shape[1:], mode="bilinear")
    images[n // 2 :] = torch.rand(images[n // 2 :].shape, generator=rng)
    images[-2], images[-1] = 0, 1
    return images


def plugin_of(name: str) -> Plugin:
    """The plugin that declares the model of ``name``."""
    match parse(name):
        case PrefixName(prefix=prefix):
            return registry().find_prefix(prefix)[0]
        case PluginName(model=model, distribution=distribution):
            return registry().find(model, distribution)[0]
    spec = api.info(name)
    pairs = [(plugin, s) for plugin, s in registry().specs() if s.name == spec.name]
    return next((plugin for plugin, s in pairs if s.builder == spec.builder), pairs[0][0])


def full_name(name: str) -> str:
    """The model of ``name`` with its distribution and without a tag, which is never ambiguous."""
    return f"{plugin_of(name).distribution}:{api.info(name).name}"


def root_file(plugin: Plugin) -> str:
    """The file of a plugin's root module, which its hooks and records are in."""
    file = None if plugin.root is None else plugin.root.__file__
    assert file is not None, f"the root module of {plugin} has no file"
    return file


def line_of(thing: type | Callable[..., Any]) -> str:
    """The file and line where a class or function begins."""
    first = inspect.getsourcelines(thing)[1]
    what = "class" if inspect.isclass(thing) else "in"
    return f"{inspect.getsourcefile(thing)}:{first} ({what} {thing.__name__})"


def record_line(name: str) -> str:
    """The file and line where the plugin declares the model or the prefix of ``name``."""
    root, parsed = root_file(plugin_of(name)), parse(name)
    declared = parsed.prefix if isinstance(parsed, PrefixName) else api.info(name).name
    wanted = re.compile(rf"""name\s*=\s*["']{re.escape(declared)}["']""")
    lines = Path(root).read_text("utf-8", "replace").splitlines()
    hits = [n for n, line in enumerate(lines, 1) if wanted.search(line)]
    hook = [n for n, line in enumerate(lines, 1) if "hookimpl" in line and "import" not in line]
    return f"{root}:{(hits or hook or [1])[0]} (the record of {declared})"


def require_calls(model: ZooModel, *calls: str) -> None:
    """Raises: NotApplicable: the model does not declare all of these calls."""
    missing = [call for call in calls if call not in model.capabilities]
    if missing:
        raise NotApplicable(f"it does not declare {' and '.join(missing)}")


def expect_same(got: object, expected: object, what: str) -> None:
    """Raises: AssertionError: they differ, with both in the message."""
    assert got == expected, f"{what}: expected {expected!r:.200}, got {got!r:.200}"


def expect_close(got: Tensor, expected: Tensor, what: str) -> None:
    """Raises: AssertionError: they differ by more than the order of additions does."""
    bound = TOLERANCE * (1 + float(expected.abs().max()))
    difference = float((got - expected).abs().max())
    assert difference <= bound, f"{what}: off by {difference:.3g}, at most {bound:.3g} expected"


def expect_refused(call: Callable[[], object], text: str) -> None:
    """Raises: AssertionError: the call raises no InputError with ``text`` in its message."""
    try:
        call()
    except InputError as error:
        assert text in str(error), f"the message should have {text!r}: {error}"
    else:
        raise AssertionError(f"accepted, though it should be refused with {text!r}")
