"""Baselines for latentzoo, which a good model has to surpass."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models() -> list[ModelSpec]:
    pca, patch_kmeans = (bundled_weights(__file__, name) for name in ("pca", "patch_kmeans"))
    return [
        ModelSpec(
            name="pca",
            family="baseline",
            builder="zoo_baseline.pca:PCA",
            summary="Principal component analysis with 30 components, the yardstick of the zoo",
            paper="Pearson 1901, On lines and planes of closest fit to systems of points in "
            "space, Philosophical Magazine 2(11):559-572",
            image_shape=(1, 28, 28),
            code_shape=(30,),
            config={"channels": 1, "size": 28, "latent_dim": 30},
            weights=pca,
            default_tag="mnist" if pca else None,
        ),
        ModelSpec(
            name="patch_kmeans",
            family="baseline",
            builder="zoo_baseline.patch_kmeans:PatchKMeans",
            summary="One layer of k-means on patches: what features cost that no network learnt",
            paper="Coates, Lee & Ng 2011, An analysis of single-layer networks in unsupervised "
            "feature learning, AISTATS, PMLR 15:215-223",
            image_shape=(1, 28, 28),
            code_shape=(150, 6, 6),
            config={"channels": 1, "size": 28, "patch": 6, "centroids": 150, "grid": 6},
            capabilities=("encode", "features", "score"),
            weights=patch_kmeans,
            default_tag="cifar10" if patch_kmeans else None,
        ),
    ]
