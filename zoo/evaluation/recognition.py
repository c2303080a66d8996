"""How well frozen features can be classified: linear probe, nearest neighbours, few labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.evaluation.protocol import Context, Figure, Tracked, mean_and_spread, untracked
from zoo.optional import optional

WIDE = 1000
"""With more features than this scikit-learn's solver takes many minutes for a whole data set."""

LABELS, DRAWS = 10, 10
"""Labels of each class, and how often they are drawn, for ``few10``."""


@dataclass(frozen=True)
class Linear:
    """A fitted linear classifier of features as they are: the standardisation is inside."""

    weight: Tensor  # K x F
    bias: Tensor  # K
    classes: Tensor  # K

    def predict(self, features: Tensor) -> Tensor:
        """The most likely class of each row of ``features`` (N x F), N."""
        return self.classes[(features @ self.weight.T + self.bias).argmax(1)]

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of ``features`` (N x F) that are given their label."""
        return float((self.predict(features) == labels).double().mean())


def fit_linear(
    features: Tensor, labels: Tensor, standard: tuple[Tensor, Tensor] | None = None
) -> Linear:
    """Multinomial logistic regression, C = 1, on standardised features.

    Args:
        features: N x F.
        labels: N.
        standard: what :func:`standardisation` gives; by default that of ``features``.

    Raises:
        MissingDependency: scikit-learn is not installed.
    """
    mean, scale = standard or standardisation(features)
    classes, targets = labels.unique(return_inverse=True)
    # Few rows fit scikit-learn's solver however wide they are.
    solve = _solve_wide if min(features.shape) > WIDE else _solve
    weight, bias = solve(features, targets, mean, scale)
    weight = weight / scale
    return Linear(weight.float(), (bias - weight @ mean).float(), classes)


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each column of N x F, in double; 1 for a column that is constant."""
    parts = features.split(4096)  # a double copy of all would take gigabytes
    mean = sum(part.double().sum(0) for part in parts) / len(features)
    squares = sum((part.double() - mean).square().sum(0) for part in parts)
    scale = (squares / len(features)).sqrt()
    # Rounding gives a constant column a deviation of its own, which must not be blown up.
    constant = scale <= 1e-6 * (1e-6 + mean.abs())
    return mean, scale.masked_fill(constant, 1.0)


def _solve(features: Tensor, targets: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """scikit-learn's solution, in standardised features: K x F and K, double."""
    linear = optional("sklearn.linear_model", "scikit-learn", "evaluate")
    standard = ((features - mean.float()) / scale.float()).numpy()
    # Pixels are nearly collinear: the accuracy converges long before the weights,
    # of which scikit-learn then warns.
    # At scikit-learn's own tolerance rounding decides where it stops: of 30 numbers of clothes
    # accuracies were from .8132 to .8141; at a tenth of it .8131 and .8132.
    fitted = linear.LogisticRegression(C=1.0, tol=1e-5, max_iter=500)
    fitted.fit(standard, targets.numpy())
    weight, bias = torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)
    if len(weight) == 1:  # two classes: scikit-learn keeps one row, the difference
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight.double(), bias.double()


