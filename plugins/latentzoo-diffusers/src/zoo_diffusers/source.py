"""Resolves the rest of a name to the parts of a repository, and reads what describes them.

====================  ======================================================================
``org/name``          an autoencoder, or a pipeline that generates
``org/name@<commit>``  the same of this commit, which needs no request once it is cached
``org/name#vae``      the autoencoder in this folder of a pipeline of any kind
====================  ======================================================================

A repository's files are not trusted: they choose among the classes in :data:`PIPELINES`,
:data:`AUTOENCODERS` and :data:`SCHEDULERS` and give them numbers, and nothing else is used.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.errors import InvalidConfig, InvalidName, UnsafeWeights, WeightsNotFound
from zoo.folder import CARD, CONFIG, read_json
from zoo.names import parse_repo

INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"
TENSORS = "diffusion_pytorch_model.safetensors"
SHARDS = f"{TENSORS}.index.json"

AUTOENCODERS = {
    "AsymmetricAutoencoderKL": "asymmetric_autoencoder_kl",
    "AutoencoderDC": "autoencoder_dc",
    "AutoencoderKL": "autoencoder_kl",
    "AutoencoderTiny": "autoencoder_tiny",
    "ConsistencyDecoderVAE": "consistency_decoder_vae",
    "VQModel": "vq_model",
}
"""The classes of autoencoders, and the names of their records."""

_DDPM = ("DDPMScheduler", "DDIMScheduler")
_SOLVERS = (*_DDPM, "PNDMScheduler", "DPMSolverMultistepScheduler")
SCHEDULERS = {
    "DDPMPipeline": _DDPM,
    "DDIMPipeline": _DDPM,
    "LDMPipeline": _SOLVERS,
    "ConsistencyModelPipeline": ("CMStochasticIterativeScheduler",),
    "DiTPipeline": _SOLVERS,
}
"""The schedulers that each pipeline's own loop fits."""

_UNET: dict[str, tuple[str, ...]] = {"unet": ("UNet2DModel",)}
PIPELINES: dict[str, dict[str, tuple[str, ...]]] = {
    "DDPMPipeline": _UNET,
    "DDIMPipeline": _UNET,
    "ConsistencyModelPipeline": _UNET,
    "LDMPipeline": {**_UNET, "vqvae": ("VQModel", "AutoencoderKL")},
    "DiTPipeline": {
        "transformer": ("DiTTransformer2DModel", "Transformer2DModel"),
        "vae": ("AutoencoderKL",),
    },
}
"""The classes of pipelines, and those that each of their networks may have."""

ALIASES = {"Transformer2DModel": "DiTTransformer2DModel"}
"""What diffusers makes of an old class in a pipeline of the table."""

WITH_SAFETENSORS = ("madebyollin/taesd", "stabilityai/sd-vae-ft-mse", "google/ddpm-cifar10-32")
"""Repositories that have safetensors, named when another has pickles alone."""

MOST, LAYERS, ITEMS, STEPS = 2**20, 256, 64, 10_000
"""The greatest whole number of a config, of one that counts layers, the longest list, and the most
steps of a scheduler: what is built of a config has to end, before its tensors can be looked at."""


@dataclass(frozen=True)
class Part:
    """One network or scheduler of a repository: its class, its checked config and its folder."""

    kind: str
    config: Mapping[str, Any]
    folder: str


@dataclass(frozen=True)
class Source:
    """What a name means: the class, its parts by their roles, and the commit of all files."""

    name: str
    """The text after ``diffusers:``, without a revision."""
    repo: str
    commit: str
    requested: str | None
    kind: str
    """A pipeline of :data:`PIPELINES`, or an autoencoder, which is its own only part."""
    parts: Mapping[str, Part]
    scheduler: Part | None = None
    licence: str = "see there"
    snapshot: Path = field(default_factory=Path)
    labels: Mapping[str, int] = field(default_factory=dict)
    """The numbers of classes by their names, where the pipeline's file has them."""

    @property
    def where(self) -> str:
        return f"hf-hub:{self.repo}@{self.commit}"


