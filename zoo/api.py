"""The calls that a name goes through: record, weights folder, model."""

import fnmatch
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zoo.boundary import typed, usable_device, user_path
from zoo.errors import (
    CorruptWeights,
    InputError,
    InvalidConfig,
    PluginError,
    UnknownTag,
    WeightsError,
    WeightsNotFound,
    ZooError,
)
from zoo.folder import (
    FolderConfig,
    copy_folder,
    inside_run,
    read_config,
    refuse_to_overwrite,
    weights_root,
)
from zoo.names import Name, parse_name
from zoo.registry import Plugin, builder, registry
from zoo.spec import (
    ModelSpec,
    Preprocessing,
    Weights,
    complete_config,
)

if TYPE_CHECKING:
    import torch

    from zoo.model import ZooModel

_T = TypeVar("_T")


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of the models that the installed plugins declare, sorted.

    Args:
        pattern: shell-style, such as ``"*ae*"``, held against the whole name.
        pretrained: names with weights (``deep_ae.mnist``), not names of models.
    """
    names = []
    for full, (_, spec) in zip(registry().names(), registry().specs(), strict=True):
        names += [f"{full}.{w.tag}" for w in spec.weights] if pretrained else [full]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


@typed()
def info(name: str) -> ModelSpec:
    """The record of a model; with a tag, holding that set of weights alone.

    Raises:
        ModelNameError: the name means nothing here, or more than one thing.
    """
    parsed = _parsed(name)
    if parsed.prefix is not None:
        return _described(parsed)
    if parsed.model is None:
        if parsed.repo is not None:
            from zoo import hub

            folder = hub.peek(parsed.repo, parsed.revision).folder
        else:
            folder = _local_folder(parsed)
        spec = _spec_in(folder)
        config = read_config(folder).config
        return replace(spec, weights=(), default_tag=None, config=config)
    _, spec = _find(parsed)
    if parsed.tag is None:
        return spec
    weights = _weights(spec, parsed.tag)
    return replace(spec, weights=(weights,), default_tag=weights.tag)


@typed()
def create(name: str, **config: Any) -> "ZooModel":
    """A new, untrained model in eval mode on the CPU, float32; ``config`` goes over its defaults.

    Its initial weights are drawn from torch's global random state, as those of any module are:
    the same after the same ``torch.manual_seed``.

    Raises:
        ModelNameError: the name means nothing here, or more than one thing.
        InvalidConfig: an unknown setting, or a value that the model refuses.
    """
    parsed = _parsed(name)
    if parsed.prefix is not None:
        if config:
            raise InvalidConfig(
                f"{name}: a name with a prefix takes no settings, got {', '.join(config)}"
            )
        return _prefixed(parsed, pretrained=False)
    if parsed.model is None or parsed.tag is not None:
        raise InvalidConfig(
            f"create makes an untrained model of a bare name such as 'deep_ae', got {name!r}; "
            f"for trained weights: zoo.load({name!r})"
        )
    _, spec = _find(parsed)
    complete = complete_config(spec, config)
    from zoo.isolation import isolated

    with isolated(None):
        model = _build(spec, complete)
    model.name = spec.name
    return model.eval()


@typed()
def load(
    name: str, *, device: "torch.device | str" = "cpu", token: str | None = None
) -> "ZooModel":
    """A trained model, float32 and in eval mode.

    Args:
        name: ``deep_ae.mnist``, ``deep_ae`` for its default weights,
            ``distribution:deep_ae.mnist``, ``local-dir:FOLDER``, or ``hf-hub:org/name@REVISION``.
        device: where to put it.
        token: of the Hub; by default the one that its client finds (``HF_TOKEN``, ``hf auth
            login``).

    Raises:
        ModelNameError: the name means nothing here, or more than one thing.
        WeightsError: the weights are not there, damaged, unsafe, or not those of the model.
        HubError: the Hub does not have or does not give them, or cannot be reached.
        PluginError: the plugin of this model failed to load.
        InputError: ``device`` is none that this machine has.
        FileError: the system refuses a file or folder of it.
    """
    parsed = _parsed(name)
    if parsed.prefix is not None:
        if token is not None:
            raise InputError(f"{name}: a name with a prefix takes no token; set HF_TOKEN")
        return _moved(_prefixed(parsed, pretrained=True), device)
    place = _locate(parsed, token=token)
    damaged = False
    try:
        model = load_folder(place.folder, place.spec, place.weights, mapped=place.cached)
    except CorruptWeights:
        if not place.cached:
            raise
        damaged = True
    if damaged:  # in the cache, which can be mended
        place = _locate(parsed, token=token, verify=True)
        model = load_folder(place.folder, place.spec, place.weights, mapped=place.cached)
    model.name = place.name
    return _moved(model, device)


def _moved(model: "ZooModel", device: "torch.device | str") -> "ZooModel":
    from zoo.isolation import isolated

    with isolated():
        return model.to(usable_device(device))


def pull(name: str, *, to: Path | str | None = None, token: str | None = None) -> Path:
    """Have the weights of ``name`` on this machine; every file that is from the Hub is checked.

    Args:
        name: as :func:`load` takes it; the model of a repository need not be installed.
        to: a folder to write, which must not exist; otherwise they stay in the Hub's cache, or
            where they lie already.
        token: as for :func:`load`.

    Returns:
        The weights folder; with ``to``, that one.

    Raises: as :func:`load`, and WeightsError when ``to`` exists or cannot be written.
    """
    return pulled(name, to=to, token=token)[0]


@typed()
def pulled(
    name: str, *, to: Path | str | None = None, token: str | None = None
) -> tuple[Path, str | None]:
    """What :func:`pull` returns, and the commit that it is of, if it is from the Hub."""
    target = None if to is None else user_path(to, "the folder to write")
    if target is not None:
        refuse_to_overwrite(target)
    parsed = _parsed(name)
    if parsed.repo is not None:
        from zoo import hub

        folder, commit, _ = hub.fetch(parsed.repo, parsed.revision, token=token)
    else:
        place = _locate(parsed, token=token, verify=True)
        folder, commit = place.folder, place.folder.name if place.cached else None
    if target is not None:
        copy_folder(folder, target)
    return target or folder, commit


@typed()
def weights_folder(name: str, *, token: str | None = None) -> Path:
    """Where the weights folder of ``name`` is; what is on the Hub is fetched.

    Raises: as :func:`load`, but nothing in the folder except config.json is looked at.
    """
    return _locate(_parsed(name), token=token).folder


class _Place(NamedTuple):
    folder: Path
    spec: ModelSpec
    weights: Weights | None
    """The plugin's record, if it has one."""
    name: str
    """What a model of it is called: of what is on the Hub, with its commit."""
    cached: bool
    """Whether it lies in the cache of the Hub's client."""


