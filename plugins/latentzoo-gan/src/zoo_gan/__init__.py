"""Generative adversarial networks for latentzoo."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models():
    weights = bundled_weights(__file__, "dcgan")
    return [
        ModelSpec(
            name="dcgan",
            family="gan",
            builder="zoo_gan.dcgan:DCGAN",
            summary="Deep convolutional GAN with an encoder that inverts its generator",
            paper="Radford, Metz & Chintala 2015, Unsupervised representation learning with deep "
            "convolutional generative adversarial networks, arXiv:1511.06434",
            image_shape=(1, 28, 28),
            code_shape=(100,),
            config={"channels": 1, "size": 28, "latent": 100, "width": 32},
            weights=weights,
            default_tag="mnist" if weights else None,
        )
    ]
