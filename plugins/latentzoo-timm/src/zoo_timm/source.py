"""Resolves the rest of a name to an architecture of timm and the place of its weights.

=====================================  ===========================================================
``resnet18.a1_in1k``                   weights that timm lists
``resnet18``                           the architecture with timm's default weights
``resnet18.a1_in1k@<commit>``          those of this revision of their repository on the Hub
``hf-hub:org/name``, ``...@<commit>``  any repository on the Hub that timm's own tools pushed
``resnet18#size=96``                   of pictures of this size, instead of that of the weights
``vit_tiny_patch16_224#pool=avg``      with features of the mean, not of the class token
=====================================  ===========================================================

A repository's config.json is not trusted: it chooses among timm's architectures and gives them
numbers, and nothing else in it is used.
"""

import difflib
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import timm
from timm.models import (
    PretrainedCfg,
    get_arch_pretrained_cfgs,
    get_deprecated_models,
    get_pretrained_cfg,
    is_model,
    load_model_config_from_hf,
    split_model_name_tag,
)

from zoo import hub
from zoo.errors import InvalidConfig, InvalidName, UnknownModel, UnknownTag, UnsafeWeights
from zoo.folder import CONFIG, read_json
from zoo.names import parse_repo

_HUB = "hf-hub:"
POOLS = ("token", "avg", "max")
"""How features can be made of a net's last maps: of the class token, or of all places."""
_OURS = ("pretrained", "checkpoint", "cache", "features_only", "pruned", "scriptable", "exportable",
         "no_jit", "device", "dtype")  # fmt: skip
"""Beginnings of the arguments that a config may not give: they steer timm, not the architecture."""


@dataclass(frozen=True)
class Source:
    """An architecture of timm, and where its weights are."""

    name: str
    """The text after ``timm:``, without a revision."""
    architecture: str
    cfg: PretrainedCfg
    repo: str | None = None
    revision: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture, from a repository's config.json."""
    pool: str | None = None
    """How features are made of a net's last maps; None for its own way."""

    @property
    def chosen(self) -> bool:
        """Whether something was chosen that the architecture may not be able to do."""
        return "#" in self.name or bool(self.arguments)

    def pinned(self, commit: str) -> str:
        """The name that means this commit for ever."""
        name, hash_, options = self.name.partition("#")
        return f"timm:{name}@{commit}{hash_}{options}"

    def require_weights(self) -> None:
        """Make sure that there are weights which can be read safely.

        Raises:
            UnsafeWeights: timm has a pickle of them alone.
            UnknownTag: timm has none at all.
        """
        if self.repo is not None:
            return
        others = [f"timm:{name}" for name in _with_weights(self.architecture)]
        untrained = f"For an untrained one: zoo.create('timm:{self.architecture}')"
        advice = "Weights on the Hub: " + ", ".join(others) if others else untrained
        if self.cfg.url or self.cfg.file:
            raise UnsafeWeights(
                f"timm has the weights of {self.name} as a pickle alone, "
                f"{self.cfg.url or self.cfg.file}; the zoo reads safetensors and nothing else.\n"
                + advice
            )
        raise UnknownTag(f"timm has no weights of {self.name}. {advice}")


def find(rest: str) -> Source:
    """What ``rest`` of a name ``timm:rest`` is.

    Raises:
        UnknownModel, UnknownTag: timm does not have it; the text has close matches.
        InvalidName: what follows ``hf-hub:`` is not a repository.
        InvalidConfig: the repository's config.json does not describe a model of timm.
        HubError: the repository cannot be found or reached.
    """
    address, hash_, options = rest.partition("#")
    source = _addressed(address)
    return _with_options(source, options) if hash_ else source


def _addressed(rest: str) -> Source:
    if rest.startswith(_HUB):
        pushed = parse_repo(rest.removeprefix(_HUB))
        return _pushed(pushed.repo, pushed.revision)
    name, at, revision = rest.partition("@")
    if ":" in name or "/" in name:
        raise UnknownModel(
            f"timm:{rest} is no name of timm. Names look like: timm:resnet18.a1_in1k, "
            "timm:hf-hub:org/name"
        )
    source = _listed(name)
    if not at:
        return source
    if source.repo is None:
        source.require_weights()
    # So that a wrong revision is found here, with the usual message.
    return replace(source, name=name, revision=parse_repo(f"{source.repo}@{revision}").revision)


def _with_options(source: Source, text: str) -> Source:
    """The source with ``size=224,pool=token``, or one of the two."""
    options = dict(item.partition("=")[::2] for item in text.split(","))
    size = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", options.pop("size", "1"), re.ASCII)
    pool = options.pop("pool", None)
    if options or size is None or pool not in (None, *POOLS):
        raise InvalidName(
            f"timm:{source.name}#{text}: after # there is size=224 (or size=HEIGHTxWIDTH), "
            f"pool={'|'.join(POOLS)}, or both with a comma in between"
        )
    cfg, arguments = source.cfg, source.arguments
    if "size=" in text:
        sides = int(size[1]), int(size[2] or size[1])
        # Where an architecture has positions, timm makes them for the size that stands here.
        cfg = replace(cfg, input_size=(cfg.input_size[0], *sides))
        arguments = {k: sides if k == "img_size" else v for k, v in arguments.items()}
    name = f"{source.name}#{text}"
    return replace(source, name=name, cfg=cfg, arguments=arguments, pool=pool)


