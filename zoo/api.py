"""The public calls that take a model's name: list_models, info, create, load and pull."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.boundary import typed, usable_device, user_path
from zoo.errors import (
    CorruptWeights,
    InputError,
    InvalidConfig,
    SettingsError,
    TensorMismatch,
    WeightsError,
    ZooError,
)
from zoo.folder import FolderConfig, copy_folder, refuse_to_overwrite
from zoo.names import HubName, Name, PluginName, PrefixName
from zoo.registry import builder, registry
from zoo.sources import Located, declared, described, locate, of_builder, parse, prefix_builder
from zoo.spec import ModelSpec, Preprocessing, Source, complete_config

if TYPE_CHECKING:
    import torch

    from zoo.model import ZooModel


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of the models that the installed plugins declare, sorted.

    Args:
        pattern: shell-style, such as ``"*ae*"``, matched against the whole name.
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
    return described(parse(name))


@typed()
def create(name: str, **config: Any) -> "ZooModel":
    """A new, untrained model in eval mode on the CPU, float32; ``config`` goes over its defaults.

    Its initial weights are drawn from torch's global random state, as those of any module are:
    the same after the same ``torch.manual_seed``.

    Raises:
        ModelNameError: the name means nothing here, or more than one thing.
        SettingsError: an unknown setting, or a value that the model refuses.
    """
    match parse(name):
        case PrefixName() as parsed:
            if config:
                raise SettingsError(
                    f"{name}: a name with a prefix takes no settings, got {', '.join(config)}"
                )
            return _prefixed(parsed, pretrained=False)
        case PluginName() as parsed:
            _, spec = declared(parsed)
            if parsed.tag is None:
                return _new(spec, config)
    raise SettingsError(
        f"create makes an untrained model of a bare name such as 'deep_ae', got {name!r}; "
        f"for trained weights: zoo.load({name!r})"
    )


def _new(spec: ModelSpec, config: Mapping[str, Any]) -> "ZooModel":
    complete = complete_config(spec, config)
    from zoo.isolation import isolated

    with isolated(None):
        model = _build(spec, complete)
    model.name = spec.name
    return model.eval()


@typed()
def load(
    name: str,
    *,
    device: "torch.device | str" = "cpu",
    token: str | None = None,
    fit: str | None = None,
    background: float | None = None,
    precision: str | None = None,
    compile: bool | None = None,
) -> "ZooModel":
    """A trained model, float32 and in eval mode.

    Args:
        name: ``deep_ae.mnist``, ``deep_ae`` for its default weights,
            ``distribution:deep_ae.mnist``, ``local-dir:FOLDER``, or ``hf-hub:org/name@REVISION``.
        device: where to put it.
        token: of the Hub; by default the one that its client finds (``HF_TOKEN``, ``hf auth
            login``).
        fit, background: how pictures are made into images, in another way than the weights say; as
            :meth:`zoo.model.ZooModel.prepare` takes them.
        precision: what the calls compute in, ``fp32`` (the default) or ``bf16``, as the same method
            takes it.
        compile: whether ``torch.compile`` makes the calls faster, as the same method takes it.

    Raises:
        ModelNameError: the name means nothing here, or more than one thing.
        WeightsError: the weights are not there, damaged, unsafe, or not those of the model.
        HubError: the Hub does not have or does not give them, or cannot be reached.
        PluginError: the plugin of this model failed to load.
        InputError: this machine has no such ``device`` or no compiler, or another ``fit``,
            ``background`` or ``precision``.
        FileError: the operating system refuses access to one of its files or folders.
    """
    from zoo.isolation import isolated

    model = loaded(name, token=token).model.prepare(fit=fit, background=background)
    with isolated():
        model = model.to(usable_device(device))
    return model.prepare(precision=precision, compile=compile)  # which ask the device


class Loaded(NamedTuple):
    """A loaded model and the weights folder it is from (None for a name with a plugin's prefix)."""

    name: str
    """The name that was asked for."""
    model: "ZooModel"
    located: Located | None


@typed()
def loaded(name: str, *, token: str | None = None) -> Loaded:
    """The model that :func:`load` returns, on the CPU, with what was found on the way to it."""
    parsed = parse(name)
    if not isinstance(parsed, PrefixName):
        return Loaded(name, *_located_model(parsed, token))
    if token is not None:
        raise InputError(f"{name}: a name with a prefix takes no token; set HF_TOKEN")
    return Loaded(name, _prefixed(parsed, pretrained=True), None)


def _located_model(parsed: Name, token: str | None) -> "tuple[ZooModel, Located]":
    """The model and its weights folder; a damaged file in the Hub's cache is fetched again."""
    located = locate(parsed, token=token)
    try:
        return opened(located), located
    except CorruptWeights:
        if not located.cached:
            raise
    located = locate(parsed, token=token, verify=True)
    return opened(located), located


def pull(name: str, *, to: Path | str | None = None, token: str | None = None) -> Path:
    """Have the weights of ``name`` on this machine; every file that is from the Hub is checked.

    Args:
        name: as :func:`load` takes it; the model of a repository need not be installed.
        to: a folder to write, which must not exist; otherwise they stay in the Hub's cache, or
            where they are already.
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
    """The folder that :func:`pull` returns, and its commit if it is from the Hub."""
    target = None if to is None else user_path(to, "the folder to write")
    if target is not None:
        refuse_to_overwrite(target)
    parsed = parse(name)
    if isinstance(parsed, HubName):  # its model need not be installed
        from zoo import hub

        fetched = hub.fetch(parsed.repo, parsed.revision, token=token)
        folder: Path = fetched.folder
        commit: str | None = fetched.commit
    elif isinstance(parsed, PrefixName) and hasattr(prefix_builder(parsed), "pull"):
        if target is not None or token is not None:
            raise InputError(
                f"{name} has no weights folder of the zoo, and its files stay in the cache of the "
                "Hub's client: leave --to out (and set HF_TOKEN for a token)"
            )
        return _of_library(parsed)
    else:
        located = locate(parsed, token=token, verify=True)
        folder, commit = located.folder, located.commit
    if target is not None:
        copy_folder(folder, target)
    return target or folder, commit


def _of_library(name: PrefixName) -> tuple[Path, str | None]:
    """The folder that a prefix's plugin fetches the files of a name into, and their commit."""
    from zoo.hub import Fetched

    fetched = of_builder(name, "pull", Fetched)
    return fetched.folder, fetched.commit


@typed()
def opened(located: Located) -> "ZooModel":
    """The model of a weights folder on the CPU; every tensor has to be there and to fit.

    Raises: as :func:`load`.
    """
    from zoo.isolation import isolated
    from zoo.weights import Tensors

    config = located.config
    with isolated():
        tensors = Tensors.read(
            located.folder, config.size, config.sha256, located.recorded, mapped=located.cached
        )
    model = blank(located.spec, config.config, f"{config.where}: ")
    try:
        with isolated():
            tensors.upgraded(type(model), config.plugin_version).load_into(model)
    except TensorMismatch as error:
        raise TensorMismatch(f"{error}{_versions(config)}") from error
    model._preprocessing = _preprocessing(config, model)
    model.name, model.source = located.name, located.source
    return model.eval()


def blank(spec: ModelSpec, config: Mapping[str, Any], where: str = "") -> "ZooModel":
    """A model of ``spec`` on the meta device, for :meth:`zoo.weights.Tensors.load_into` to fill.

    Raises:
        InvalidConfig: it cannot be built of ``config``; the text begins with ``where``.
    """
    from zoo.isolation import on_meta_device

    try:
        complete = complete_config(spec, config)
        with on_meta_device():
            return _build(spec, complete)
    except SettingsError as error:  # the settings are from a file, and the user did not type them
        raise InvalidConfig(f"{where}{error}") from error
    except ZooError:
        raise
    except Exception as error:  # such as sizes that no network can have
        raise InvalidConfig(f"{where}{spec.name} cannot be built of its config: {error}") from error


def _prefixed(name: PrefixName, *, pretrained: bool) -> "ZooModel":
    """The model that the plugin which owns the prefix makes of the rest of a name."""
    from zoo.model import ZooModel

    model = of_builder(name, "from_name", ZooModel, pretrained=pretrained)
    if model.spec is None:
        model.spec = described(name)
    model.name = name.text
    if pretrained and model.source is None:
        model.source = Source(kind="prefix", name=name.text)
    return model.eval()


def _build(spec: ModelSpec, config: dict[str, Any]) -> "ZooModel":
    model: ZooModel = builder(spec)(**config)
    model.spec = spec
    model.config = config
    return model


def _versions(config: FolderConfig) -> str:
    """For a message: that another version of the plugin wrote the weights, if so."""
    installed = registry().version(config.plugin)
    if installed is None or config.plugin_version in (None, installed):
        return ""
    return (
        f".\nThe weights were written by {config.plugin} {config.plugin_version!s:.40}, installed "
        f"is {installed}"
    )


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
