"""The static records of a model: what it is, which weights it has, what those measured.

Records are frozen, turn into JSON and back without loss, and are checked when they are made, so
that a wrong one is found when its plugin is discovered and not when somebody loads the model.
Nothing here imports torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from zoo.errors import InputError, SettingsError, SpecError

API_VERSION = 1
"""The version of the contract between core, plugins and weights folders."""

USUAL = ("encode", "decode", "reconstruct", "generate", "features", "score")
"""The calls of a model whose record does not say which it has: those of an autoencoder."""
CAPABILITIES = (*USUAL, "embed_text")
"""The calls that a model can declare; ``preprocess`` is every model's."""


def _check(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise SpecError(f"{where}: expected {expected}, got {got!r}")


def is_identifier(value: object) -> bool:
    """Whether ``value`` can be the name of a model, a tag or a prefix."""
    # No regular expressions in this module: compiling them costs every start.
    return (
        isinstance(value, str)
        and value.isidentifier()
        and value.isascii()
        and value.islower()
        and not value.startswith("_")
        and len(value) < 64
    )


def is_hex(value: object, digits: int) -> bool:
    """Whether ``value`` is a text of so many hexadecimal digits, as a sha is."""
    return isinstance(value, str) and len(value) == digits and set(value) <= set("0123456789abcdef")


def is_duration(value: object) -> bool:
    """Whether ``value`` is a number of seconds."""
    return _is_number(value) and 0 <= value < math.inf  # type: ignore[operator]


def _is_builder(value: object) -> bool:
    module, _, attribute = value.partition(":") if isinstance(value, str) else ("", "", "")
    return attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _is_repo(value: object) -> bool:
    parts = value.split("/") if isinstance(value, str) else []
    return len(parts) == 2 and all(
        0 < len(part) <= 96 and part.isascii() and part.strip(".-_").replace("-", "")
        .replace(".", "").replace("_", "").isalnum() for part in parts
    )  # fmt: skip


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) > 0
        and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """``value`` as JSON has it."""
    if isinstance(value, _Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


class _Record:
    """JSON round trip for the frozen dataclasses below."""

    def to_dict(self) -> dict[str, Any]:
        """This record as plain JSON types."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record that :meth:`to_dict` wrote.

        Raises:
            SpecError: a key is unknown or missing, or a value is not valid.
        """
        _check(isinstance(data, Mapping), cls.__name__, "an object", data)
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(map(str, set(data) - known))
        _check(not unknown, cls.__name__, f"only the keys {sorted(known)}", unknown)
        try:
            return cls(**{key: cls._revive(key, value) for key, value in data.items()})
        except TypeError as error:  # a required key is missing
            raise SpecError(f"{cls.__name__}: {error}") from None

    @classmethod
    def _revive(cls, key: str, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    def __reduce__(self) -> tuple[Any, ...]:
        # A model that holds its record can be copied, and sent to another process.
        return type(self).from_dict, (self.to_dict(),)

    def _freeze_config(self, name: str) -> None:
        value = getattr(self, name)
        _check(isinstance(value, Mapping), f"{type(self).__name__}.{name}", "a mapping", value)
        try:
            copy = json.loads(json.dumps(_plain(value)))
        except (TypeError, ValueError):
            raise SpecError(f"{name}: expected values that JSON can hold, got {value!r}") from None
        object.__setattr__(self, name, MappingProxyType(copy))


@dataclass(frozen=True, kw_only=True)
class Metric(_Record):
    """One measured figure, with all that is needed to measure it again.

    ``spread`` is the standard deviation over seeds or draws; ``baselines`` holds the same measure
    of what has learnt nothing: ``{"pixels": 0.969, "untrained": 0.93}``.
    """

    name: str
    value: float
    dataset: str
    split: str
    protocol: str
    samples: int
    seed: int | None = None
    spread: float | None = None
    baselines: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for key in ("name", "dataset", "split", "protocol"):
            value = getattr(self, key)
            _check(isinstance(value, str) and value != "", f"Metric.{key}", "a text", value)
        where = f"Metric {self.name}"
        _check(_is_number(self.value), f"{where}.value", "a number", self.value)
        _check(
            isinstance(self.samples, int) and self.samples > 0,
            f"{where}.samples",
            "a positive whole number",
            self.samples,
        )
        positive = self.spread is None or (_is_number(self.spread) and self.spread >= 0)
        _check(positive, f"{where}.spread", "a number from 0, or null", self.spread)
        self._freeze_config("baselines")
        for baseline, value in self.baselines.items():
            _check(_is_number(value), f"{where}.baselines.{baseline}", "a number", value)


FITS = ("crop", "pad", "stretch")
"""What may be done with a picture whose sides are of other proportions than the images'."""
AS_LIBRARY = "library"
"""What a user gives as ``fit`` for the preparation of the library that the weights are from."""
INTERPOLATIONS = ("bicubic", "bilinear")
"""How pictures may be resized."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing(_Record):
    """How any picture becomes an image of a model.

    The picture is turned upright (EXIF), laid over ``background`` where it is transparent, made
    grey (one channel) or RGB (three), resized with antialiasing and, when its sides are of other
    proportions, cut at the centre (``crop``), framed with ``background`` (``pad``) or distorted
    (``stretch``). Values end in [0, 1].

    ``keep`` and ``interpolation`` are for the libraries that prepare pictures otherwise. With
    ``keep``, a picture is first resized to cover (``crop``) or to be (``stretch``) ``1 / keep``
    times the sides of the image, which is then cut out of its middle: 0.875 loses an eighth of
    each side. Without it, as much as possible is kept.
    """

    channels: int
    height: int
    width: int
    fit: str = "crop"
    background: float = 0.0
    keep: float | None = None
    interpolation: str = "bicubic"

    def to_dict(self) -> dict[str, Any]:
        """As :meth:`_Record.to_dict`; what few models need is left out where it is not needed."""
        usual = {"keep": None, "interpolation": "bicubic"}
        return {
            key: value
            for key, value in super().to_dict().items()
            if key not in usual or value != usual[key]
        }

    def __post_init__(self) -> None:
        _check(self.channels in (1, 3), "Preprocessing.channels", "1 or 3", self.channels)
        _check(
            _is_shape((self.height, self.width)) and max(self.height, self.width) <= 4096,
            "Preprocessing height and width",
            "whole numbers from 1 to 4096",
            (self.height, self.width),
        )
        _check(self.fit in FITS, "Preprocessing.fit", f"one of {FITS}", self.fit)
        number = isinstance(self.background, int | float) and 0 <= self.background <= 1
        _check(number, "Preprocessing.background", "a number from 0 to 1", self.background)
        kept = self.keep is None or (_is_number(self.keep) and 0.1 <= self.keep <= 1)
        _check(kept, "Preprocessing.keep", "a number from 0.1 to 1, or null", self.keep)
        _check(
            self.keep is None or self.fit != "pad",
            "Preprocessing.keep",
            "null where a picture is framed (pad)",
            self.keep,
        )
        _check(
            self.interpolation in INTERPOLATIONS,
            "Preprocessing.interpolation",
            f"one of {INTERPOLATIONS}",
            self.interpolation,
        )


@dataclass(frozen=True, kw_only=True)
class Weights(_Record):
    """One trained set of weights of a model. A tag never changes its bytes.

    ``repo`` and ``revision`` (a full commit sha) say where the Hugging Face Hub has it; weights
    that are in the plugin's wheel, in ``weights/<model>.<tag>/`` beside its root module, need
    neither.
    """

    tag: str
    sha256: str
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    preprocessing: Preprocessing | None = None
    parameters: int
    dataset: str
    licence: str
    repo: str | None = None
    revision: str | None = None
    metrics: tuple[Metric, ...] = ()
    labels: bool = False
    """Whether they were trained with the labels of the data, and so are not unsupervised."""
    seconds: float | None = None
    """How long training took by the clock, in seconds, if that was recorded."""

    def __post_init__(self) -> None:
        _check(
            is_identifier(self.tag),
            "Weights.tag",
            "a lower-case identifier",
            self.tag,
        )
        where = f"Weights {self.tag}"
        _check(
            is_hex(self.sha256, 64),
            f"{where}.sha256",
            "64 hexadecimal digits",
            self.sha256,
        )
        _check(
            self.repo is None or _is_repo(self.repo),
            f"{where}.repo",
            "organisation/name",
            self.repo,
        )
        _check(
            self.revision is None or is_hex(self.revision, 40),
            f"{where}.revision",
            "a full commit sha of 40 digits, so that the bytes cannot change",
            self.revision,
        )
        _check(
            isinstance(self.parameters, int) and self.parameters >= 0,
            f"{where}.parameters",
            "a number of parameters",
            self.parameters,
        )
        for key in ("dataset", "licence"):
            value = getattr(self, key)
            _check(isinstance(value, str) and value != "", f"{where}.{key}", "a text", value)
        _check(
            all(isinstance(m, Metric) for m in self.metrics),
            f"{where}.metrics",
            "Metric records",
            self.metrics,
        )
        _check(isinstance(self.labels, bool), f"{where}.labels", "true or false", self.labels)
        _check(
            self.seconds is None or is_duration(self.seconds),
            f"{where}.seconds",
            "a number of seconds, or None",
            self.seconds,
        )
        self._freeze_config("config")
        object.__setattr__(self, "metrics", tuple(self.metrics))

    @classmethod
    def _revive(cls, key: str, value: Any) -> Any:
        if key == "metrics":
            return tuple(Metric.from_dict(item) for item in value)
        if key == "preprocessing" and value is not None:
            return Preprocessing.from_dict(value)
        return super()._revive(key, value)


@dataclass(frozen=True, kw_only=True)
class Option(_Record):
    """An option of ``generate`` that a model declares, such as ``steps=20`` or ``guidance=1.5``.

    A value is of the type of ``default`` (a whole number will do for one with a fraction), from
    ``minimum`` to ``maximum``, both included, and one of ``choices``, as far as they are given.
    """

    default: bool | int | float | str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    summary: str = ""

    def __post_init__(self) -> None:
        _check(
            isinstance(self.default, bool | int | float | str),
            "Option.default",
            "true or false, a number, or a text",
            self.default,
        )
        for key in ("minimum", "maximum"):
            bound = getattr(self, key)
            fits = _is_number(bound) and _is_number(self.default)
            _check(bound is None or fits, f"Option.{key}", "a number, of a number", bound)
        texts = isinstance(self.choices, tuple) and all(isinstance(c, str) for c in self.choices)
        _check(
            texts and (not self.choices or isinstance(self.default, str)),
            "Option.choices",
            "a tuple of texts, of a text",
            self.choices,
        )
        _check(isinstance(self.summary, str), "Option.summary", "a text", self.summary)
        _check(self.accepts(self.default), "Option.default", self.expected, self.default)

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is of the right type and in range."""
        whole = isinstance(self.default, float) and type(value) is int
        if type(value) is not type(self.default) and not whole:
            return False
        if self.choices and value not in self.choices:
            return False
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return math.isfinite(value) and low <= value <= high

    @property
    def expected(self) -> str:
        """What :meth:`accepts` takes, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        words = kinds[type(self.default)]
        if self.minimum is not None:
            words += f" from {self.minimum:g}"
        if self.maximum is not None:
            words += f" up to {self.maximum:g}"
        return words


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model was loaded from.

    ``kind`` is ``bundled`` (in the plugin's wheel), ``hub``, ``folder``, or ``prefix`` (behind a
    plugin's prefix, where there is no weights folder). ``name`` loads the same again: of what is
    on the Hub it has the commit, unless the plugin's own record pins that.
    """

    kind: str
    name: str
    folder: Path | None = None
    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec(_Record):
    """The record of a model that its plugin declares, without importing the model.

    ``builder`` is ``"module:Class"`` of a :class:`zoo.model.ZooModel`, resolved only when a model
    is built. ``config`` has every keyword argument of the builder with its default, and
    ``image_shape`` (C, H, W) and ``code_shape`` are those of that default config. A model that has
    no code leaves ``code_shape`` empty and declares neither encode nor decode.
    ``generate_options`` says what ``generate`` takes besides a number and a seed, by name.
    """

    name: str
    family: str
    builder: str
    summary: str
    image_shape: tuple[int, int, int]
    code_shape: tuple[int, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    capabilities: tuple[str, ...] = USUAL
    generate_options: Mapping[str, Option] = field(default_factory=dict, hash=False)
    weights: tuple[Weights, ...] = ()
    default_tag: str | None = None
    paper: str = ""
    renamed_from: tuple[str, ...] = ()
    api_version: int = API_VERSION

    def __post_init__(self) -> None:
        for name in (self.name, *self.renamed_from):
            _check(
                is_identifier(name),
                "ModelSpec.name",
                "a lower-case Python identifier such as 'conv_ae'",
                name,
            )
        where = f"ModelSpec {self.name}"
        for key in ("family", "summary"):
            value = getattr(self, key)
            _check(isinstance(value, str) and value != "", f"{where}.{key}", "a text", value)
        _check(isinstance(self.paper, str), f"{where}.paper", "a text", self.paper)
        _check(
            _is_builder(self.builder),
            f"{where}.builder",
            "'module:Class'",
            self.builder,
        )
        shaped = _is_shape(self.image_shape) and len(self.image_shape) == 3
        _check(shaped, f"{where}.image_shape", "a tuple (C, H, W)", self.image_shape)
        coded = self.code_shape == () or _is_shape(self.code_shape)
        _check(coded, f"{where}.code_shape", "a tuple, empty if there is no code", self.code_shape)
        capable = isinstance(self.capabilities, tuple) and set(self.capabilities) <= set(
            CAPABILITIES
        )
        _check(
            capable, f"{where}.capabilities", f"a tuple out of {CAPABILITIES}", self.capabilities
        )
        codes = sorted({"encode", "decode"} & set(self.capabilities))
        _check(
            self.code_shape != () or not codes,
            f"{where}.capabilities",
            "neither encode nor decode, for there is no code_shape",
            codes,
        )
        self._freeze_options(where)
        _check(
            isinstance(self.weights, tuple) and all(isinstance(w, Weights) for w in self.weights),
            f"{where}.weights",
            "a tuple of Weights records",
            self.weights,
        )
        tags = [w.tag for w in self.weights]
        _check(len(set(tags)) == len(tags), f"{where}.weights", "each tag once", tags)
        if self.default_tag is None and len(tags) == 1:
            object.__setattr__(self, "default_tag", tags[0])
        _check(
            (self.default_tag in tags) if tags else self.default_tag is None,
            f"{where}.default_tag",
            f"one of {tags}" if tags else "None, for there are no weights",
            self.default_tag,
        )
        _check(
            isinstance(self.api_version, int) and 1 <= self.api_version <= API_VERSION,
            f"{where}.api_version",
            f"a whole number from 1 to {API_VERSION} (a newer one needs a newer latentzoo)",
            self.api_version,
        )
        self._freeze_config("config")

    def _freeze_options(self, where: str) -> None:
        options = self.generate_options
        good = isinstance(options, Mapping) and all(
            is_identifier(name) and isinstance(option, Option) for name, option in options.items()
        )
        _check(good, f"{where}.generate_options", "Option records by name", options)
        taken = sorted({"n", "seed", "generator"} & set(options))
        _check(not taken, f"{where}.generate_options", "names that generate has not itself", taken)
        object.__setattr__(self, "generate_options", MappingProxyType(dict(options)))

    @classmethod
    def _revive(cls, key: str, value: Any) -> Any:
        if key == "weights":
            return tuple(Weights.from_dict(item) for item in value)
        if key == "generate_options":
            return {name: Option.from_dict(item) for name, item in value.items()}
        return super()._revive(key, value)


def is_prefix(value: object) -> bool:
    """Whether a plugin's prefix can be ``value``; a single letter would be a Windows drive."""
    slip = str(value).replace("_", "") in ("hfhub", "localdir", *RESERVED_PREFIXES)
    return is_identifier(value) and len(str(value)) > 1 and not slip


RESERVED_PREFIXES = ("dir", "file", "ftp", "hf", "hub", "http", "https", "local", "zoo")
"""Prefixes that no plugin may own: too similar to ``hf-hub:``, ``local-dir:`` or addresses."""


@dataclass(frozen=True, kw_only=True)
class Recommended(_Record):
    """A name of a prefix that is worth a try, for those who do not know the library."""

    name: str
    parameters: int
    """Of the part that makes features."""
    licence: str
    learnt: str
    """What it learnt from, and how."""
    labels: bool
    """Whether it learnt from labels that people gave."""

    def __post_init__(self) -> None:
        for key in ("name", "licence", "learnt"):
            value = getattr(self, key)
            _check(isinstance(value, str) and value != "", f"Recommended.{key}", "a text", value)
        number = type(self.parameters) is int and self.parameters > 0
        _check(number, "Recommended.parameters", "a positive whole number", self.parameters)
        _check(type(self.labels) is bool, "Recommended.labels", "true or false", self.labels)


@dataclass(frozen=True, kw_only=True)
class Prefix(_Record):
    """A prefix of names that a plugin owns: it answers for every name ``<name>:<rest>``.

    For models that are too many to be declared one by one, such as all those of another library.
    ``builder`` is ``"module:Class"`` of a :class:`zoo.model.ZooModel` with two class methods more,
    resolved only when a name with the prefix is asked for::

        from_name(rest: str, *, pretrained: bool) -> ZooModel   # load and create
        describe(rest: str) -> ModelSpec                        # info
        pull(rest: str) -> zoo.hub.Fetched                      # pull; a plugin may leave it out

    ``rest`` is the text after the colon, printable and not empty, and otherwise unchecked. When
    ``pretrained`` weights are asked for and do not exist, that is an error, never random weights.
    ``example`` is a name that works, ``capabilities`` what all models of the prefix can,
    ``recommended`` some names for a beginner, which ``zoo info <name>:`` shows.
    """

    name: str
    family: str
    builder: str
    summary: str
    example: str
    capabilities: tuple[str, ...] = USUAL
    paper: str = ""
    url: str = ""
    recommended: tuple[Recommended, ...] = ()
    api_version: int = API_VERSION

    @classmethod
    def _revive(cls, key: str, value: Any) -> Any:
        if key == "recommended":
            return tuple(Recommended.from_dict(item) for item in value)
        return super()._revive(key, value)

    def __post_init__(self) -> None:
        _check(
            is_prefix(self.name),
            "Prefix.name",
            "a lower-case Python identifier of two letters or more, and none of "
            + ", ".join(("hf_hub", "local_dir", *RESERVED_PREFIXES)),
            self.name,
        )
        where = f"Prefix {self.name}"
        for key in ("family", "summary"):
            value = getattr(self, key)
            _check(isinstance(value, str) and value != "", f"{where}.{key}", "a text", value)
        for key in ("paper", "url"):
            value = getattr(self, key)
            _check(isinstance(value, str), f"{where}.{key}", "a text", value)
        _check(_is_builder(self.builder), f"{where}.builder", "'module:Class'", self.builder)
        example = isinstance(self.example, str) and self.example.isprintable()
        _check(
            example and self.example.startswith(f"{self.name}:") and self.example[-1] != ":",
            f"{where}.example",
            f"a name that works, '{self.name}:...'",
            self.example,
        )
        capable = isinstance(self.capabilities, tuple) and set(self.capabilities) <= set(
            CAPABILITIES
        )
        _check(
            capable, f"{where}.capabilities", f"a tuple out of {CAPABILITIES}", self.capabilities
        )
        names = [isinstance(each, Recommended) and each.name for each in self.recommended]
        _check(
            all(str(name).startswith(f"{self.name}:") for name in names),
            f"{where}.recommended",
            f"a tuple of Recommended, each named '{self.name}:...'",
            self.recommended,
        )
        _check(
            type(self.api_version) is int and 1 <= self.api_version <= API_VERSION,
            f"{where}.api_version",
            f"a whole number from 1 to {API_VERSION} (a newer one needs a newer latentzoo)",
            self.api_version,
        )


def complete_config(spec: ModelSpec, config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` over the model's defaults, each key known and each value of the default's type.

    Raises:
        SettingsError: an unknown key, or a value of another type; the text lists the settings.
    """
    for key, value in config.items():
        if key not in spec.config:
            import difflib

            near = difflib.get_close_matches(str(key), spec.config, n=1)
            raise SettingsError(
                f"{spec.name} has no setting {key!r}; it has: "
                + (", ".join(f"{k}={v!r}" for k, v in spec.config.items()) or "none")
                + (f".\nDid you mean {near[0]}?" if near else "")
            )
        default = spec.config[key]
        number = isinstance(default, float) and type(value) is int
        if default is not None and type(value) is not type(default) and not number:
            raise SettingsError(
                f"{spec.name}: setting {key!r} should be of type {type(default).__name__} "
                f"like its default {default!r}, got {value!r}"
            )
    return {**spec.config, **config}


def complete_options(spec: ModelSpec | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` of ``generate`` over the model's defaults, each of them known and in range.

    Raises:
        InputError: an unknown name, or a value that the option does not take.
    """
    known = {} if spec is None else spec.generate_options
    for name, value in options.items():
        if name not in known:
            raise InputError(_unknown_option(name, known))
        if not known[name].accepts(value):
            raise InputError(f"generate: {name} should be {known[name].expected}, got {value!r}")
    return {name: options.get(name, option.default) for name, option in known.items()}


def _unknown_option(name: str, known: Mapping[str, Option]) -> str:
    import difflib

    if not known:
        return f"generate: this model takes no options besides n and seed, got {name!r}"
    close = difflib.get_close_matches(name, known, n=1)
    return f"generate: this model has no option {name!r}. " + (
        f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(known)}"
    )
