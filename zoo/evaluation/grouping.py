"""Clustering: clusters of the features, found without labels and compared with the classes.

ACC is the accuracy under the best one-to-one matching of clusters and classes, NMI and ARI the
normalised mutual information and the adjusted Rand index; as everywhere in this field, on train
and test images together (Xie et al. 2016, arXiv:1511.06335, section 4).
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from zoo.evaluation.protocol import SPACES, Context, Figure, ProtocolSkipped, mean_and_spread
from zoo.optional import optional

SEEDS = 5
STARTS = 3
WIDEST = 50
NEIGHBOURS = 20
DIMENSIONS = 10

Scores = dict[str, list[float]]
"""``acc``, ``nmi`` and ``ari``, a value for each seed."""


def matched_accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Share of images whose cluster is matched with their class, by the best matching of both.

    Hungarian matching; a cluster too many is matched with no class, and all its images are wrong.
    """
    optimize = optional("scipy.optimize", "scipy", "evaluate")
    classes, a = np.unique(labels, return_inverse=True)
    groups, b = np.unique(clusters, return_inverse=True)
    counts = np.zeros((len(classes), len(groups)), np.int64)
    np.add.at(counts, (a, b), 1)
    return float(counts[optimize.linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def agreement(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """ACC, NMI (arithmetic mean of the entropies) and ARI of clusters and classes, N each."""
    metrics = optional("sklearn.metrics", "scikit-learn", "evaluate")
    return {
        "acc": matched_accuracy(labels, clusters),
        "nmi": float(metrics.normalized_mutual_info_score(labels, clusters)),
        "ari": float(metrics.adjusted_rand_score(labels, clusters)),
    }


def kmeans_clusters(features: np.ndarray, groups: int, seed: int) -> np.ndarray:
    """k-means++ of N x F, the best of three starts; N numbers of clusters."""
    cluster = optional("sklearn.cluster", "scikit-learn", "evaluate")
    fitted = cluster.KMeans(groups, n_init=STARTS, random_state=seed).fit(features)
    return np.asarray(fitted.labels_)


def narrowed(features: np.ndarray, width: int = WIDEST) -> np.ndarray:
    """The first ``width`` principal components of features that are wider, N x width float32."""
    if features.shape[1] <= width:
        return features
    decomposition = optional("sklearn.decomposition", "scikit-learn", "evaluate")
    components = min(width, *features.shape)
    return np.asarray(decomposition.PCA(components, random_state=0).fit_transform(features))


def neighbours(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest of each row of N x F, itself first: indices and distances, N x k; exact."""
    library = optional("sklearn.neighbors", "scikit-learn", "evaluate")
    search = library.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features)
    distances, indices = search.kneighbors(features)
    return indices, distances


def n2d_clusters(
    features: np.ndarray, groups: int, seed: int, graph: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """McConville et al. 2019, arXiv:1908.05968: UMAP, then a mixture of full Gaussians.

    Args:
        features: N x F.
        groups: of the mixture.
        seed: of UMAP and of the mixture.
        graph: what :func:`neighbours` gives for ``features``.
    """
    umap = optional("umap", "umap-learn", "evaluate")
    mixture = optional("sklearn.mixture", "scikit-learn", "evaluate")
    embedded = umap.UMAP(
        n_neighbors=graph[0].shape[1],
        n_components=DIMENSIONS,
        min_dist=0.0,
        random_state=seed,
        n_jobs=1,  # which a seed means
        precomputed_knn=graph,
    ).fit_transform(features)
    fitted = mixture.GaussianMixture(groups, covariance_type="full", random_state=seed)
    return np.asarray(fitted.fit_predict(embedded.astype(np.float64)))


def measure_kmeans(context: Context) -> Iterator[Figure]:
    """kmeans_acc, kmeans_nmi, kmeans_ari."""
    labels, groups = _classes(context)

    def measure(space: str) -> Scores:
        features = _features(context, space)
        return _over_seeds(
            context, labels, lambda s: kmeans_clusters(features, groups, s), f"k-means in {space}"
        )

    yield from _figures(
        context,
        "kmeans",
        *context.in_spaces("kmeans", measure, SPACES),
        f"k-means on the features, k = {groups} classes, best of {STARTS} starts",
    )


def measure_n2d(context: Context) -> Iterator[Figure]:
    """n2d_acc, n2d_nmi, n2d_ari."""
    labels, groups = _classes(context)
    if len(labels) <= NEIGHBOURS:
        raise ProtocolSkipped(
            f"it takes more than {NEIGHBOURS} images with labels, here are {len(labels)}"
        )

    def measure(space: str) -> Scores:
        features = _features(context, space)
        graph = neighbours(features, NEIGHBOURS)
        return _over_seeds(
            context, labels, lambda s: n2d_clusters(features, groups, s, graph), f"N2D in {space}"
        )

    yield from _figures(
        context,
        "n2d",
        *context.in_spaces("n2d", measure, ("pixels",)),
        f"as N2D: UMAP of the features ({DIMENSIONS} components, {NEIGHBOURS} neighbours, "
        f"min_dist 0), then {groups} full Gaussians",
    )


def _classes(context: Context) -> tuple[np.ndarray, int]:
    labels = torch.cat([context.labels(split) for split in ("train", "test")]).numpy()
    return labels, len(np.unique(labels))


def _features(context: Context, space: str) -> np.ndarray:
    parts = [context.features(space, split) for split in ("train", "test")]
    return narrowed(torch.cat(parts).numpy())


def _over_seeds(
    context: Context, labels: np.ndarray, clusters: Callable[[int], np.ndarray], what: str
) -> Scores:
    seeds = context.tracked(range(SEEDS), SEEDS, f"{what}, seeds")
    runs = [agreement(labels, clusters(context.seed + i)) for i in seeds]
    return {name: [run[name] for run in runs] for name in runs[0]}


def _figures(
    context: Context, prefix: str, scores: Scores, baselines: Mapping[str, Scores], how: str
) -> Iterator[Figure]:
    words = {
        "acc": "accuracy under the best matching of clusters and classes",
        "nmi": "normalised mutual information of clusters and classes",
        "ari": "adjusted Rand index of clusters and classes",
    }
    for name, values in scores.items():
        mean, spread = mean_and_spread(values)
        yield Figure(
            name=f"{prefix}_{name}",
            value=mean,
            spread=spread,
            baselines={space: mean_and_spread(of[name])[0] for space, of in baselines.items()},
            protocol=f"{how}; features wider than {WIDEST} numbers are first reduced to their "
            f"{WIDEST} principal components; train and test images together; {words[name]}, "
            f"mean of {SEEDS} seeds",
            samples=len(context.train) + len(context.test),
            seed=context.seed,
        )
