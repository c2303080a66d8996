"""A plugin for latentzoo: a masked autoencoder, which has features and no code."""

from zoo import ModelSpec, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="mae",
            family="autoencoder",
            builder="zoo_mae.mae:MAE",
            summary="A transformer that guesses three quarters of a picture from the rest",
            paper="He, Chen, Xie, Li, Dollár & Girshick 2022, Masked autoencoders are scalable "
            "vision learners, arXiv:2111.06377",
            image_shape=(1, 28, 28),
            config={"channels": 1, "size": 28, "patch": 4, "width": 96, "depth": 3},
            capabilities=("reconstruct", "features", "score"),
        )
    ]
