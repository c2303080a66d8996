"""Two towers as a model of the zoo: one encodes pictures, the other words, into one space.

The towers are open_clip's classes. Here it is ensured that only safetensors are read, from one
commit, and that every tensor comes from there. open_clip's own functions that load are not used:
they fetch what is missing, read pickles, and set up logging for the whole process.
"""

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo import ModelSpec, Preprocessing, hub
from zoo.errors import (
    CapabilityError,
    InvalidConfig,
    SpecError,
    TensorMismatch,
    UnsafeWeights,
    WeightsNotFound,
    ZooError,
)
from zoo.isolation import isolated, on_meta_device
from zoo.model import ZooModel
from zoo.spec import Source as Loaded
from zoo_clip.config import Pictures
from zoo_clip.library import VERSION, coca_model
from zoo_clip.library import model as towers
from zoo_clip.source import SAFE, TENSORS, Source, find, with_card
from zoo_clip.tokens import SETTINGS, TOKENIZER, Reader, Words

CAN = ("encode", "features", "embed_text")


class ClipModel(ZooModel):
    """Any pair of towers of open_clip.

    Codes and features are what ``encode_image`` of open_clip gives with ``normalize=False``, and
    ``embed_text`` what ``encode_text`` gives: their directions are compared, not their lengths.
    """

    net: Any
    mean: Tensor
    std: Tensor

    def __init__(self, net: Any, pictures: Pictures, words: Words | None):
        """Args: net: one of open_clip's classes; words: None if there is no tokenizer."""
        super().__init__()
        self.net = net
        self.words = words
        self._reader: Reader | None = None
        size = self.net.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        self.image_shape = (3, int(height), int(width))
        self._preprocessing = Preprocessing(
            channels=3, height=int(height), width=int(width), fit=pictures.fit, background=1.0
        )
        for name, values in (("mean", pictures.mean), ("std", pictures.std)):
            tensor = torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.net.encode_image((images - self.mean) / self.std, normalize=False)
        return codes

    def _embed_text(self, texts: list[str]) -> Tensor:
        if self._reader is None:
            self._reader = self._read_words()
        numbers, cut = self._reader(texts)
        if cut:
            logging.getLogger("zoo").warning(
                f"{cut} of {len(texts)} texts are longer than what {self.name} reads, "
                f"{numbers.shape[1]} tokens: their ends were left out"
            )
        vectors: Tensor = self.net.encode_text(numbers.to(self.device), normalize=False)
        return vectors

    def _read_words(self) -> Reader:
        assert self.words is not None, "embed_text is not declared without a tokenizer"
        reader, known = self.words.reader(), self._vocabulary()
        if reader.size > known:
            raise InvalidConfig(
                f"{self.name}: its tokenizer knows {reader.size:,} words and its text tower "
                f"{known:,}: they do not belong together"
            )
        return reader

    def _vocabulary(self) -> int:
        """How many words the text tower has a vector for."""
        text = getattr(self.net, "text", self.net)
        return int(text.token_embedding.num_embeddings)

    @classmethod
    def from_name(cls, rest: str, *, pretrained: bool) -> "ClipModel":
        """The model that ``clip:rest`` means.

        Raises:
            ModelNameError, HubError: as :func:`zoo_clip.source.find`.
            WeightsNotFound, UnsafeWeights: there are none as safetensors.
            UnknownTag: the name is that of an architecture.
            CorruptWeights, TensorMismatch: they are damaged, or not those of the architecture.
            CapabilityError: the towers are of a kind that the zoo does not build.
        """
        source = find(rest)
        if pretrained:
            return _trained(cls, source)
        codes = _described(source).code_shape
        own = None if source.tokenizer else Words.of(source.config["text_cfg"], None)
        model = cls(_build(source), source.pictures, own)
        return _finished(model, source, codes, None)

    @classmethod
    def describe(cls, rest: str) -> ModelSpec:
        """The record of the model that ``clip:rest`` means; its weights are not fetched.

        Raises: as :meth:`from_name`.
        """
        source = find(rest)
        return _spec(source, _described(source), CAN, source.revision)

    @classmethod
    def pull(cls, rest: str) -> hub.Fetched:
        """The files that ``clip:rest`` is loaded of, fetched from the Hub and checked.

        Raises: as :meth:`from_name`.
        """
        return _fetched(find(rest))[0]