def _listed(name: str) -> Source:
    architecture, tag = split_model_name_tag(name)
    if current := get_deprecated_models().get(name):
        warnings.warn(
            f"timm now calls {name!r} {current!r}; the old name works for the time being",
            FutureWarning,
            stacklevel=2,
        )
        architecture, tag = split_model_name_tag(current)
    if not is_model(architecture) or architecture in get_deprecated_models():
        raise UnknownModel(
            f"timm {timm.__version__} has no model {architecture!r}.\n{_close(name)}"
        )
    full = f"{architecture}.{tag}" if tag else architecture
    known = get_arch_pretrained_cfgs(architecture)
    if tag and full not in known:
        have = [f"timm:{other}" for other in _with_weights(architecture)]
        raise UnknownTag(
            f"timm {timm.__version__} has no weights {tag!r} of {architecture}. "
            + (f"There are: {', '.join(have)}" if have else "It has none at all.")
        )
    cfg = get_pretrained_cfg(full) or PretrainedCfg(architecture=architecture)
    return Source(full, architecture, cfg, cfg.hf_hub_id)


def _with_weights(architecture: str) -> list[str]:
    return [name for name, cfg in get_arch_pretrained_cfgs(architecture).items() if cfg.hf_hub_id]


def _close(name: str) -> str:
    names = timm.list_models(include_tags="." in name)
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return "Did you mean: " + ", ".join(f"timm:{other}" for other in close) + "?"
    return "timm.list_models('*vit*') in Python lists those that have vit in their name"


def _pushed(repo: str, revision: str | None) -> Source:
    """The model of a repository that was written by timm's ``push_to_hf_hub`` or otherwise."""
    fetched = hub.fetch_files(repo, (CONFIG,), revision)
    where = f"config.json of hf-hub:{repo}@{fetched.commit}"
    try:
        config = read_json(fetched.folder / CONFIG)
    except InvalidConfig as error:
        raise InvalidConfig(f"{where} cannot be used: {error}") from None
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        ours = "model" in config and "api_version" in config
        raise InvalidConfig(
            f"{where} names no architecture: it is not a repository of timm.\n"
            + (f"It looks like one of the zoo: write hf-hub:{repo}" if ours else "")
        )
    if not is_model(architecture) or architecture in get_deprecated_models():
        raise InvalidConfig(
            f"{where} asks for the architecture {architecture!r:.80}, which timm "
            f"{timm.__version__} does not have (the repository says so, nobody checked it)"
        )
    try:
        # Of the file that was just fetched, which needs no request.
        declared, _, arguments = load_model_config_from_hf(f"{repo}@{fetched.commit}")
        arguments = _checked_arguments(arguments)
        if size := arguments.get("img_size"):  # timm remembers that of the architecture's own
            sides = size if isinstance(size, tuple) else (size, size)
            declared["input_size"] = (declared.get("input_size", (3,))[0], *sides)
        cfg = PretrainedCfg(architecture=architecture, **_checked_cfg(declared))
    except Exception as error:  # timm does not check what a file may hold
        raise InvalidConfig(f"{where}: {type(error).__name__}: {error!s:.300}") from error
    # From here on the commit is fixed: the tensors are those of this config.
    return Source(f"hf-hub:{repo}", architecture, cfg, repo, fetched.commit, arguments)


def _checked_cfg(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Of a pretrained_cfg what describes images and names the first and last layers."""
    wanted = {
        "input_size": _numbers(3, 1, 4096, whole=True),
        "mean": _numbers(None, -10, 10),
        "std": _numbers(None, 1e-6, 10),
        "num_classes": lambda value: type(value) is int and 0 <= value < 10**7,
        "fixed_input_size": lambda value: type(value) is bool,
        "crop_mode": lambda value: value in ("center", "squash", "border"),
        "crop_pct": lambda value: type(value) in (int, float) and 0.1 <= value <= 10,
        "interpolation": lambda value: isinstance(value, str) and len(value) < 20,
        "first_conv": _names,
        "classifier": _names,
    }
    checked = {}
    for key, good in wanted.items():
        value = declared.get(key)
        if value is None:
            continue
        if not good(value):
            raise ValueError(f"{key} cannot be {value!r:.80}")
        checked[key] = tuple(value) if isinstance(value, list | tuple) else value
    return checked


def _numbers(
    length: int | None, low: float, high: float, whole: bool = False
) -> Callable[[Any], bool]:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)

    def good(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) in ((length,) if length else (1, 3))
            and all(type(n) in kinds and math.isfinite(n) and low <= n <= high for n in value)
        )

    return good


def _names(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return all(isinstance(name, str) and len(name) < 200 for name in names)


def _checked_arguments(declared: Any) -> dict[str, Any]:
    """Numbers, switches and the names of layers, and lists of them, for an architecture."""
    if not isinstance(declared, Mapping):
        raise ValueError(f"model_args cannot be {declared!r:.80}")
    for key, value in declared.items():
        items = value if isinstance(value, list) else [value]
        plain = all(item is None or type(item) in (bool, int, float, str) for item in items)
        if key.startswith(_OURS) or not key.isidentifier() or not plain or len(items) > 100:
            raise ValueError(f"model_args cannot have {key!r:.80}: {value!r:.80}")
    # The classifier is left out, however many classes it had.
    declared = {key: value for key, value in declared.items() if key != "num_classes"}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in declared.items()}
