"""Checks the config of a repository, which anybody may have written.

It gives numbers and switches to the classes of open_clip, names a network of timm, and nothing
else: what would fetch, import or run something is refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import timm

from zoo.errors import CapabilityError, InvalidConfig
from zoo_clip.library import coca_model, model

_PARTS = {
    "vision_cfg": model.CLIPVisionCfg,
    "text_cfg": model.CLIPTextCfg,
    "multimodal_cfg": coca_model.MultimodalCfg,
}
_TOP = ("embed_dim", "quick_gelu", "custom_text", "init_logit_scale", "init_logit_bias",
        "nonscalar_logit_scale")  # fmt: skip
_MOST = {"layers": 200, "image_size": 4096, "context_length": 8192, "embed_dim": 65_536}
_NUMBER = 2_000_000
"""The largest number of any other kind: vocabularies have a million of words."""
_TOKENS = {"clean": ("lower", "whitespace", "canonicalize"), "strip_sep_token": (True, False)}
"""The arguments of a tokenizer that are known, and their values."""
_LAYERS = ("eps", "approximate", "bias", "elementwise_affine")
"""Those of norms and activations: torch's classes take a device, too, which nobody may choose."""
_FITS = {"shortest": "crop", "longest": "pad", "squash": "stretch"}
"""open_clip's resize_mode as the zoo's ``fit``."""


@dataclass(frozen=True)
class Pictures:
    """How open_clip prepares pictures."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    fit: str = "crop"


def checked_pictures(declared: Any, where: str) -> Pictures:
    """Of a preprocess_cfg what the zoo follows.

    Raises:
        InvalidConfig: a value cannot be.
    """
    if not isinstance(declared, Mapping):
        raise InvalidConfig(f"{where}: preprocess_cfg cannot be {declared!r:.80}")
    mean = _three(declared.get("mean", Pictures.mean), -10, f"{where}: mean")
    std = _three(declared.get("std", Pictures.std), 1e-6, f"{where}: std")
    mode = declared.get("resize_mode") or "shortest"
    if not isinstance(mode, str) or mode not in _FITS:
        raise InvalidConfig(f"{where}: resize_mode cannot be {mode!r:.80}")
    return Pictures(mean, std, _FITS[mode])


def _three(value: Any, low: float, what: str) -> tuple[float, ...]:
    numbers = tuple(value) if isinstance(value, list | tuple) else ()
    good = len(numbers) == 3 and all(
        type(n) in (int, float) and math.isfinite(n) and low <= n <= 10 for n in numbers
    )
    if not good:
        raise InvalidConfig(f"{what} cannot be {value!r:.80}")
    return numbers


def checked_model(declared: Any, where: str) -> dict[str, Any]:
    """A model_cfg, in which nothing is left that was not looked at.

    Raises:
        InvalidConfig: something in it cannot be.
        CapabilityError: its text tower is a model of transformers.
    """
    if not isinstance(declared, Mapping) or not isinstance(declared.get("text_cfg"), Mapping):
        raise InvalidConfig(f"{where} has no model_cfg of open_clip: {declared!r:.80}")
    if declared["text_cfg"].get("hf_model_name"):
        raise CapabilityError(
            f"{where}: its text tower is {declared['text_cfg']['hf_model_name']!r:.80}, a model of "
            "the library transformers, which the zoo does not build. Take one with a text tower of "
            "open_clip's own, such as clip:ViT-B-32.laion2b_s34b_b79k"
        )
    checked: dict[str, Any] = {}
    for key, value in declared.items():
        if key in _PARTS:
            checked[key] = _part(value, key, where)
        elif key in _TOP:
            checked[key] = _value(key, value, f"{where}: model_cfg")
        else:
            raise InvalidConfig(f"{where}: model_cfg cannot have {key!r:.80}")
    for key in ("embed_dim", "vision_cfg"):
        if key not in checked:
            raise InvalidConfig(f"{where}: model_cfg has no {key}")
    _check_timm(checked["vision_cfg"], where)
    return checked


def _part(declared: Any, part: str, where: str) -> dict[str, Any]:
    known = {each.name for each in fields(_PARTS[part])}
    if not isinstance(declared, Mapping):
        raise InvalidConfig(f"{where}: {part} cannot be {declared!r:.80}")
    checked = {}
    for key, value in declared.items():
        if key not in known:
            raise InvalidConfig(f"{where}: {part} cannot have {key!r:.80}")
        if key == "tokenizer_mode" and value:
            raise CapabilityError(
                f"{where}: the zoo has no tokenizer of its kind, tokenizer_mode {value!r:.80}"
            )
        if key == "tokenizer_kwargs":
            checked[key] = _tokens(value, where)
        elif key in ("act_kwargs", "norm_kwargs") and isinstance(value, Mapping):
            if strange := [each for each in value if each not in _LAYERS]:
                raise InvalidConfig(f"{where}: {key} cannot have {strange[0]!r:.80}")
            checked[key] = {k: _value(k, v, f"{where}: {key}") for k, v in value.items()}
        else:
            checked[key] = _value(key, value, f"{where}: {part}")
    return checked


def _value(key: str, value: Any, where: str) -> Any:
    """A number, a switch or a short text, or a few numbers."""
    items = value if isinstance(value, list | tuple) else [value]
    most = _MOST.get(key, _NUMBER)
    for item in items:
        plain = item is None or type(item) is bool or (isinstance(item, str) and len(item) < 100)
        number = type(item) in (int, float) and math.isfinite(item) and abs(item) <= most
        if not (plain or number) or len(items) > 4 or not key.isidentifier():
            raise InvalidConfig(f"{where} cannot have {key!r:.80}: {value!r:.80}")
    return list(value) if isinstance(value, list | tuple) else value


def _tokens(declared: Any, where: str) -> dict[str, Any]:
    if declared is None:
        return {}
    items = declared.items() if isinstance(declared, Mapping) else [("", declared)]
    for key, value in items:
        if value not in _TOKENS.get(key, ()):
            raise InvalidConfig(f"{where}: tokenizer_kwargs cannot have {key!r:.80}: {value!r:.80}")
    return dict(declared)


def _check_timm(vision: dict[str, Any], where: str) -> None:
    """The network of timm is one that timm has, and its own weights are never fetched."""
    name = vision.get("timm_model_name")
    if name and (not isinstance(name, str) or not timm.is_model(name.partition(".")[0])):
        raise InvalidConfig(
            f"{where} asks for the network {name!r:.80} of timm, which timm {timm.__version__} "
            "does not have"
        )
    if name and (":" in name or "/" in name):
        raise InvalidConfig(f"{where}: timm_model_name cannot be {name!r:.80}")
    if "timm_model_pretrained" in vision:
        vision["timm_model_pretrained"] = False
