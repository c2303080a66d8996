"""A plugin for latentzoo outside its own tree: one small model, without weights."""

from zoo import ModelSpec, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models():
    return [
        ModelSpec(
            name="k_sparse_ae",
            family="autoencoder",
            builder="zoo_example.k_sparse_ae:KSparseAE",
            summary="One linear layer, of whose outputs only the largest few are the code",
            paper="Makhzani & Frey 2013, k-Sparse Autoencoders, arXiv:1312.5663",
            image_shape=(1, 28, 28),
            code_shape=(128,),
            config={"channels": 1, "size": 28, "latent_dim": 128, "active": 12},
        )
    ]
