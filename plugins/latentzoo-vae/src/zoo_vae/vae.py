"""The variational autoencoder: Kingma & Welling 2013, "Auto-encoding variational Bayes",
arXiv:1312.6114, with the net and the importance-weighted bound of Burda, Grosse & Salakhutdinov
2015, "Importance weighted autoencoders", arXiv:1509.00519.

One stochastic layer of 50 between two tanh layers of 200 either way (Burda, section 5 and figure
2). Pixels are Bernoulli: each step draws the binary images anew, with the grey values as
probabilities (section 5, "stochastic binarization"); outside images stay in [0, 1].

The recipe's ``samples`` is k. With ``iwae`` the loss is the k-sample bound (equation 8), without
it the mean of k bounds of one sample each, which is Kingma & Welling's with L = k (equation 7).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SettingsError
from zoo.model import AutoencoderRecipe, Phase, Step
from zoo_vae.variational import VariationalAutoencoder, draw, kl

__all__ = ["VAE"]

ROWS = 1000
"""Codes that are decoded at once where there are many: their 784 pixels stay in the cache."""


@dataclass(frozen=True, kw_only=True)
class Recipe(AutoencoderRecipe):
    epochs: int = 300
    batch_size: int = 400
    optimizer: str = "muon"  # in the same time 2 nats below adam
    lr: float = 8e-3
    precision: str = "fp32"  # so small a net gains nothing from bf16
    samples: int = 1
    iwae: bool = False


class VAE(VariationalAutoencoder):
    """784-200-200-50-200-200-784, tanh; posterior and prior Gaussian, pixels Bernoulli."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        hidden: int = 200,
        latent_dim: int = 50,
        components: int = 0,
    ):
        super().__init__()
        if not (channels in (1, 3) and 1 <= size <= 512 and hidden > 0 and latent_dim > 0):
            raise SettingsError(
                "vae: expected 1 or 3 channels, a size from 1 to 512, hidden and latent_dim "
                f"positive, got {channels=}, {size=}, {hidden=}, {latent_dim=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        pixels = channels * size * size
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, hidden), nn.Tanh(),
            nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 2 * latent_dim),  # mean and logarithm of the deviation
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.Tanh(),
            nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, pixels),  # logits
        )  # fmt: skip
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.xavier_uniform_(linear.weight)  # Burda, section 5
            nn.init.zeros_(linear.bias)
        self.set_density(latent_dim, components)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.encoder(images).float().chunk(2, dim=1)  # N x 50 each
        return mean, log_std

    @property
    def _last(self) -> nn.Linear:
        """The decoder's last layer, which gives the logits."""
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        return last

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes).sigmoid().unflatten(1, self.image_shape)
        return images

    def _score(self, images: Tensor) -> Tensor:
        """The negative bound in nats, at the posterior's mean instead of a sample of it."""
        mean, log_std = self.posterior(images)
        return kl(mean, log_std) - self._log_likelihood(images.flatten(1), mean[:, None])[:, 0]

    def _log_likelihood(self, pixels: Tensor, codes: Tensor) -> Tensor:
        """log p(x | z) in nats: N x 784 and N x K x 50 to N x K."""
        hidden = self.decoder[:-1](codes)  # N x K x 200
        last = self._last
        # sum of x * logits - log(1 + exp(logits)), the first without going over all pixels again
        given = torch.einsum("nkh,nh->nk", hidden.float(), pixels @ last.weight)
        logits = last(hidden).float()  # N x K x 784
        return given + (pixels @ last.bias)[:, None] - F.softplus(logits).sum(2)

    def log_weights(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, z) - log q(z | x) of ``samples`` draws of z from q(z | x) for each image.

        Args:
            images: N x C x H x W, float32, each pixel 0 or 1.
            generator: the only source of randomness, on the CPU.

        Returns:
            N x samples, in nats.
        """
        few = images.split(max(1, ROWS // samples))
        return torch.cat([self._log_weights(part, part, samples, generator) for part in few])

    def _log_weights(
        self, seen: Tensor, target: Tensor, samples: int, generator: torch.Generator
    ) -> Tensor:
        mean, log_std = self.posterior(seen)
        codes = draw(mean, log_std, samples, generator)  # N x K x 50
        noise = (codes - mean[:, None]) / log_std.exp()[:, None]
        # log p(z) - log q(z | x), in which the constants of the two Gaussians cancel
        ratio = 0.5 * (noise.square() - codes.square()).sum(2) + log_std.sum(1)[:, None]
        return ratio + self._log_likelihood(target.flatten(1), codes)

    def phases(self, recipe: Recipe) -> list[Phase]:
        if recipe.samples < 1:
            raise SettingsError(f"vae: samples should be from 1, got {recipe.samples}")
        return super().phases(recipe)

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        if step.progress == 0:
            self._start_at(images, step)
        recipe, generator = step.recipe, step.generator
        target = torch.bernoulli(images.cpu(), generator=generator).to(images)
        # The same binary image goes in, unless the recipe corrupts what does.
        seen = target if step.seen is images else step.seen
        if recipe.iwae:
            weights = self._log_weights(seen, target, recipe.samples, generator)
            return {"bound": (math.log(recipe.samples) - weights.logsumexp(1)).mean()}
        mean, log_std = self.posterior(seen)
        codes = draw(mean, log_std, recipe.samples, generator)
        likelihood = self._log_likelihood(target.flatten(1), codes)
        return {"reconstruction": -likelihood.mean(), "kl": kl(mean, log_std).mean()}

    @torch.no_grad()
    def _start_at(self, images: Tensor, step: Step) -> None:
        """Let the biases of the output give the mean image, as Burda et al. begin."""
        mean = step.reduce(images.flatten(1).mean(0))  # of all processes
        self._last.bias.copy_(mean.clamp(0.001, 0.999).logit())