def _solve_wide(
    features: Tensor, targets: Tensor, mean: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """The same minimum by scipy's L-BFGS, with torch's products and no copy of ``features``."""
    optimize = optional("scipy.optimize", "scipy", "evaluate")
    (n, width), classes = features.shape, int(targets.max()) + 1
    truth = torch.nn.functional.one_hot(targets, classes).float()  # N x K

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean loss plus |weight|^2 / 2N, and its gradient, at a flat K x (F + 1) in double."""
        weight, bias = torch.from_numpy(flat).reshape(classes, width + 1).split([width, 1], 1)
        raw = weight / scale
        logits = torch.addmm((bias[:, 0] - raw @ mean).float(), features, raw.T.float())
        loss = torch.nn.functional.cross_entropy(logits, targets).double()
        residual = (logits.softmax(1) - truth) / n  # N x K
        slope = residual.sum(0, dtype=torch.float64)[:, None]  # K x 1
        down = ((residual.T @ features).double() - slope * mean) / scale + weight / n
        value = float(loss) + float(weight.square().sum()) / (2 * n)
        return value, torch.cat([down, slope], 1).flatten().numpy()

    start = torch.zeros(classes * (width + 1), dtype=torch.float64).numpy()
    # The tolerance is scikit-learn's.
    found = optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-4}
    )
    solution = torch.from_numpy(found.x).reshape(classes, width + 1)
    return solution[:, :width], solution[:, width]


def neighbours(
    references: Tensor,
    queries: Tensor,
    k: int,
    *,
    batch: int = 500,
    tracked: Tracked[Tensor] = untracked,
) -> Tensor:
    """The ``k`` nearest of ``references`` (N x F) to each of ``queries`` (M x F), M x k.

    Euclidean and exact, the nearest first.
    """
    # Distances stay the same, and lose fewer digits to a mean that is far from zero.
    mean = references.mean(0)
    references = references - mean
    norms = references.square().sum(1)  # N
    found = []
    parts = queries.split(batch)
    for part in tracked(parts, len(parts), "nearest neighbours"):
        # |q - r|^2 without |q|^2, which is the same for all r
        distances = torch.addmm(norms, part - mean, references.T, alpha=-2)
        found.append(distances.topk(k, largest=False).indices)
    return torch.cat(found)


def vote(labels: Tensor) -> Tensor:
    """The most frequent label of each row of M x k, nearest first; ties go to the nearest."""
    votes = (labels[:, :, None] == labels[:, None, :]).sum(2)  # M x k: how many share the label
    return labels.gather(1, votes.argmax(1, keepdim=True))[:, 0]


def few(labels: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """Indices of ``per_class`` images of each class (or all it has), drawn at random."""
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[:per_class]])
    return torch.cat(chosen)


# -- applied to a model ------------------------------------------------------------------------


def probe(context: Context, space: str) -> Linear:
    """The classifier fitted to all training features of ``space``; fitted once."""
    return context.once(
        space,
        "probe",
        lambda: fit_linear(context.features(space, "train"), context.labels("train")),
    )


def measure_probe(context: Context) -> Iterator[Figure]:
    """``probe``: accuracy on the test part of the classifier fitted to the train part."""

    def accuracy(space: str) -> float:
        features = context.features(space, "test")
        return probe(context, space).accuracy(features, context.labels("test"))

    value, baselines = context.in_spaces("probe accuracy", accuracy)
    yield Figure(
        name="probe",
        value=value,
        protocol=f"test accuracy of multinomial logistic regression (C = 1) on the standardised "
        f"features of all {len(context.train):,} train images",
        samples=len(context.test),
        baselines=baselines,
    )


def measure_neighbours(context: Context) -> Iterator[Figure]:
    """``knn1`` and ``knn20``: accuracy of the nearest neighbours' vote."""
    labels, answers = context.labels("train"), context.labels("test")
    most = min(20, len(labels))

    def accuracies(space: str) -> dict[int, float]:
        nearest = neighbours(
            context.features(space, "train"), context.features(space, "test"), most,
            tracked=context.tracked,
        )  # fmt: skip
        right = {k: vote(labels[nearest[:, :k]]) == answers for k in (1, most)}
        return {k: float(hits.double().mean()) for k, hits in right.items()}

    found, baselines = context.in_spaces("knn", accuracies)
    for name, k in (("knn1", 1), ("knn20", most)):
        yield Figure(
            name=name,
            value=found[k],
            protocol=f"test accuracy of {k}-NN, Euclidean"
            + (", majority vote, ties to the nearest" if k > 1 else "")
            + f", on features of all {len(labels):,} train images",
            samples=len(answers),
            baselines={space: baseline[k] for space, baseline in baselines.items()},
        )


def measure_few(context: Context) -> Iterator[Figure]:
    """``few10``: the probe fitted to ten labels a class, mean and spread of ten draws."""
    labels, answers = context.labels("train"), context.labels("test")

    def accuracies(space: str) -> list[float]:
        train, test = context.features(space, "train"), context.features(space, "test")
        standard = standardisation(train)
        generator = torch.Generator().manual_seed(context.seed)
        found = []
        for _ in context.tracked(range(DRAWS), DRAWS, f"few, draws in {space}"):
            drawn = few(labels, LABELS, generator)
            classifier = fit_linear(train[drawn], labels[drawn], standard)
            found.append(classifier.accuracy(test, answers))
        return found

    found, baselines = context.in_spaces("few", accuracies)
    mean, spread = mean_and_spread(found)
    yield Figure(
        name="few10",
        value=mean,
        protocol=f"test accuracy of logistic regression (C = 1) on the features of {LABELS} train "
        f"images a class, standardised on all of them; mean of {DRAWS} draws",
        samples=len(answers),
        seed=context.seed,
        spread=spread,
        baselines={space: mean_and_spread(baseline)[0] for space, baseline in baselines.items()},
    )