def _described(source: Source) -> ClipModel:
    """The model on the meta device, without memory or values; its codes were computed once."""
    with on_meta_device():
        net = _build(source)
    try:
        model = ClipModel(net, source.pictures, None).to("meta").eval()
        with torch.no_grad():
            codes = model._encode(torch.empty(1, *model.image_shape, device="meta"))
    except (SpecError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise CapabilityError(
            f"clip:{source.name} makes no features of pictures: {_line(error)}"
        ) from None
    model.code_shape = tuple(codes.shape[1:])
    return model


def _build(source: Source) -> nn.Module:
    """The towers, with random values; open_clip's errors, which may be of any kind, as one."""
    config: dict[str, Any] = copy.deepcopy(dict(source.config))
    kind: Any = towers.CLIP
    if config.pop("custom_text", False):
        kind = coca_model.CoCa if "multimodal_cfg" in config else towers.CustomTextCLIP
    try:
        net: nn.Module = kind(**config)
        return net
    except ZooError:
        raise
    except Exception as error:
        raise InvalidConfig(f"clip:{source.name}: open_clip cannot build it: {_line(error)}") from (
            error
        )


def _trained(kind: type[ClipModel], source: Source) -> ClipModel:
    """The model with the weights of one commit, from which all its tensors have to be."""
    fetched, name, words = _fetched(source)
    source = replace(source, licence=hub.stated_licence(fetched.folder))
    path, where = fetched.folder / name, f"{name} of hf-hub:{source.repo}@{fetched.commit}"
    looked_at = _described(source)
    _check_size(path, where, looked_at.net)
    with isolated(), _WithoutInitialValues():
        net = _build(source)
    _load(net, path, where)
    model = kind(net.float(), source.pictures, words)
    return _finished(model, source, looked_at.code_shape, fetched)


def _finished(
    model: ClipModel, source: Source, codes: tuple[int, ...], fetched: hub.Fetched | None
) -> ClipModel:
    model.code_shape, model.name = codes, f"clip:{source.name}"
    can = CAN if model.words is not None else CAN[:2]
    model.spec = _spec(source, model, can, None if fetched is None else fetched.commit)
    if fetched is not None:  # a collection is searched by the very weights it was made with
        name = f"clip:{source.name}@{fetched.commit}"
        model.source = Loaded(kind="prefix", name=name, commit=fetched.commit)
    return model


def _fetched(source: Source) -> tuple[hub.Fetched, str, Words | None]:
    """The files of one commit in the cache, the name of the tensors, and how words are read."""
    repo = source.require_weights()
    fetched, name = _tensors(repo, source)
    if not source.tokenizer:
        return fetched, name, Words.of(source.config["text_cfg"], None)
    try:
        hub.fetch_files(repo, (TOKENIZER, SETTINGS), fetched.commit)
    except WeightsNotFound:
        return fetched, name, None  # pictures alone: the words' numbers are nowhere
    return fetched, name, Words.of(source.config["text_cfg"], fetched.folder)


def _tensors(repo: str, source: Source) -> tuple[hub.Fetched, str]:
    """The tensors under the first of their names that the repository has."""
    try:
        fetched, (name, *_) = hub.fetch_first(repo, with_card(*source.files), source.revision)
    except (WeightsNotFound, UnsafeWeights) as error:
        raise type(error)(
            f"{error}.\nOf open_clip's repositories the zoo reads {', '.join(source.files)} and "
            f"nothing else: {TENSORS[1].replace('.safetensors', '.bin')} is a pickle, which could "
            f"run any code. With safetensors there are: clip:{', clip:'.join(SAFE)}"
        ) from error
    return fetched, name


def _check_size(path: Path, where: str, net: nn.Module) -> None:
    """Refuse a config that asks for more memory than its weights could ever fill."""
    wanted, size = sum(p.numel() for p in net.parameters()), path.stat().st_size
    if wanted > size:  # a number takes a byte at least
        raise TensorMismatch(
            f"{where} has {size:,} bytes, which is too few for the {wanted:,} numbers of its model"
        )


def _load(net: nn.Module, path: Path, where: str) -> None:
    """Give a network its tensors: all of them, and no other."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise TensorMismatch(f"{where} is not a valid safetensors file: {_line(error)}") from None
    if "positional_embedding" in tensors and not hasattr(net, "positional_embedding"):
        tensors = towers.convert_to_custom_text_state_dict(tensors)
    own = net.state_dict()
    for name in ("logit_scale", "logit_bias"):  # a number or a list of one
        if name in tensors and name in own and tensors[name].numel() == own[name].numel() == 1:
            tensors[name] = tensors[name].reshape(own[name].shape)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise TensorMismatch(f"{where}: {name!r:.200} holds NaN or infinity")
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise TensorMismatch(f"{where} is not what its config says: {_line(error)}") from None


class _WithoutInitialValues(TorchFunctionMode):
    """Leaves out the drawing of initial values, which the file's overwrite: all have to be in it.

    It takes seconds for a large tower.
    """

    _RANDOM = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func in self._RANDOM else func(*args, **(kwargs or {}))


def _spec(source: Source, model: ClipModel, can: tuple[str, ...], commit: str | None) -> ModelSpec:
    weights = f"{source.repo}" + (f"@{commit}" if commit else "") if source.repo else "none"
    licence = source.licence or f"see https://huggingface.co/{source.repo}"
    licence = f"; licence: {licence}" if source.repo else ""
    return ModelSpec(
        name=_identifier(source.name),
        family="towers",
        builder=f"{ClipModel.__module__}:{ClipModel.__qualname__}",
        summary=f"{source.name} of open_clip {VERSION}; weights on the Hub: {weights}{licence}",
        image_shape=model.image_shape,
        code_shape=model.code_shape,
        capabilities=can,
    )


def _identifier(name: str) -> str:
    """The name of an architecture or of a repository as a record has it: vit_b_32."""
    base = name.rpartition("/")[2] if "/" in name else name.partition(".")[0]
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in base.lower()).strip("_")
    return plain[:60] if plain[:1].isalpha() else f"clip_{plain}"[:60]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
