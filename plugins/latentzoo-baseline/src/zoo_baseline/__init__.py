"""Baselines for latentzoo: what a model has to beat to show anything."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models():
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
            config={"channels": 1, "size": 28, "code": 30},
            weights=(weights := bundled_weights(__file__, "pca")),
            default_tag="mnist" if weights else None,
        ),
    ]