def find(rest: str) -> Source:
    """What ``rest`` of a name ``diffusers:rest`` is.

    Raises:
        InvalidName: it is no ``org/name[@revision][#folder]``.
        InvalidConfig: the repository describes nothing of the tables, or wrongly.
        WeightsNotFound: it has no file that describes anything.
        HubError: the repository cannot be found or reached.
    """
    address, hash_, folder = rest.partition("#")
    good = re.fullmatch(r"\w[\w-]*(/\w[\w-]*)*", folder, re.ASCII) if hash_ else True
    if ":" in address or not good:
        raise InvalidName(
            f"diffusers:{rest} is not a name like diffusers:madebyollin/taesd, "
            "diffusers:org/name@<commit> or diffusers:org/name#vae"
        )
    name = parse_repo(address)
    first = [(f"{folder}/{CONFIG}",)] if folder else [(INDEX,), (CONFIG,)]
    choices = [(*names, CARD) for names in first]  # a cached one has the card, if there is one
    fetched, names = hub.fetch_first(name.repo, [*choices, *first], name.revision)
    opened = _Opened(name.repo, fetched, f"{name.repo}#{folder}" if folder else name.repo)
    if names[0] == INDEX:
        return opened.pipeline()
    return opened.autoencoder(folder, names[0])