def has_folder(name: str) -> bool:
    """Whether what ``name`` means is kept as a weights folder; not so behind a plugin's prefix."""
    return _parsed(name).prefix is None


def _locate(name: Name, *, token: str | None = None, verify: bool = False) -> _Place:
    """Where the weights of a name are, and what the model is."""
    if name.prefix is not None:
        raise WeightsNotFound(
            f"{name.text} has no weights folder: its tensors are kept as the library behind the "
            f"prefix {name.prefix}: keeps them. zoo.load({name.text!r}) loads them"
        )
    if name.repo is not None:
        from zoo import hub

        fetched = hub.fetch(
            name.repo,
            name.revision,
            token=token,
            verify=verify,
            accept=lambda folder: _spec_in(folder, name.text),
        )
        full = f"hf-hub:{name.repo}@{fetched.commit}"
        return _Place(fetched.folder, _spec_in(fetched.folder, full), None, full, True)
    if name.model is None:
        folder = _local_folder(name)
        return _Place(folder, _spec_in(folder), None, name.text, False)
    plugin, spec = _find(name)
    if not spec.weights:
        raise UnknownTag(
            f"{spec.name} has no trained weights. For an untrained one: "
            f"zoo.create({spec.name!r}); to train it: zoo train {spec.name} --data ... "
            "--out FOLDER"
        )
    weights = _weights(spec, name.tag or spec.default_tag)
    full = f"{spec.name}.{weights.tag}"
    folder = None if _hub_first() else _bundled_folder(plugin, full)
    if folder is not None:
        return _Place(folder, spec, weights, full, False)
    if weights.repo is None or weights.revision is None:
        asked = "ZOO_WEIGHTS=hub is set, but the record of" if _hub_first() else "the record of"
        raise WeightsNotFound(
            f"{asked} {full} in {plugin} names no "
            + ("commit" if weights.repo else "repository")
            + " on the Hub"
            + ("" if _hub_first() else ", and the weights do not lie in the plugin itself")
            + (".\nUnset ZOO_WEIGHTS to load what lies in the plugin" if _hub_first() else "")
        )
    from zoo import hub

    fetched = hub.fetch(
        weights.repo, weights.revision, sha256=weights.sha256, token=token, verify=verify
    )
    return _Place(fetched.folder, spec, weights, full, True)


def _hub_first() -> bool:
    value = os.environ.get("ZOO_WEIGHTS", "")
    if value not in ("", "hub"):
        raise WeightsError(f"ZOO_WEIGHTS should be 'hub', or not be set; it is {value!r:.80}")
    return value == "hub"


