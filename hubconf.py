"""torch.hub entry points: one for each model of this tree.

>>> torch.hub.load("OWNER/latentzoo", "dcgan", pretrained="fashion_mnist")

``pretrained`` is True (the default weights), False (untrained) or a tag; for an untrained model
further keywords go over its config. Neither the zoo nor its plugins need to be installed: those in
this tree are used. Nothing but the standard library is imported before an entry point is called.
"""

# Modules, not names out of them: torch.hub takes every callable here for an entry point.
import importlib
import pathlib
import sys

dependencies = ["torch", "safetensors", "pluggy", "numpy", "PIL"]

_TREE = pathlib.Path(__file__).resolve().parent


def ae(pretrained=True, **config):
    """Shallow autoencoder, one hidden layer and a ReLU code of 32.

    Tags: mnist (default), fashion_mnist. Images are N x 1 x 28 x 28 float32 in [0, 1].
    """
    return _model("ae", pretrained, config)


def conv_ae(pretrained=True, **config):
    """Convolutional autoencoder for pictures of 8 to 256 pixels, grey or colour.

    Tags: fashion_mnist (default), mnist, cifar10.
    Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("conv_ae", pretrained, config)


def denoising_ae(pretrained=True, **config):
    """Convolutional autoencoder that repairs noise and missing pixels.

    Tags: fashion_mnist (default), cifar10. Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("denoising_ae", pretrained, config)


def timm_ae(pretrained=False, **config):
    """Autoencoder around any backbone of timm, which must be installed.

    No weights. Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("timm_ae", pretrained, config)


def deep_ae(pretrained=True, **config):
    """Deep autoencoder 784-1000-500-250-30 (Hinton & Salakhutdinov 2006).

    Tags: mnist (default), fashion_mnist, olivetti. Images are N x 1 x 28 x 28 (olivetti:
    64 x 64) float32 in [0, 1].
    """
    return _model("deep_ae", pretrained, config)


def dcgan(pretrained=True, **config):
    """Deep convolutional GAN (Radford et al. 2015) with an encoder that inverts its generator.

    Tags: mnist (default), fashion_mnist, cifar10, mnist_conditional.
    Images are N x 1 x 28 x 28 float32 in [0, 1].
    """
    return _model("dcgan", pretrained, config)


def gan(pretrained=True, **config):
    """The first GAN, fully connected (Goodfellow et al. 2014), with an encoder that inverts it.

    Tags: mnist (default). Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("gan", pretrained, config)


def bigan(pretrained=True, **config):
    """A GAN whose encoder is learnt in the game (Donahue et al. 2017).

    Tags: mnist (default). Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("bigan", pretrained, config)


def stacked_gan(pretrained=True, **config):
    """A stack of GANs that invert the levels of an encoder (Huang et al. 2017), without labels.

    Tags: mnist (default). Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("stacked_gan", pretrained, config)


def pca(pretrained=True, **config):
    """Principal component analysis, 30 components: the yardstick for all the others.

    Tags: mnist (default), fashion_mnist. Images are N x 1 x 28 x 28 float32 in [0, 1].
    """
    return _model("pca", pretrained, config)


def patch_kmeans(pretrained=True, **config):
    """One layer of k-means on patches (Coates, Lee & Ng 2011): features without a network.

    Tags: cifar10 (default), fashion_mnist.
    Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("patch_kmeans", pretrained, config)


def simclr(pretrained=True, **config):
    """Features from comparing two views of a picture with all others (Chen et al. 2020).

    Tags: fashion_mnist (default), mnist, cifar10.
    Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("simclr", pretrained, config)


def vicreg(pretrained=False, **config):
    """Features from comparing two views of a picture, without others (Bardes et al. 2022).

    No weights yet. Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("vicreg", pretrained, config)


def vae(pretrained=True, **config):
    """Variational autoencoder 784-200-200-50 for binary images (Kingma & Welling 2013).

    Tags: mnist (default), mnist_iwae5. Images are N x 1 x 28 x 28 float32 in [0, 1].
    """
    return _model("vae", pretrained, config)


def conv_vae(pretrained=True, **config):
    """Convolutional variational autoencoder for pictures of 8 to 256 pixels, grey or colour.

    Tags: fashion_mnist (default), cifar10. Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("conv_vae", pretrained, config)


def vq_vae(pretrained=True, **config):
    """Autoencoder with discrete codes and a prior that writes them (van den Oord et al. 2017).

    Tags: cifar10 (default). Images are N x channels x size x size float32 in [0, 1].
    """
    return _model("vq_vae", pretrained, config)


def _model(name, pretrained, config):
    zoo = _zoo()
    if pretrained is False:
        return zoo.create(name, **config)
    if config:
        raise TypeError(
            f"{name}: {', '.join(config)} would change the network, which trained weights do not "
            "allow; for an untrained one add pretrained=False"
        )
    if pretrained is not True and not isinstance(pretrained, str):
        raise TypeError(f"{name}: pretrained should be True, False or a tag, got {pretrained!r}")
    return zoo.load(name if pretrained is True else f"{name}.{pretrained}")


def _zoo():
    """The zoo, with the plugins of this tree; whatever else is called ``zoo`` is refused."""
    if str(_TREE) not in sys.path:
        sys.path.insert(0, str(_TREE))
    zoo = importlib.import_module("zoo")
    if getattr(zoo, "__distribution__", None) != "latentzoo":
        raise ImportError(
            "latentzoo needs the module name 'zoo', but another module of that name was imported "
            f"before: {getattr(zoo, '__file__', None) or list(getattr(zoo, '__path__', '?'))}. "
            "Rename it, or load the model in a process that does not import it."
        )
    importlib.import_module("zoo.registry").add_tree(_TREE)
    return zoo
