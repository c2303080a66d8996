"""A backbone of timm as a model of the zoo: its features are the input of its classifier.

Architecture and the reading of weights are timm's. Here it is ensured that only safetensors are
read, from one commit, and that every tensor of the network is read from there.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo import ModelSpec, Preprocessing, hub
from zoo.errors import (
    CapabilityError,
    InvalidConfig,
    SpecError,
    TensorMismatch,
    WeightsNotFound,
    ZooError,
)
from zoo.folder import CONFIG, TENSORS
from zoo.isolation import isolated, on_meta_device
from zoo.model import ZooModel
from zoo.spec import INTERPOLATIONS
from zoo.spec import Source as Loaded
from zoo_timm.source import Source, find

CAN = ("encode", "features")
_FITS = {"border": "pad"}
"""timm's crop_mode as the zoo's ``fit``. Where timm cuts at the centre, pictures are distorted: on
drawings and photographs that finds more of what is alike, and nothing is cut off."""


class TimmModel(ZooModel):
    """Any model of timm that classifies, without its classifier."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module):
        """Args: net: of timm, with ``num_classes=0``; or on the meta device, to look at."""
        super().__init__()
        data = resolve_model_data_config(net)
        channels, height, width = self.image_shape = tuple(data["input_size"])
        width_of_codes: Any = net.head_hidden_size
        self.code_shape = (width_of_codes,)
        self.net: Any = net  # with the methods that timm gives its models
        # timm's crop_pct is followed by fit="library" alone: it cuts an eighth off each side.
        self._preprocessing = Preprocessing(
            channels=channels,
            height=height,
            width=width,
            fit=_FITS.get(data["crop_mode"], "stretch"),
            background=1.0 if channels == 3 else 0.0,
        )
        self._library_preprocessing = _as_timm(self._preprocessing, data)
        for name in ("mean", "std"):  # one value, or one for each channel
            values = torch.tensor(data[name], dtype=torch.float32).reshape(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def _encode(self, images: Tensor) -> Tensor:
        maps = self.net.forward_features((images - self.mean) / self.std)
        try:
            features: Tensor = self.net.forward_head(maps, pre_logits=True)  # N x F
            return features
        except NotImplementedError as error:  # it makes maps, and does not say how to pool them
            raise CapabilityError(f"{self.name} makes no features of pictures: {error}") from None

    @classmethod
    def from_name(cls, rest: str, *, pretrained: bool) -> "TimmModel":
        """The model that ``timm:rest`` means.

        Raises:
            ModelNameError, HubError: as :func:`zoo_timm.source.find`.
            UnsafeWeights: there are weights, but not as safetensors.
            UnknownTag: there are none.
            CorruptWeights, TensorMismatch: they are damaged, or not those of the architecture.
            CapabilityError: it is a model of timm that makes no features of pictures.
        """
        source = find(rest)
        looked_at = _looked_at(source) if source.chosen else None
        commit = None
        if pretrained:
            source.require_weights()
            net, commit = _trained(source, looked_at)
        else:
            net = _create(source, InvalidConfig, "timm cannot build")
        model = _wrapped(net, source)
        model.spec = _spec(source, model, commit)
        if commit is not None:  # a collection is searched by the very weights it was made with
            model.source = Loaded(kind="prefix", name=source.pinned(commit), commit=commit)
        return model

    @classmethod
    def describe(cls, rest: str) -> ModelSpec:
        """The record of the model that ``timm:rest`` means; its weights are not fetched.

        Raises: as :meth:`from_name`.
        """
        source = find(rest)
        return _spec(source, _looked_at(source), source.revision)

    @classmethod
    def pull(cls, rest: str) -> hub.Fetched:
        """The files that ``timm:rest`` is loaded of, fetched from the Hub and checked.

        Raises: as :meth:`from_name`.
        """
        source = find(rest)
        source.require_weights()
        return _fetched(source)


def _as_timm(p: Preprocessing, data: dict[str, Any]) -> Preprocessing | None:
    """What timm's own transform of a model does; None where it adds a frame or resizes otherwise.

    Six models of today's timm frame pictures in their mean colour, and three in black.
    """
    fit = {"center": "crop", "squash": "stretch"}.get(data["crop_mode"])
    keep, interpolation = data["crop_pct"], data["interpolation"]
    if fit is None or keep > 1 or interpolation not in INTERPOLATIONS:
        return None
    return replace(p, fit=fit, keep=keep, interpolation=interpolation)


def _described(source: Source) -> TimmModel:
    """The model on the meta device, without memory or values."""
    with on_meta_device():
        net = _create(source, InvalidConfig, "timm cannot build")
    return _wrapped(net, source)


def _looked_at(source: Source) -> TimmModel:
    """The model on the meta device, that has been seen to make features of its pictures."""
    model = _described(source)
    try:
        with torch.no_grad():
            model.to("meta")._encode(torch.empty(1, *model.image_shape, device="meta"))
    except ZooError:
        raise
    except Exception as error:  # whatever a layer says of a size that it cannot take
        if not source.chosen:
            raise
        sides = "{} x {}".format(*model.image_shape[1:])
        raise CapabilityError(
            f"timm:{source.name} takes no pictures of {sides}: {' '.join(str(error).split()):.200}."
            f"\nzoo info timm:{source.name.partition('#')[0]} says what it takes"
        ) from None
    return model


def _wrapped(net: nn.Module, source: Source) -> TimmModel:
    if source.pool is not None:
        _pool(net, source)
    try:
        model = TimmModel(net)
    except SpecError as error:  # of its images
        raise CapabilityError(f"timm:{source.name} takes no pictures of the zoo: {error}") from None
    model.name = f"timm:{source.name}"
    return model


def _pool(net: Any, source: Source) -> None:
    try:
        net.reset_classifier(0, source.pool)
    except Exception as error:  # mostly assertions, and a TypeError where there is no choice
        raise CapabilityError(
            f"timm:{source.name}: {source.architecture} cannot make features by {source.pool}: "
            f"{' '.join(str(error).split()):.200}.\nWithout #pool= it makes them in its own way"
        ) from None


def _create(source: Source, kind: type[ZooError], what: str, **more: Any) -> nn.Module:
    """timm's network without a classifier; its errors, which may be of any kind, as ``kind``."""
    given = {"pretrained": False, "pretrained_cfg": source.cfg, **more, **source.arguments}
    try:
        return timm.create_model(source.architecture, num_classes=0, **given)
    except NotImplementedError as error:
        raise CapabilityError(f"timm:{source.name} cannot be built: {error!s:.200}") from None
    except Exception as error:
        arguments = f" with {dict(source.arguments)!r:.200}" if source.arguments else ""
        raise kind(
            f"timm:{source.name}: {what} {source.architecture}{arguments}.\n"
            f"{type(error).__name__}: {' '.join(str(error).split()):.500}"
        ) from error


def _trained(source: Source, looked_at: TimmModel | None) -> tuple[nn.Module, str]:
    """The network with the weights of one commit, from which all its tensors have to be."""
    fetched = _fetched(source)
    path = fetched.folder / TENSORS
    where = f"{TENSORS} of hf-hub:{source.repo}@{fetched.commit}"
    if looked_at is not None:
        _check_size(path, where, looked_at.net)
    # A file goes before every other place, unless the config has a source.
    overlay = {"file": str(path), "source": None, "custom_load": False}
    with isolated(), _Filling() as filling:
        net = _create(
            source, TensorMismatch, f"{where} is not what timm wants for",
            pretrained=True, pretrained_cfg_overlay=overlay,
        )  # fmt: skip
    tensors = net.state_dict(keep_vars=True)
    if missing := [name for name, tensor in tensors.items() if id(tensor) not in filling.filled]:
        raise TensorMismatch(
            f"{where} does not hold all tensors of {source.architecture}; missing: "
            + ", ".join(missing[:5])
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        )
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise TensorMismatch(f"{where}: {name!r:.200} holds NaN or infinity")
    return net.float(), fetched.commit


def _fetched(source: Source) -> hub.Fetched:
    try:
        return hub.fetch_files(str(source.repo), (CONFIG, TENSORS), source.revision)
    except WeightsNotFound as error:
        raise WeightsNotFound(
            f"{error}.\nOf timm's repositories the zoo reads {TENSORS} and nothing else: a "
            "pytorch_model.bin is a pickle, which could run any code"
        ) from error


def _check_size(path: Path, where: str, net: nn.Module) -> None:
    """Refuse a config that asks for more memory than its weights could ever fill."""
    wanted, size = sum(p.numel() for p in net.parameters()), path.stat().st_size
    if wanted > 4 * size:  # a number takes a byte at least, and positions may be interpolated
        raise TensorMismatch(
            f"{where} has {size:,} bytes, which is too few for the {wanted:,} numbers of its model"
        )


class _Filling(TorchFunctionMode):
    """Notes which tensors are given values by copying, and leaves out random ones.

    timm loads leniently when there is no classifier, and what a file lacks keeps its random values
    without a message. Random values need not be drawn: they are overwritten, or noticed as missing.
    """

    _RANDOM = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_)

    def __init__(self) -> None:
        super().__init__()
        self.filled: set[int] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in self._RANDOM:
            return args[0]
        if func is Tensor.copy_:
            self.filled.add(id(args[0]))
        return func(*args, **(kwargs or {}))


def _spec(source: Source, model: TimmModel, commit: str | None) -> ModelSpec:
    cfg = source.cfg
    weights = f"{source.repo}" + (f"@{commit}" if commit else "") if source.repo else "none"
    return ModelSpec(
        name=source.architecture,
        family="backbone",
        builder=f"{TimmModel.__module__}:{TimmModel.__qualname__}",
        summary=f"{source.name} of timm {timm.__version__}; weights on the Hub: {weights}; "
        f"licence: {cfg.license or 'see there'}",
        paper=", ".join(_texts(cfg.paper_name) + _texts(cfg.paper_ids) + _texts(cfg.origin_url)),
        image_shape=model.image_shape,
        code_shape=model.code_shape,
        capabilities=CAN,
    )


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in values if isinstance(text, str) and text]
