"""The protocols ``reconstruction`` and ``repair``: errors of reconstructed and repaired images."""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from zoo.evaluation.protocol import Context, Figure
from zoo.folder import FolderConfig
from zoo.model import ZooModel
from zoo.optional import optional

DAMAGE = (
    ("mask", 0.25),
    ("mask", 0.5),
    ("noise", 0.2),
    ("noise", 0.4),
    ("salt", 0.2),
    ("blur", 0.25),
)
"""The kinds and strengths of :func:`zoo.corruption.corrupt` that repair is measured under."""

Maker = Callable[[Tensor], Tensor]
"""A function from images to their reconstructions, both N x C x H x W."""

SSE = "squared error summed over the pixels, mean over the images, pixels in [0, 1]"


def squared_errors(images: Tensor, rebuilt: Tensor) -> Tensor:
    """The unit of Hinton & Salakhutdinov 2006: squared error summed over the pixels, N."""
    return (rebuilt - images).double().square().flatten(1).sum(1)


def mean_squared_errors(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Squared error, mean over the pixels, N."""
    return squared_errors(images, rebuilt) / images[0].numel()


def psnr(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, N, for a range of 1; 100 at most."""
    return -10 * mean_squared_errors(images, rebuilt).clamp(min=1e-10).log10()


def ssim_window(height: int, width: int) -> int:
    """The side of the Gaussian window: 11, as Wang et al. 2004 have it, or what fits the image."""
    return 2 * min(5, (min(height, width) - 1) // 2) + 1


def ssim(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Structural similarity of each image, N, for a range of 1 (torchmetrics).

    Wang et al. 2004, "Image quality assessment", with the image reflected at its border. Images
    of less than 3 pixels have none: NaN.
    """
    metrics = optional("torchmetrics.functional.image", "torchmetrics", "evaluate")
    window = ssim_window(*images.shape[2:])
    if window < 3:
        return torch.full((len(images),), math.nan)
    # torchmetrics makes the window of int(3.5 sigma + 0.5) pixels to each side.
    sigma = 1.5 if window == 11 else (window // 2) / 3.5
    each: Tensor = metrics.structural_similarity_index_measure(
        rebuilt, images, sigma=sigma, data_range=1.0, reduction="none"
    )
    return each.reshape(len(images))


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sse": squared_errors,
    "mse": mean_squared_errors,
    "psnr": psnr,
    "ssim": ssim,
}


def means(pairs: Iterable[tuple[Tensor, Tensor]], names: Iterable[str]) -> dict[str, float]:
    """The named measures, means over all images of ``pairs``: batches, and what was made of them.

    Each is N x C x H x W.
    """
    totals, count = dict.fromkeys(names, 0.0), 0
    for images, rebuilt in pairs:
        count += len(images)
        for name in totals:
            totals[name] += float(MEASURES[name](images, rebuilt).double().sum())
    return {name: total / count for name, total in totals.items()}


# -- applied to a model ------------------------------------------------------------------------


def measure(context: Context) -> Iterator[Figure]:
    """``sse``, ``mse``, ``psnr`` and ``ssim`` of the test part.

    The baseline ``pca_unclamped`` is the "standard PCA" of Hinton & Salakhutdinov 2006, whose
    images leave [0, 1]; clamped, as every image of the zoo is, its error is smaller.
    """
    components = code_numbers(context)
    makers: dict[str, Maker] = {"model": context.model.reconstruct}
    if context.with_baselines:
        mean = mean_image(context)
        makers |= {
            "mean_image": lambda images: mean.expand_as(images),
            "pca": pca_maker(context, components),
            "pca_unclamped": pca_maker(context, components, clamp=False),
            "untrained": context.untrained.reconstruct,
        }
    figures = {}
    for name, maker in makers.items():
        batches = context.batches("test", f"reconstruction by {name}")
        pairs = ((images, maker(images).cpu()) for images in batches)
        measures = ("sse", "mse") if name == "pca_unclamped" else tuple(MEASURES)
        figures[name] = means(pairs, measures)
    words = {
        "sse": SSE,
        "mse": f"{SSE}, divided by the pixels",
        "psnr": "peak signal-to-noise ratio in dB, mean over the images, range 1",
        "ssim": f"structural similarity, {_window(context)}, mean over the images, range 1",
    }
    for name, protocol in words.items():
        yield Figure(
            name=name,
            value=figures["model"][name],
            protocol=f"{protocol}; pca has {components} components",
            samples=len(context.test),
            baselines={
                baseline: values[name]
                for baseline, values in figures.items()
                if baseline != "model" and name in values
            },
        )


def measure_repair(context: Context) -> Iterator[Figure]:
    """``repair_<kind>_<strength>_psnr`` and ``_ssim``: of the reconstruction of a damaged image.

    The baselines are the damaged image itself, and PCA of as many components as the code has.
    """
    components = code_numbers(context)
    makers: dict[str, Maker] = {"model": context.model.reconstruct}
    if context.with_baselines:
        makers |= {"corrupted": lambda images: images, "pca": pca_maker(context, components)}
    for kind, strength in DAMAGE:
        figures = {}
        for name, maker in makers.items():
            pairs = (
                (images, maker(damaged).cpu())
                for images, damaged in _damaged(context, kind, strength, name)
            )
            figures[name] = means(pairs, ("psnr", "ssim"))
        for name, unit in (("psnr", "PSNR in dB"), ("ssim", f"SSIM, {_window(context)},")):
            yield Figure(
                name=f"repair_{kind}_{strength:g}_{name}",
                value=figures["model"][name],
                protocol=f"{unit} of the reconstruction of the image after {kind} {strength:g} "
                f"against the undamaged one, mean; pca has {components} components",
                samples=len(context.test),
                seed=context.seed,
                baselines={
                    baseline: figures[baseline][name] for baseline in figures if baseline != "model"
                },
            )


def measure_against(
    context: Context, config: FolderConfig, model: ZooModel, other: FolderConfig
) -> Iterator[Figure]:
    """``sse_ablated``: ``sse`` of the same model trained with another recipe.

    Args:
        config: of the weights that are measured.
        model: the one with the other recipe.
        other: the config of its weights.
    """
    batches = context.batches("test", "reconstruction")
    pairs = ((images, model.reconstruct(images).cpu()) for images in batches)
    yield Figure(
        name="sse_ablated",
        value=means(pairs, ("sse",))["sse"],
        protocol=f"{SSE}, {difference(config, other)}",
        samples=len(context.test),
    )


def difference(config: FolderConfig, other: FolderConfig) -> str:
    """In words, how the recipe of the weights of ``other`` differs from that of ``config``."""
    recipe, changed = config.recipe, other.recipe
    settings = [
        f"{key} = {value} instead of {recipe.get(key)}"
        for key, value in changed.items()
        if recipe.get(key) != value
    ]
    return "of the same model trained with " + (", ".join(settings) or "the same recipe")


def code_numbers(context: Context) -> int:
    """How many numbers a code has, and no more than an image has pixels."""
    return min(math.prod(context.model.code_shape), math.prod(context.model.image_shape))


def mean_image(context: Context) -> Tensor:
    """The mean training image, C x H x W: the reconstruction of a model without any code."""
    total = torch.zeros(context.model.image_shape, dtype=torch.float64)
    for images in context.train.batches():
        total += images.double().sum(0)
    return (total / len(context.train)).float()


def pca_maker(context: Context, components: int, *, clamp: bool = True) -> Maker:
    """Reconstruction by PCA, clamped to [0, 1] as every model's unless said otherwise."""
    pca = context.pca(components)

    def reconstruct(images: Tensor) -> Tensor:
        rebuilt = pca.inverse_transform(pca.transform(images.flatten(1).numpy()))
        made = torch.from_numpy(rebuilt).float().reshape(images.shape)
        return made.clamp(0, 1) if clamp else made

    return reconstruct


def _damaged(
    context: Context, kind: str, strength: float, maker: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the test part, and the same damaged; the same damage for the same seed."""
    from zoo.corruption import corrupt

    generator = torch.Generator().manual_seed(context.seed)
    for images in context.batches("test", f"repair of {kind} {strength:g} by {maker}"):
        yield images, corrupt(images, kind, strength, generator)


def _window(context: Context) -> str:
    side = ssim_window(*context.model.image_shape[1:])
    return f"Gaussian window of {side} x {side} pixels"
