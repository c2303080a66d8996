"""Checks of generated images, and of the density that they are drawn from."""

import hashlib
from collections.abc import Callable
from functools import partial

import torch

from zoo.authoring.checks.elsewhere import elsewhere
from zoo.authoring.checks.support import (
    CheckFailed,
    NotApplicable,
    expect_refused,
    expect_same,
    get_model,
    has_weights,
    line_of,
    require_calls,
)
from zoo.density import GaussianMixture
from zoo.model import ZooModel


def check_generate(name: str) -> None:
    """The same seed gives the same images; another seed, or none, gives others."""
    model = get_model(name)
    require_calls(model, "generate")
    generate: Callable[..., object] = model.generate
    first = model.generate(3, seed=5)
    assert torch.equal(first, model.generate(3, seed=5)), "the same seed, other images"
    assert not torch.equal(first, model.generate(3, seed=6)), "another seed, the same images"
    assert not torch.equal(model.generate(3), model.generate(3)), "no seed, the same images"
    for n in (0, -1, 2.0, True, "3"):
        expect_refused(partial(generate, n), "expected a positive number of images")
    for seed in (-1, 2**63, 1.5, "0"):
        expect_refused(partial(generate, 1, seed=seed), "expected a seed")
    expect_refused(partial(generate, 1, seed=5, no_such_option=1), "no_such_option")
    defaults = {key: option.default for key, option in model.record.generate_options.items()}
    same = torch.equal(first, model.generate(3, seed=5, **defaults))
    assert same, "the options' defaults, given explicitly, give other images"


def check_generate_across_processes(name: str) -> None:
    """A seed gives the same images in another process."""
    model = get_model(name)
    require_calls(model, "generate")
    images = model.generate(2, seed=11)
    here = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    expect_same(elsewhere(name)[1]["generated"], here, "sha256 of the images of seed 11, elsewhere")


def check_density(name: str) -> None:
    """A model with weights generates from a density that was fitted, unless that is its prior."""
    model = get_model(name)
    require_calls(model, "generate")
    if not has_weights(name):
        raise NotApplicable("it has no weights; check_training looks at it after training")
    if not _densities(model):
        raise NotApplicable("it has no GaussianMixture to fit")
    require_fitted(model, "in its weights")


def _densities(model: ZooModel) -> dict[str, GaussianMixture]:
    """The densities that have to be fitted, by name."""
    found = ((k, m) for k, m in model.named_modules() if isinstance(m, GaussianMixture))
    return {k: m for k, m in found if not m.prior}


def require_fitted(model: ZooModel, when: str) -> None:
    """Raises: CheckFailed: a density that has to be fitted is as it was made."""
    for key, density in _densities(model).items():
        fresh = GaussianMixture(density.means.shape[1], len(density.weights)).state_dict()
        untouched = all(torch.equal(fresh[k], t.cpu()) for k, t in density.state_dict().items())
        if untouched:
            kind = type(model)
            raise CheckFailed(
                f"{key} is the untouched standard normal distribution {when}: generate() draws "
                f"codes that have nothing to do with those of images. {kind.__name__}.fit should "
                f"call self.{key}.fit(codes, seed=seed)",
                line_of(kind.fit if kind.fit.__module__ == kind.__module__ else kind),
            )
