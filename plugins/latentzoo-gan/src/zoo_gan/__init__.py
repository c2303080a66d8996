"""Generative adversarial networks for latentzoo."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models() -> list[ModelSpec]:
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
            config={
                "channels": 1,
                "size": 28,
                "latent_dim": 100,
                "width": 32,
                "norm": "batch",
                "classes": 0,
            },
            weights=(weights := bundled_weights(__file__, "dcgan")),
            default_tag="mnist" if weights else None,
        ),
        ModelSpec(
            name="gan",
            family="gan",
            builder="zoo_gan.gan:GAN",
            summary="The first GAN, fully connected, with an encoder that inverts its generator",
            paper="Goodfellow et al. 2014, Generative adversarial nets, arXiv:1406.2661",
            image_shape=(1, 28, 28),
            code_shape=(100,),
            config={
                "channels": 1,
                "size": 28,
                "latent_dim": 100,
                "hidden": 1200,
                "units": 240,
                "pieces": 5,
                "encoder_hidden": 512,
            },
            weights=(weights := bundled_weights(__file__, "gan")),
            default_tag="mnist" if weights else None,
        ),
        ModelSpec(
            name="bigan",
            family="gan",
            builder="zoo_gan.bigan:BiGAN",
            summary="A GAN whose encoder is learnt in the game: its discriminator judges pairs",
            paper="Donahue, Krähenbühl & Darrell 2017, Adversarial feature learning, "
            "arXiv:1605.09782",
            image_shape=(1, 28, 28),
            code_shape=(50,),
            config={"channels": 1, "size": 28, "latent_dim": 50, "hidden": 1024},
            weights=(weights := bundled_weights(__file__, "bigan")),
            default_tag="mnist" if weights else None,
        ),
        ModelSpec(
            name="stacked_gan",
            family="gan",
            builder="zoo_gan.stacked_gan:StackedGAN",
            summary="A stack of GANs that invert the levels of an encoder learnt without labels",
            paper="Huang, Li, Poursaeed, Hopcroft & Belongie 2017, Stacked generative adversarial "
            "networks, arXiv:1612.04357",
            image_shape=(1, 28, 28),
            code_shape=(48,),
            config={
                "channels": 1,
                "size": 28,
                "width": 32,
                "hidden": 128,
                "latent_dim": 16,
                "noise": 16,
            },
            weights=(weights := bundled_weights(__file__, "stacked_gan")),
            default_tag="mnist" if weights else None,
        ),
    ]
