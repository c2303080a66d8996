"""Autoencoders for latentzoo: the shallow one and the deep one."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="ae",
            family="autoencoder",
            builder="zoo_ae.ae:AE",
            summary="Shallow autoencoder, one hidden layer and a ReLU code of 32",
            paper="Rumelhart, Hinton & Williams 1986, Learning internal representations by error "
            "propagation",
            image_shape=(1, 28, 28),
            code_shape=(32,),
            config={"channels": 1, "size": 28, "hidden": 32, "latent_dim": 32},
            weights=(weights := bundled_weights(__file__, "ae")),
            default_tag="mnist" if weights else None,
        ),
        ModelSpec(
            name="deep_ae",
            family="autoencoder",
            builder="zoo_ae.deep_ae:DeepAE",
            summary="Deep autoencoder 784-1000-500-250-30 with a loss on its hidden layers",
            paper="Hinton & Salakhutdinov 2006, Reducing the dimensionality of data with neural "
            "networks, Science 313:504",
            image_shape=(1, 28, 28),
            code_shape=(30,),
            config={
                "channels": 1,
                "size": 28,
                "hidden": [1000, 500, 250],
                "latent_dim": 30,
                "activation": "silu",
            },
            weights=(weights := bundled_weights(__file__, "deep_ae")),
            default_tag="mnist" if weights else None,
        ),
    ]