def load_folder(
    folder: Path, spec: ModelSpec, weights: Weights | None = None, *, mapped: bool = False
) -> "ZooModel":
    """The model of ``spec`` with the tensors of ``folder``, strictly.

    ``mapped``: its files are never written to (:meth:`zoo.weights.Tensors.read`).

    Raises: as :func:`load`.
    """
    from zoo.isolation import isolated
    from zoo.weights import Tensors

    config = read_config(folder)
    with isolated():
        tensors = Tensors.read(
            folder, config.size, config.sha256, weights and weights.sha256, mapped=mapped
        )
    model = blank(spec, config.config, f"{config.where}: ")
    with isolated():
        tensors.into(model)
    model._preprocessing = _preprocessing(config, model)
    return model.eval()


def blank(spec: ModelSpec, config: Mapping[str, Any], where: str = "") -> "ZooModel":
    """A model of ``spec`` on the meta device, for :meth:`zoo.weights.Tensors.into` to fill.

    Raises:
        InvalidConfig: it cannot be built of ``config``; the text begins with ``where``.
    """
    from zoo.isolation import on_meta_device

    complete = complete_config(spec, config)
    try:
        with on_meta_device():
            return _build(spec, complete)
    except ZooError:
        raise
    except Exception as error:  # sizes that nobody could mean
        raise InvalidConfig(f"{where}{spec.name} cannot be built of its config: {error}") from error


def _local_folder(name: Name) -> Path:
    return inside_run(user_path(name.folder))


def _spec_in(folder: Path, where: str | None = None) -> ModelSpec:
    """The record that a folder claims to be of: looked up, never made of what the folder says."""
    from zoo.errors import ModelNameError

    config = read_config(folder)
    try:
        name = parse_name(config.model)
        if name.model is None or name.tag or name.distribution:
            raise InvalidConfig("not the bare name of a model")
        distributions = {p.distribution for p, s in registry().specs() if s.name == name.model}
        chosen = config.plugin if config.plugin in distributions else None
        return registry().find(name.model, chosen)[1]
    except (ModelNameError, InvalidConfig) as error:
        raise InvalidConfig(
            f"{where or config.where} asks for the model {config.model!r:.80} of the "
            f"plugin {config.plugin!r:.80}, which is not to be had here (the folder says so, "
            f"nobody checked it).\n{error}"
        ) from error


def _parsed(text: str) -> Name:
    return parse_name(text, registry().prefix_names())


def _prefixed(name: Name, *, pretrained: bool) -> "ZooModel":
    """The model that the plugin which owns the prefix makes of the rest of a name."""
    from zoo.model import ZooModel

    model = _of_builder(name, "from_name", ZooModel, pretrained=pretrained)
    if model.spec is None:
        model.spec = _described(name)
    model.name = name.text
    return model.eval()


def _described(name: Name) -> ModelSpec:
    return _of_builder(name, "describe", ModelSpec)


def _of_builder(name: Name, call: str, kind: type[_T], **arguments: Any) -> _T:
    """What a class method of the prefix's builder gives, which is a stranger's code."""
    plugin, prefix = registry().find_prefix(name.prefix)
    maker = builder(prefix)
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


def _find(name: Name) -> tuple[Plugin, ModelSpec]:
    plugin, spec = registry().find(name.model, name.distribution)
    if spec.name != name.model:
        warnings.warn(
            f"{name.model!r} is now called {spec.name!r}; the old name works for the time being",
            FutureWarning,
            stacklevel=4,
        )
    return plugin, spec


def _weights(spec: ModelSpec, tag: str) -> Weights:
    for weights in spec.weights:
        if weights.tag == tag:
            return weights
    have = ", ".join(f"{spec.name}.{w.tag}" for w in spec.weights)
    raise UnknownTag(
        f"{spec.name} has no weights {tag!r}. "
        + (f"There are: {have}" if have else "It has none at all.")
    )


def _bundled_folder(plugin: Plugin, name: str) -> Path | None:
    """The weights folder that the plugin ships, if it does."""
    if plugin.root is None or not plugin.root.__file__:
        return None
    folder = weights_root(plugin.root.__file__) / name
    return folder if folder.is_dir() else None


def _build(spec: ModelSpec, config: dict[str, Any]) -> "ZooModel":
    model = builder(spec)(**config)
    model.spec = spec
    model.config = config
    return model


def _preprocessing(config: FolderConfig, model: "ZooModel") -> Preprocessing | None:
    preprocessing = config.preprocessing
    if preprocessing is not None:
        makes = (preprocessing.channels, preprocessing.height, preprocessing.width)
        if makes != model.image_shape:
            raise WeightsError(
                f"{config.where}: its preprocessing makes images {makes}, its model takes "
                f"{model.image_shape}"
            )
    return preprocessing
