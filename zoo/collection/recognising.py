"""A recogniser: what a person's names say of pictures that the collection does not have.

It is learnt from the named pictures' projected features, as a logistic regression whose
probabilities were calibrated on pictures that it had not learnt from. A picture is "none of these"
if it is farther from every name, for a picture of this collection, than all but a tenth of those.
How far is the distance of Mahalanobis to the mean of the name, less that to the mean of all
pictures: what is odd in every respect is near to no name, and what is ordinary need not be.

It is saved as two files, and loaded strictly: ``recogniser.safetensors`` and ``recogniser.json``.
A collection keeps the one that it learnt last in its folder ``recogniser``, with the fingerprint of
what it was learnt from, and learns another when that has changed.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import zoo
from zoo.collection.decisions import valid_name
from zoo.collection.derived import GROUPS
from zoo.collection.neighbours import Projection
from zoo.collection.store import Store
from zoo.errors import CorruptWeights, IncompatibleVersion, InputError, WeightsNotFound, ZooError
from zoo.files import path_text, refuse_placeholder, write_atomically, write_json
from zoo.installing import upgrade_command
from zoo.optional import optional

if TYPE_CHECKING:
    from zoo.collection.opened import Opened

__all__ = ["KEPT", "RECORD", "TENSORS", "Recognised", "Recogniser", "learn", "learnt"]

FORMAT = 1
RECORD = "recogniser.json"
TENSORS = "recogniser.safetensors"
KEPT = "recogniser"
"""The folder in a collection with the recogniser that was learnt of it last."""
ACCEPTED = 0.9
"""The share of pictures that have a known name, and were not learnt from, that get one."""
FOLDS = 5
BACKGROUND = 10_000
"""Pictures of the collection that names are set off against, about."""
EXAMPLES = 300
"""Pictures of each name that are learnt from, at most."""
STRENGTH = 10.0
"""How closely the regression follows its examples (C of scikit-learn's)."""
_LARGEST = 1 << 30
_MOST_NAMES = 10_000


@dataclass(frozen=True, eq=False)
class Distances:
    """How near vectors are to names: all float32.

    ``means`` of the names, C x d; ``within``, d x d, turns what is left of a picture's vector
    without its mean into one of unit variance in all directions. ``middle`` (d) and ``around``
    (d x d) are the same of all pictures of the collection, named or not.
    """

    means: np.ndarray
    within: np.ndarray
    middle: np.ndarray
    around: np.ndarray

    @classmethod
    def fit(
        cls, vectors: np.ndarray, whose: np.ndarray, names: int, background: np.ndarray
    ) -> "Distances":
        """Of named vectors; a name without any is infinitely far, or all but."""
        middle = background.mean(0)
        around = _covariance(background - middle)
        means = np.full((names, vectors.shape[1]), 1e6)
        for name in np.unique(whose):
            means[name] = vectors[whose == name].mean(0)
        left = vectors - means[whose]
        free = len(vectors) - len(np.unique(whose))
        within = _covariance(left) * (len(vectors) / free) if free else around
        return cls(
            *(
                np.asarray(a, np.float32)
                for a in (means, _whitening(within, around), middle, _whitening(around, around))
            )
        )

    def nearness(self, vectors: np.ndarray) -> np.ndarray:
        """How near each of Q vectors is to a name: the higher, the nearer."""
        to_names, from_names = vectors @ self.within, self.means @ self.within
        nearest = np.full(len(vectors), np.inf, np.float32)
        for mean in from_names:
            np.minimum(nearest, ((to_names - mean) ** 2).sum(1), out=nearest)
        near: np.ndarray = (((vectors - self.middle) @ self.around) ** 2).sum(1) - nearest
        return near


def _covariance(centred: np.ndarray) -> np.ndarray:
    """The covariance of centred vectors, drawn towards a sphere where they are few."""
    covariance = optional("sklearn.covariance", "scikit-learn", "collection")
    found: np.ndarray = covariance.ledoit_wolf(centred.astype(np.float64), assume_centered=True)[0]
    return found


def _whitening(covariance: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """What makes vectors of a covariance have unit variance; a thousandth of ``scale`` is added."""
    size = len(covariance)
    steady = covariance + np.eye(size) * (1e-3 * np.trace(scale) / size + 1e-9)
    found: np.ndarray = np.linalg.cholesky(np.linalg.inv(steady))
    return found


class Recognised(NamedTuple):
    """What a recogniser says of Q pictures.

    Attributes:
        likeliest: Q int32, positions in the recogniser's names.
        probability: Q float32, that it is this one, if it is any of them.
        nearness: Q float32: how near it is to a name, for a picture of this collection.
        none: Q bool: it is none of these.
    """

    likeliest: np.ndarray
    probability: np.ndarray
    nearness: np.ndarray
    none: np.ndarray


@dataclass(frozen=True, eq=False)
class Recogniser:
    """Names for new pictures, by the features of the model that the collection was indexed with.

    Attributes:
        names: that it can give, C of them.
        projection: how features become the vectors that are compared, of d numbers.
        coefficients: of the regression, d x C float32; ``intercepts`` C.
        distances: how near a picture is to the names.
        threshold: the least nearness of a picture that has one of the names.
        model: name, sha256 and the like, as ``collection.json`` has them.
        preprocessing: how pictures were made into the model's images, the same.
        measured: what was found on pictures that it had not learnt from.
        fingerprint: of what in a collection it was learnt from; empty elsewhere.
    """

    names: list[str]
    projection: Projection
    coefficients: np.ndarray
    intercepts: np.ndarray
    distances: "Distances"
    threshold: float
    model: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""

    def recognise(self, features: np.ndarray) -> Recognised:
        """What is in the pictures that have these features, Q x F."""
        if features.ndim != 2 or features.shape[1] != len(self.projection.mean):
            raise InputError(
                f"expected features of {len(self.projection.mean)} numbers a picture, got an array "
                f"of {' x '.join(map(str, features.shape))}: this recogniser was learnt from "
                f"features of {self.model.get('name', 'another model')}"
            )
        vectors = self.projection.apply(features)
        chances = _softmax(vectors @ self.coefficients + self.intercepts)
        nearness = self.distances.nearness(vectors)
        return Recognised(
            chances.argmax(1).astype(np.int32), chances.max(1), nearness, nearness < self.threshold
        )

    # -- on the disk -----------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the two files into ``folder``, which is made if it is not there."""
        safetensors = optional("safetensors.numpy", "safetensors", "collection")
        data = safetensors.save(
            {
                "mean": self.projection.mean.astype(np.float32),
                "components": np.ascontiguousarray(self.projection.components, np.float32),
                "roots": np.array([self.projection.roots], np.float32),
                "coefficients": np.ascontiguousarray(self.coefficients, np.float32),
                "intercepts": self.intercepts.astype(np.float32),
                **{key: np.ascontiguousarray(each) for key, each in vars(self.distances).items()},
            }
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / TENSORS, data)
        record = {
            "format": FORMAT,
            "names": self.names,
            "threshold": self.threshold,
            "roots": self.projection.roots,
            "model": self.model,
            "preprocessing": self.preprocessing,
            "measured": self.measured,
            "fingerprint": self.fingerprint,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        write_json(folder / RECORD, record)

    @classmethod
    def load(cls, folder: Path) -> "Recogniser":
        """The recogniser in ``folder``.

        Raises:
            WeightsNotFound: there is none.
            CorruptWeights: a file is damaged, or not what the other says.
            IncompatibleVersion: a newer zoo wrote it.
        """
        record = _read_record(folder / RECORD)
        tensors = _read_tensors(folder / TENSORS, record)
        _check_shapes(folder / TENSORS, tensors, len(record["names"]))
        return cls(
            names=record["names"],
            projection=Projection(
                tensors["mean"], tensors["components"], bool(tensors["roots"][0])
            ),
            coefficients=tensors["coefficients"],
            intercepts=tensors["intercepts"],
            distances=Distances(**{key: tensors[key] for key in Distances.__dataclass_fields__}),
            threshold=float(record["threshold"]),
            model=record["model"],
            preprocessing=record["preprocessing"],
            measured=record["measured"],
            fingerprint=str(record.get("fingerprint", "")),
        )


def _read_record(path: Path) -> dict[str, Any]:
    """What ``recogniser.json`` says.

    Raises: WeightsNotFound, CorruptWeights, IncompatibleVersion.
    """
    refuse_placeholder(path, CorruptWeights)
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise WeightsNotFound(
            f"{path.parent} has no {path.name}, so it is no recogniser. To learn one from the "
            "names in a collection, type: zoo recognise COLLECTION --save FOLDER"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorruptWeights(f"{path} is no JSON: {str(error)[:200]}") from None
    version = record.get("format") if isinstance(record, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise IncompatibleVersion(
            f"{path} is of format {version}, this zoo reads up to {FORMAT}. "
            f"Type: {upgrade_command()}"
        )
    if fault := _fault(record):
        raise CorruptWeights(f"{path} does not describe a recogniser: {fault}")
    found: dict[str, Any] = record
    return found


def _fault(record: Any) -> str:
    """What is wrong with what ``recogniser.json`` says; empty if nothing is."""
    kinds = {
        "format": int, "names": list, "threshold": float, "roots": bool, "model": dict,
        "preprocessing": dict, "measured": dict, "bytes": int, "sha256": str,
    }  # fmt: skip
    if not isinstance(record, dict):
        return "it is no JSON object"
    for key, kind in kinds.items():
        if not isinstance(record.get(key), kind):
            return f"{key} is missing or no {kind.__name__}"
    if not isinstance(record["model"].get("name", ""), str):
        return "the name of the model is no text"
    if not math.isfinite(record["threshold"]):
        return "threshold is not finite"
    return _fault_of_names(record["names"])


def _fault_of_names(names: list[Any]) -> str:
    if not 0 < len(names) <= _MOST_NAMES:
        return f"expected 1 to {_MOST_NAMES} names, got {len(names)}"
    try:
        good = all(isinstance(name, str) and valid_name(name) == name for name in names)
    except InputError as error:
        return str(error)
    return "" if good and len(set(names)) == len(names) else "names should be different texts"


def _read_tensors(path: Path, record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of ``recogniser.safetensors``. Raises: WeightsNotFound, CorruptWeights."""
    safetensors = optional("safetensors", "safetensors", "collection")
    numpy = optional("safetensors.numpy", "safetensors", "collection")
    refuse_placeholder(path, CorruptWeights)
    try:
        size = path.stat().st_size
        if size != record["bytes"] or size > _LARGEST:
            raise CorruptWeights(
                f"{path} has {size:,} bytes, {RECORD} says {record['bytes']:,}: it was cut off or "
                "replaced. Learn or copy it again"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise WeightsNotFound(f"{path.parent} has no {path.name}; copy both files") from None
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise CorruptWeights(f"{path} is not the file that {RECORD} describes; copy both again")
    try:
        found: dict[str, np.ndarray] = numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CorruptWeights(f"{path} is not a valid safetensors file: {error}") from None
    return found


def _check_shapes(path: Path, tensors: dict[str, np.ndarray], names: int) -> None:
    """Raises: CorruptWeights: the arrays are not those of a recogniser, or not finite."""
    components = tensors.get("components")
    width, dimensions = (
        components.shape if components is not None and components.ndim == 2 else (0, 0)
    )
    expected = {
        "mean": (width,),
        "components": (width, dimensions),
        "roots": (1,),
        "coefficients": (dimensions, names),
        "intercepts": (names,),
        "means": (names, dimensions),
        "within": (dimensions, dimensions),
        "middle": (dimensions,),
        "around": (dimensions, dimensions),
    }
    found = {name: array.shape for name, array in tensors.items() if array.dtype == np.float32}
    if found != expected or len(found) != len(tensors):
        raise CorruptWeights(
            f"{path}: expected arrays of float32 {expected}, got {str(found)[:500]}"
        )
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise CorruptWeights(f"{path}: {name} holds NaN or infinity")


# -- learning ------------------------------------------------------------------------------------


def learn(
    projection: Projection,
    features: np.ndarray,
    names: Sequence[str],
    weights: np.ndarray | None = None,
    background: np.ndarray | None = None,
    *,
    seed: int = 0,
    **more: Any,
) -> Recogniser:
    """A recogniser of the names that pictures have.

    Args:
        projection: of the collection.
        features: of the named pictures, N x F.
        names: of each.
        weights: how sure each name is, N in (0, 1]; of many pictures of a name the surest are
            learnt from.
        background: features of any pictures of the collection, M x F; the named ones by default.
        seed: of the folds of the cross-validation.
        more: ``model`` and ``preprocessing`` of the collection.

    Raises:
        InputError: nothing has a name.
    """
    if not len(names):
        raise InputError("nothing has a name yet, so there is nothing to recognise")
    known = sorted(set(names))
    weights = np.ones(len(names)) if weights is None else np.asarray(weights, np.float64)
    whose = np.searchsorted(known, np.asarray(names)).astype(np.int32)
    chosen = _surest(whose, weights)
    all_of_them = projection.apply(features if background is None else background)
    named = _Named(
        projection.apply(features[chosen]), whose[chosen], weights[chosen], len(known), all_of_them
    )
    temperature, threshold, measured = _cross_validated(named, seed)
    coefficients, intercepts = named.regression()
    return Recogniser(
        names=known,
        projection=projection,
        coefficients=coefficients / np.float32(temperature),
        intercepts=intercepts / np.float32(temperature),
        distances=named.distances(),
        threshold=threshold,
        measured=measured,
        **more,
    )


def learnt(collection: "Opened") -> Recogniser:
    """A recogniser of the names in a collection: those a person gave, and those that spread.

    It is learnt when the names or the pictures have changed since the last time, and then kept in
    the collection, where that can be written.

    Raises:
        InputError: it has none.
    """
    kept, fingerprint = collection.folder / KEPT, _fingerprint(collection)
    with contextlib.suppress(ZooError, OSError):  # none, damaged, or of a newer zoo: anew
        found = Recogniser.load(kept)
        if found.fingerprint == fingerprint:
            return found
    made = replace(_learnt(collection), fingerprint=fingerprint)
    with contextlib.suppress(ZooError, OSError), Store.writing(collection.folder, wait=0):
        made.save(kept)
    return made


def _fingerprint(collection: "Opened") -> str:
    """Of all that a recogniser is learnt from, and of the zoo that learns."""
    facts = [zoo.__version__, _portable(collection), collection.store.manifest.preprocessing]
    digest = hashlib.sha256(collection.store.fingerprint().encode())
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for path in (collection.decisions.path, collection.folder / GROUPS):
        data = path.read_bytes() if path.is_file() else b""
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def _learnt(collection: "Opened") -> Recogniser:
    naming = collection.naming
    _, first = np.unique(collection.pictures.hashes, return_index=True)
    chosen = np.sort(first[naming.named[first]])
    if not len(chosen):
        raise InputError(
            f"{collection.folder} has no names yet, so there is nothing to recognise. Type: "
            f"zoo name {collection.folder}"
        )
    rows, store = collection.pictures.rows, collection.store
    return learn(
        collection.projection,
        store.features(rows[chosen]),
        [naming.names[i] for i in naming.likeliest[chosen]],
        naming.probability[chosen],
        store.features(rows[:: max(1, len(rows) // BACKGROUND)]),
        model=_portable(collection),
        preprocessing=store.manifest.preprocessing,
    )


def _portable(collection: "Opened") -> dict[str, Any]:
    """The model, by a name that means the same wherever the recogniser is used."""
    model = dict(collection.store.manifest.model)
    if model.get("weights"):
        model["name"] = f"local-dir:{(collection.folder / model['weights']).absolute()}"
    return {key: path_text(v) if isinstance(v, str) else v for key, v in model.items()}


def _surest(whose: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """At most :data:`EXAMPLES` rows of each name, those with the most weight, in their order."""
    order = np.lexsort((np.arange(len(whose)), -weights, whose))
    ordered = whose[order]
    rank = np.arange(len(whose)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < EXAMPLES])


@dataclass(frozen=True, eq=False)
class _Named:
    """Unit vectors N x d, the positions of their names, weights, and what is around them."""

    vectors: np.ndarray
    whose: np.ndarray
    weights: np.ndarray
    names: int
    background: np.ndarray

    def without(self, out: np.ndarray) -> "_Named":
        kept = ~out
        return replace(
            self, vectors=self.vectors[kept], whose=self.whose[kept], weights=self.weights[kept]
        )

    def distances(self) -> Distances:
        return Distances.fit(self.vectors, self.whose, self.names, self.background)

    def regression(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients d x C and intercepts C; a name without an example is never likely."""
        linear = optional("sklearn.linear_model", "scikit-learn", "collection")
        present = np.unique(self.whose)
        coefficients = np.zeros((self.vectors.shape[1], self.names), np.float32)
        intercepts = np.full(self.names, -50, np.float32)
        if len(present) == 1:
            intercepts[present] = 0
            return coefficients, intercepts
        fitted = linear.LogisticRegression(C=STRENGTH, max_iter=300)
        fitted.fit(self.vectors, self.whose, self.weights)
        slopes, offsets = fitted.coef_, fitted.intercept_
        if len(present) == 2:  # of which scikit-learn has only the difference
            slopes = np.concatenate([-slopes, slopes]) / 2
            offsets = np.concatenate([-offsets, offsets]) / 2
        coefficients[:, present], intercepts[present] = slopes.T, offsets
        return coefficients, intercepts


def _cross_validated(named: _Named, seed: int) -> tuple[float, float, dict[str, float]]:
    """Temperature and threshold, from pictures that were not learnt from, and what was measured."""
    fold = _folds(named.whose, seed)
    held = fold >= 0
    if not held.any():  # one picture of each name: nothing to measure with
        nearness = named.distances().nearness(named.background)
        return 1.0, float(np.median(nearness)), {}
    logits = np.zeros((len(fold), named.names), np.float32)
    nearness = np.zeros(len(fold), np.float32)
    for number in np.unique(fold[held]):
        out = fold == number
        rest = named.without(out)
        slopes, offsets = rest.regression()
        logits[out] = named.vectors[out] @ slopes + offsets
        nearness[out] = rest.distances().nearness(named.vectors[out])
    logits, true = logits[held], named.whose[held]
    temperature = _temperature(logits, true)
    threshold = float(np.quantile(nearness[held], 1 - ACCEPTED))
    return (
        temperature,
        threshold,
        {
            "pictures": float(held.sum()),
            "accuracy": float((logits.argmax(1) == true).mean()),
            "accepted": float((nearness[held] >= threshold).mean()),
            "probability": float(_softmax(logits / temperature).max(1).mean()),
        },
    )


def _folds(whose: np.ndarray, seed: int) -> np.ndarray:
    """A fold for each picture, every name dealt out in turn; -1 for the only one of its name."""
    rng = np.random.default_rng(seed)
    fold = np.full(len(whose), -1)
    for name in np.unique(whose):
        rows = rng.permutation(np.flatnonzero(whose == name))
        if len(rows) > 1:
            fold[rows] = (np.arange(len(rows)) + rng.integers(FOLDS)) % FOLDS
    return fold


def _temperature(logits: np.ndarray, true: np.ndarray) -> float:
    """By what to divide the logits, so that the probabilities are right as often as they say."""
    tried = np.geomspace(0.05, 20, 121)
    rows = np.arange(len(true))
    losses = [-np.log(_softmax(logits / t)[rows, true] + 1e-12).mean() for t in tried]
    return float(tried[int(np.argmin(losses))])


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    chances: np.ndarray = raised / raised.sum(1, keepdims=True)
    return chances
