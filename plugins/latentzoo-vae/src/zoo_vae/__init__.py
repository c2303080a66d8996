"""Variational autoencoders for latentzoo."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models():
    return [
        ModelSpec(
            name="vae",
            family="vae",
            builder="zoo_vae.vae:VAE",
            summary="Variational autoencoder 784-200-200-50 for binary images, also "
            "importance-weighted",
            paper="Kingma & Welling 2013, Auto-encoding variational Bayes, arXiv:1312.6114",
            image_shape=(1, 28, 28),
            code_shape=(50,),
            config={"channels": 1, "size": 28, "hidden": 200, "code": 50, "components": 0},
            weights=(weights := bundled_weights(__file__, "vae")),
            default_tag="mnist" if weights else None,
        ),
    ]
