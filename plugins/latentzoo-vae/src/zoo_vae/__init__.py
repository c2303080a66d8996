"""Variational autoencoders for latentzoo."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models() -> list[ModelSpec]:
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
            config={"channels": 1, "size": 28, "hidden": 200, "latent_dim": 50, "components": 0},
            weights=(weights := bundled_weights(__file__, "vae")),
            default_tag="mnist" if weights else None,
        ),
        ModelSpec(
            name="conv_vae",
            family="vae",
            builder="zoo_vae.conv_vae:ConvVAE",
            summary="Convolutional variational autoencoder for pictures of 8 to 256 pixels, grey "
            "or colour",
            paper="Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed & Lerchner 2017, "
            "beta-VAE: learning basic visual concepts with a constrained variational framework, "
            "ICLR",
            image_shape=(1, 28, 28),
            code_shape=(32,),
            config={"channels": 1, "size": 28, "width": 32, "latent_dim": 32, "components": 20},
            weights=(weights := bundled_weights(__file__, "conv_vae")),
            default_tag="fashion_mnist" if weights else None,
        ),
        ModelSpec(
            name="vq_vae",
            family="vae",
            builder="zoo_vae.vq_vae:VQVAE",
            summary="Autoencoder with discrete codes and a prior that writes them, grey or colour",
            paper="van den Oord, Vinyals & Kavukcuoglu 2017, Neural discrete representation "
            "learning, arXiv:1711.00937",
            image_shape=(3, 32, 32),
            code_shape=(64, 8, 8),
            config={
                "channels": 3,
                "size": 32,
                "width": 128,
                "blocks": 2,
                "halvings": 2,
                "codebook_size": 512,
                "latent_dim": 64,
                "prior_width": 128,
                "prior_depth": 4,
            },
            weights=(weights := bundled_weights(__file__, "vq_vae")),
            default_tag="cifar10" if weights else None,
        ),
    ]
