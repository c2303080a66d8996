"""The classes of a protocol, of the context it is run in, and of the figures it yields.

A protocol's module has pure functions on tensors first, and a ``measure(context)`` that applies
them and yields one :class:`Figure` for each number. Nothing here imports torch before a protocol
runs, so that the command line can list them.
"""

import hashlib
import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import DataError
from zoo.optional import optional

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Dataset
    from zoo.model import ZooModel

SPACES = ("pixels", "pca", "untrained")
"""The spaces whose figures are the baselines of a protocol that measures features."""

PCA_COMPONENTS = 64

BATCH = 500
"""The most images that are given to a model at once."""

T = TypeVar("T")

Tracked = Callable[[Iterable[T], int, str], Iterable[T]]
"""``tracked(items, total, what)`` yields ``items``, and reports how many of them are done."""


def _remembered(values: dict[Any, Any], key: object, compute: Callable[[], T]) -> T:
    if key not in values:
        values[key] = compute()
    value: T = values[key]
    return value


def untracked(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """A :data:`Tracked` that reports nothing."""
    return items


class ProtocolSkipped(Exception):
    """A protocol that cannot be run here; its text is the reason, and the others go on."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number, before it becomes a :class:`zoo.spec.Metric`."""

    name: str
    value: float
    protocol: str
    """All that somebody needs to measure it again, in words."""
    samples: int
    """How many images it was measured on."""
    seed: int | None = None
    """None for a figure without randomness."""
    spread: float | None = None
    """Standard deviation over seeds or draws."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """The same measure of what has learnt nothing of images: ``pixels``, ``pca``, ``untrained``,
    ``mean_image``, ``corrupted``, ``train_set``."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way to measure a model."""

    name: str
    summary: str
    measure: str
    """``"module:function"`` of a ``Callable[[Context], Iterator[Figure]]``; that raises
    :class:`ProtocolSkipped` where the model has no such figure."""
    gives: tuple[str, ...]
    """The names of its figures, shell-style: ``"repair_*"``."""
    needs: tuple[str, ...] = ()
    """Capabilities of the model."""
    labels: bool = False
    """Whether the data must have labels; images that have none take no part then."""
    keeps_unlabelled: bool = False
    """Whether images without labels take part too, since only some of its figures need labels."""
    predicts: bool = False
    """Whether it learns classes on train and predicts them on test: some have to be in both."""
    standard: bool = True
    """Whether it runs when the user names no protocol."""
    libraries: tuple[str, ...] = ()
    """The modules that it imports beside torch and numpy, each without a dot."""
    baseline_libraries: tuple[str, ...] = ()
    """Those that only its baselines import."""
    samples: bool = False
    """Whether it generates as many images as the user asks for."""
    own_samples: int | None = None
    """How many images its figures are measured on when the user does not choose."""
    in_a_space: bool = False
    """Whether its figures are of a space that the user chooses, which the end of their names says:
    ``frechet_in_pca``. Those in other spaces stay beside them."""

    def has_given(self, metric: str) -> bool:
        """Whether the figure of this name is one of this protocol."""
        return any(fnmatchcase(metric, pattern) for pattern in self.gives)

    def run(self, context: "Context") -> "Iterator[Figure]":
        """The figures. Raises: ProtocolSkipped, and what libraries that are absent raise."""
        module, _, function = self.measure.partition(":")
        whole = self.keeps_unlabelled or not self.labels
        measure: Callable[[Context], Iterator[Figure]] = getattr(
            importlib.import_module(module), function
        )
        return measure(context if whole else context.labelled)


@dataclass
class Context:
    """A model beside the data that it is measured on; what is costly is computed once."""

    model: "ZooModel"
    name: str
    train: "Dataset"
    test: "Dataset"
    seed: int = 0
    with_baselines: bool = True
    """Whether baselines are measured too, which takes most of the time."""
    samples: int | None = None
    """How many images are generated, where the user says so."""
    space: "Space | None" = None
    """Where generated images are compared with others, where the user says so."""
    named: frozenset[str] = frozenset()
    """The protocols that the user named."""
    advance: Callable[[str, float, float], None] = lambda what, done, total: None
    """Called with what is going on, how much of it is done, and how much there is."""
    _features: dict[tuple[str, str], "Tensor"] = field(default_factory=dict, repr=False)
    _found: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    @cached_property
    def untrained(self) -> "ZooModel":
        """The same network with the same config and new initial weights."""
        from zoo.api import create
        from zoo.isolation import isolated
        from zoo.registry import builder

        with isolated(self.seed):
            if hasattr(type(self.model), "from_name"):  # it stands behind a plugin's prefix
                model = create(self.model.name)
            else:
                model = builder(self.model.record)(**self.model.config)
        model.spec, model.config = self.model.spec, self.model.config
        model.name = f"{model.record.name} (untrained)"
        return model.eval().to(self.model.device)

    def data(self, split: str) -> "Dataset":
        """The ``"train"`` or ``"test"`` part."""
        return {"train": self.train, "test": self.test}[split]

    @cached_property
    def labelled(self) -> "Context":
        """The same without the images that have no label; itself if all have one, or none."""
        if not (self.train.unlabelled or self.test.unlabelled):
            return self
        train, test = self.train.labelled(), self.test.labelled()
        return replace(self, train=train, test=test, _features={}, _found={})

    def tracked(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """``items``, while :attr:`advance` is called with how many of ``total`` are done."""
        self.advance(what, 0, total)
        for done, item in enumerate(items, 1):
            yield item
            self.advance(what, done, total)

    def batches(self, split: str, what: str) -> "Iterator[Tensor]":
        """All images of a part, in batches, :meth:`tracked`."""
        data = self.data(split)
        return self.tracked(data.batches(BATCH), math.ceil(len(data) / BATCH), f"{what}, {split}")

    def labels(self, split: str) -> "Tensor":
        """The labels of a part, N whole numbers from 0: of a context that is :attr:`labelled`.

        Raises:
            DataError: the data have none, or some images have none.
        """
        data = self.data(split)
        if data.labels is None or data.unlabelled:
            raise DataError(
                "\n".join([f"{data.name} has no labels, which this protocol needs", *data.notes])
                if data.labels is None
                else f"{data.unlabelled:,} images of {data.name} have no label: they are not of a "
                "class, and a protocol that needs labels takes Context.labelled"
            )
        return data.labels

    def features(self, space: str, split: str) -> "Tensor":
        """All images of a part as N x F float32 on the CPU, computed on first use.

        Args:
            space: ``"model"``, ``"untrained"`` (the same network), ``"pixels"``, or ``"pca"``:
                their first 64 principal components, fitted on the train part.
            split: ``"train"`` or ``"test"``.
        """
        if (space, split) not in self._features:
            if space == "pca":
                self._features |= self.of_data("pca features", self._pca)
            else:
                call = self.encoder(space)
                batches = self.batches(split, f"features of {space}")
                self._features[space, split] = _rows(map(call, batches))
        return self._features[space, split]

    def encoder(self, space: str) -> Callable[["Tensor"], "Tensor"]:
        """The function from N x C x H x W images to N x F features in ``space``, on the CPU."""
        if space == "pixels":
            return lambda images: images.flatten(1)
        if space == "pca":
            reduce = self.pca(PCA_COMPONENTS).transform
            return lambda images: _float32(reduce(images.flatten(1).numpy()))
        model = self.untrained if space == "untrained" else self.model
        return lambda images: model.features(images).cpu()

    def pca(self, components: int) -> Any:
        """scikit-learn's PCA of that many components (or as many as there are), fitted on train."""

        def fit() -> Any:
            decomposition = optional("sklearn.decomposition", "scikit-learn", "evaluate")
            pixels = self.features("pixels", "train").numpy()
            most = min(components, *pixels.shape)
            # random_state is for data of more than 1,000 pixels, where PCA may be randomised.
            return decomposition.PCA(most, random_state=0).fit(pixels)

        return self.of_data(("pca", components), fit)

    def in_spaces(
        self, protocol: str, measure: Callable[[str], T], spaces: tuple[str, ...] = SPACES
    ) -> tuple[T, dict[str, T]]:
        """``measure("model")``, and the same for each space of the baselines, each done once."""
        chosen = ("model", *(spaces if self.with_baselines else ()))
        each = self.tracked(chosen, len(chosen), protocol)
        values = {space: self.once(space, protocol, partial(measure, space)) for space in each}
        return values.pop("model"), values

    def once(self, space: str, key: str, compute: Callable[[], T]) -> T:
        """``compute()``, or what it gave before for this space.

        What pixels and their PCA give is the same for all models, and remembered by the process.
        """
        if space in ("pixels", "pca"):
            return self.of_data((key, space), compute)
        return _remembered(self._found, (key, space), compute)

    def of_data(self, key: object, compute: Callable[[], T]) -> T:
        """``compute()``, or what it gave before in this process for these data and this seed."""
        return _remembered(_OF_DATA, (self._fingerprint, self.seed, key), compute)

    def _pca(self) -> "dict[tuple[str, str], Tensor]":
        call = self.encoder("pca")
        return {
            ("pca", split): _rows(map(call, self.batches(split, "features of pca")))
            for split in ("train", "test")
        }

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for data in (self.train, self.test):
            digest.update(repr((data.name, data.split, len(data))).encode())
            for images in data.batches():
                digest.update((images * 255).round().byte().numpy().tobytes())
            if data.labels is not None:
                digest.update(data.labels.numpy().tobytes())
        return digest.hexdigest()


_OF_DATA: dict[object, Any] = {}


@dataclass(frozen=True)
class Space:
    """Where images are compared: ``pixels``, ``pca``, or the features of a model."""

    name: str
    """The end of the names of its figures; never a path."""
    model: "ZooModel | None" = None


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Mean and (population) standard deviation of the values over seeds or draws."""
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5


def _rows(parts: "Iterator[Tensor]") -> "Tensor":
    import torch

    return torch.cat(list(parts))


def _float32(array: Any) -> "Tensor":
    import torch

    return torch.from_numpy(array).float()