@dataclass(frozen=True)
class _Opened:
    """A commit of a repository, of which one file was fetched."""

    repo: str
    fetched: hub.Fetched
    name: str

    def autoencoder(self, folder: str, path: str) -> Source:
        config = self._json(path)
        kind = config.get("_class_name")
        if not isinstance(kind, str) or kind not in AUTOENCODERS:
            raise self._stranger(path, kind, tuple(AUTOENCODERS))
        return self._source(kind, {kind: Part(kind, self._checked(path, config), folder)})

    def pipeline(self) -> Source:
        index = self._json(INDEX)
        kind = index.get("_class_name")
        if not isinstance(kind, str) or kind not in PIPELINES:
            raise self._stranger(INDEX, kind, tuple(PIPELINES), index)
        parts = {
            role: self._part(index, role, CONFIG, kinds) for role, kinds in PIPELINES[kind].items()
        }
        scheduler = self._part(index, "scheduler", SCHEDULER, SCHEDULERS[kind])
        return replace(self._source(kind, parts, scheduler), labels=_labels(index.get("id2label")))

    def _source(
        self, kind: str, parts: Mapping[str, Part], scheduler: Part | None = None
    ) -> Source:
        commit, requested = self.fetched.commit, self.fetched.requested
        return Source(
            self.name, self.repo, commit, requested, kind, parts, scheduler,
            hub.stated_licence(self.fetched.folder) or "see there", self.fetched.folder,
        )  # fmt: skip

    def _part(self, index: Mapping[str, Any], role: str, file: str, kinds: tuple[str, ...]) -> Part:
        """A part of a pipeline; old repositories have it beside the index, without a folder."""
        declared = index.get(role)
        pair = declared if isinstance(declared, list) and len(declared) == 2 else [None, declared]
        if pair[0] != "diffusers" or pair[1] not in kinds:
            raise self._stranger(INDEX, declared, kinds, role=role)
        choices = [(f"{role}/{file}",), (file,)]
        _, (path,) = hub.fetch_first(self.repo, choices, self.fetched.commit)
        config = self._checked(path, self._json(path))
        return Part(ALIASES.get(str(pair[1]), str(pair[1])), config, path.rpartition("/")[0])

    def _json(self, path: str) -> dict[str, Any]:
        try:
            return read_json(self.fetched.folder / path)
        except InvalidConfig as error:
            raise InvalidConfig(f"{self._where(path)} cannot be used: {error}") from None

    def _where(self, path: str) -> str:
        return f"{path} of hf-hub:{self.repo}@{self.fetched.commit}"

    def _stranger(
        self,
        path: str,
        kind: Any,
        known: tuple[str, ...],
        index: Mapping[str, Any] | None = None,
        role: str = "",
    ) -> InvalidConfig:
        asks = f"for the class {kind!r:.100}" + (f" as its {role}" if role else "")
        roles = [r for r, v in (index or {}).items() if isinstance(v, list) and v[1:] and
                 v[1] in AUTOENCODERS and str(r).isidentifier()]  # fmt: skip
        return InvalidConfig(
            f"{self._where(path)} asks {asks}, which the zoo does not build: code of a repository "
            f"never runs, and known here are {', '.join(known)}"
            + "".join(f".\nIts autoencoder alone: diffusers:{self.repo}#{r}" for r in roles[:1])
        )

    def _checked(self, path: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config without its notes, every value of it plain and of a size that can be built."""
        kept = {key: value for key, value in config.items() if not key.startswith("_")}
        for key, value in kept.items():
            if not key.isidentifier() or not _plain(key, value):
                raise InvalidConfig(f"{self._where(path)} cannot have {key!r:.80}: {value!r:.80}")
        return kept


def _plain(key: str, value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        most = STEPS if key == "trained_betas" else ITEMS
        return len(value) <= most and depth < 3 and all(_plain(key, v, depth + 1) for v in value)
    if isinstance(value, dict):  # only for keys that no class of the tables takes
        return depth < 3 and len(value) <= ITEMS and all(
            _plain(key, v, depth + 1) for v in value.values()
        )  # fmt: skip
    if type(value) is int:
        most = LAYERS if "layer" in key or "blocks" in key else MOST
        return abs(value) <= (STEPS if "timesteps" in key else most)
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) is bool or (type(value) is str and len(value) <= 200)


def _labels(declared: Any) -> dict[str, int]:
    """The classes by each of their names, from ``{"1": "goldfish, Carassius auratus"}``."""
    return {
        name.strip(): int(number)
        for number, names in (declared.items() if isinstance(declared, dict) else ())
        if re.fullmatch(r"\d{1,4}", number, re.ASCII) and isinstance(names, str)
        for name in names[:500].split(",")
        if name.strip().isprintable()
    }


def fetch_tensors(source: Source, part: Part) -> list[Path]:
    """The files of a network's tensors, one or the shards that an index file names.

    Raises:
        UnsafeWeights: there are pickles alone; the text names other repositories.
        InvalidConfig: the index names something that is no file beside it.
        HubError: as :func:`find`.
    """
    inside = f"{part.folder}/" if part.folder else ""
    choices = [(f"{inside}{TENSORS}",), (f"{inside}{SHARDS}",)]
    try:
        fetched, (path,) = hub.fetch_first(source.repo, choices, source.commit)
    except (UnsafeWeights, WeightsNotFound) as error:
        raise type(error)(
            f"{error}.\nRepositories that have safetensors: "
            + ", ".join(f"diffusers:{repo}" for repo in WITH_SAFETENSORS)
        ) from error
    if path.endswith(TENSORS):
        return [fetched.folder / path]
    names = [inside + name for name in _shards(source, fetched.folder / path, path)]
    fetched = hub.fetch_files(source.repo, names, source.commit)
    return [fetched.folder / name for name in names]


def _shards(source: Source, file: Path, path: str) -> list[str]:
    where = f"{path} of {source.where}"
    try:
        declared = read_json(file).get("weight_map")
    except InvalidConfig as error:
        raise InvalidConfig(f"{where} cannot be used: {error}") from None
    names = list(declared.values()) if isinstance(declared, dict) else []
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,150}\.safetensors", name):
            raise InvalidConfig(
                f"{where} names {name!r:.100}, expected a file of safetensors beside it"
            )
    if not 0 < len(set(names)) <= ITEMS:
        raise InvalidConfig(f"{where} has no weight_map that names 1 to {ITEMS} files")
    return sorted(set(names))
