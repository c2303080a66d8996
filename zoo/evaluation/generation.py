"""Generated images against the test part: how near, how good, how many kinds.

Distances are taken in the features of the small classifier that the zoo ships for the data
(:mod:`zoo.evaluation.classifier`): they compare with each other and with their baselines, not with
published figures, which are taken in Inception's. That is the protocol ``inception``.
"""

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data import ImageFile, ImageRows, to_float
from zoo.data.stream import Stream
from zoo.evaluation.classifier import IMAGES, Classifier, has_classifier, load_classifier
from zoo.evaluation.protocol import BATCH, Context, Figure, ProtocolSkipped
from zoo.evaluation.recognition import neighbours
from zoo.model import ZooModel
from zoo.optional import optional

Images = Tensor | ImageFile | ImageRows | Stream
"""uint8, in memory or not."""

SAMPLES = 10_000
REFERENCES = 50_000
"""Generated images that the 1-NN classifier knows: as many as in Radford et al. 2015, table 3."""
NEIGHBOURS = 5
PCA_COMPONENTS = 30
SUBSETS, SUBSET = 100, 1000


class _Given(nn.Module):
    """torchmetrics asks for a network; here the features are computed already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """Heusel et al. 2017, arXiv:1706.08500, equation 6, of features N x F and M x F."""
    image = optional("torchmetrics.image.fid", "torchmetrics", "evaluate")
    metric = image.FrechetInceptionDistance(_Given(real.shape[1]))
    return float(_fed(metric, real.double(), generated.double()))


def kernel_distance(real: Tensor, generated: Tensor, seed: int = 0) -> tuple[float, float]:
    """Bińkowski et al. 2018, arXiv:1801.01401, section 4: the unbiased squared distance of means.

    With the kernel (x.y / F + 1)^3, over 100 random subsets of 1,000 (or of all, if fewer) of
    each: their mean and standard deviation. Torch's global random state is left alone.
    """
    image = optional("torchmetrics.image.kid", "torchmetrics", "evaluate")
    real, generated = real.double(), generated.double()
    size = min(SUBSET, len(real), len(generated))
    rng = torch.Generator().manual_seed(seed)
    # Not its metric, which draws from torch's global generator and warns of what it keeps.
    distances = []
    for _ in range(SUBSETS):
        rows, others = (torch.randperm(len(t), generator=rng)[:size] for t in (real, generated))
        distances.append(image.poly_mmd(real[rows], generated[others]))
    values = torch.stack(distances)
    return values.mean().item(), values.std(unbiased=False).item()


def _fed(metric: Any, real: Tensor, generated: Tensor) -> Any:
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return metric.compute()


def manifolds(real: Tensor, generated: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall, density and coverage of features N x F and M x F.

    Each feature has a ball around it, out to its k-th neighbour among its own kind. Precision
    is the share of generated features inside a real one's ball, recall of real ones inside a
    generated one's (Kynkäänniemi et al. 2019, arXiv:1904.06991, section 2); density the number of
    real balls that a generated feature is in, divided by k, and coverage the share of real balls
    with a generated feature in them (Naeem et al. 2020, arXiv:2002.09797, section 3).
    """
    real, generated = real.double(), generated.double()
    real_radii, generated_radii = _radii(real, k), _radii(generated, k)
    precise = within = 0
    recalled = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for part, radii in zip(generated.split(1000), generated_radii.split(1000), strict=True):
        distances = torch.cdist(part, real)  # B x N
        inside = distances <= real_radii
        precise += int(inside.any(1).sum())
        within += int(inside.sum())
        covered |= inside.any(0)
        recalled |= (distances <= radii[:, None]).any(0)
    return {
        "precision": precise / len(generated),
        "recall": float(recalled.double().mean()),
        "density": within / (k * len(generated)),
        "coverage": float(covered.double().mean()),
    }


def _radii(features: Tensor, k: int) -> Tensor:
    """The distance of each feature to its k-th neighbour, itself not counted, N."""
    parts = [torch.cdist(part, features).kthvalue(k + 1, dim=1)[0] for part in features.split(1000)]
    return torch.cat(parts)


def class_shares(classes: Tensor, number: int) -> tuple[int, float]:
    """How many of ``number`` classes occur in ``classes`` (N), and the entropy of their shares.

    The entropy is in nats: 0 when all are of one class, log(number) when all are as frequent.
    """
    shares = torch.bincount(classes, minlength=number).double() / len(classes)
    return int((shares > 0).sum()), float(torch.special.entr(shares).sum())


def nearest_accuracy(references: Tensor, labels: Tensor, queries: Tensor, answers: Tensor) -> float:
    """Share of ``queries`` (M x F) whose nearest of ``references`` (N x F) has their label."""
    nearest = neighbours(references, queries, 1)[:, 0]
    return float((labels[nearest] == answers).double().mean())


def measure(context: Context) -> Iterator[Figure]:
    """All figures in the shipped classifier's features.

    Raises:
        ProtocolSkipped: no classifier is shipped for these data.
    """
    classifier = _classifier(context)
    few, many = context.samples or SAMPLES, context.samples or REFERENCES
    images, asked = generated_classes(context, many)  # 50,000 x 1 x 28 x 28 uint8
    made = _classified(context, classifier, images, "of generated images")
    baselines = {
        "train_set": context.of_data(("train_set", few), lambda: _train_set(context, few)),
        "pca": context.of_data(("pca generated", few), lambda: _pca(context, few)),
    }
    yield from _distances(context, classifier, made[:few], baselines)
    yield from _classes(context, classifier, made[:few], baselines)
    if asked is None:
        yield _nearest(context, images, classifier.classify(made), _BY_CLASSIFIER)
    else:
        yield _nearest(context, images, asked, _AS_ASKED)


def generated(context: Context, n: int) -> Tensor:
    """``n`` images of the model by the context's seed, in the 8 bits that pictures have."""
    model = context.model
    if getattr(type(model), "generate", None) is not ZooModel.generate:  # in a way of its own
        return _eight_bits(model.generate(n, seed=context.seed).cpu())
    return _collected(context, model._generated(n, context.seed), n, model._at_once)


def _collected(context: Context, parts: Iterable[Tensor], n: int, size: int) -> Tensor:
    """Batches of ``size`` images, ``n`` together, as one tensor of 8 bits."""
    tracked = context.tracked(parts, math.ceil(n / size), f"generating {n:,} images")
    return torch.cat([_eight_bits(part.cpu()) for part in tracked])


def generated_classes(context: Context, n: int) -> tuple[Tensor, Tensor | None]:
    """As :func:`generated`, and the class that was asked of each image, N whole numbers.

    None of a generator that knows no classes. One that does (it learnt from labels) has
    ``classes_of(codes)``, which gives the classes that codes ask for, or None.
    """
    classes_of = getattr(context.model, "classes_of", None)
    if classes_of is None:
        return generated(context, n), None
    with torch.no_grad():  # the codes of generate()
        codes = context.model._sample_codes(n, torch.Generator().manual_seed(context.seed))
        asked = classes_of(codes)
    parts = (context.model.decode(part) for part in codes.to(context.model.device).split(BATCH))
    return _collected(context, parts, n, BATCH), None if asked is None else asked.cpu()


def measure_inception(context: Context) -> Iterator[Figure]:
    """inception_frechet, inception_kernel, inception_score.

    Raises:
        ProtocolSkipped: Inception's weights cannot be fetched; with torch-fidelity's own reason.
    """
    number = context.samples or SAMPLES
    train_set, test = context.train.images[random_rows(context, number)], context.test.images
    values = inception_distances(generated(context, number), test, context.seed)
    baselines = inception_distances(train_set, test, context.seed)
    for name, words in (
        ("frechet", "Fréchet distance"),
        ("kernel", "kernel distance, mean of 100 subsets of 1,000 images,"),
        ("score", "Inception score, 10 splits,"),
    ):
        yield Figure(
            name=f"inception_{name}",
            value=values[name],
            spread=values.get(f"{name}_spread"),
            baselines={"train_set": baselines[name]},
            protocol=f"{words} of {number:,} generated images against all test images, by "
            "torch-fidelity, in Inception's features",
            samples=number,
            seed=context.seed,
        )


def inception_distances(images: Images, real: Images, seed: int = 0) -> dict[str, float]:
    """What torch-fidelity measures of two sets of uint8 images, N x C x H x W and M x C x H x W.

    Raises:
        ProtocolSkipped: Inception's weights cannot be fetched.
    """
    fidelity = optional("torch_fidelity", "torch-fidelity", "evaluate")
    try:
        with _inception_weights() as weights:
            got = fidelity.calculate_metrics(
                input1=_Colour(images),
                input2=_Colour(real),
                isc=True,
                fid=True,
                kid=True,
                kid_subset_size=min(SUBSET, len(images), len(real)),
                rng_seed=seed,
                cuda=torch.cuda.is_available(),
                cache=False,
                verbose=False,
                feature_extractor_weights_path=str(weights),
            )
    except (OSError, RuntimeError, UnpicklingError) as error:  # no network, or a bad file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ProtocolSkipped(f"Inception's weights cannot be fetched: {reason}") from error
    return {
        "frechet": got["frechet_inception_distance"],
        "kernel": got["kernel_inception_distance_mean"],
        "kernel_spread": got["kernel_inception_distance_std"],
        "score": got["inception_score_mean"],
        "score_spread": got["inception_score_std"],
    }


@contextlib.contextmanager
def _inception_weights() -> Iterator[Path]:
    """A file of Inception's tensors, fetched once to where torch.hub keeps what it has fetched.

    They are published as a pickle, which torch-fidelity would let run any code, and only a variable
    of the environment would prevent that. So nothing but tensors is read from it here, and
    torch-fidelity is given a file that holds those.
    """
    module = "torch_fidelity.feature_extractor_inceptionv3"
    url = optional(module, "torch-fidelity", "evaluate").URL_INCEPTION_V3
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = path.stem.rpartition("-")[2]  # of its sha256
        torch.hub.download_url_to_file(url, str(path), start, progress=False)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(tensors, Path(folder, "inception.pth"))
        yield Path(folder, "inception.pth")


class _Colour(torch.utils.data.Dataset[Tensor]):
    """uint8 images as torch-fidelity takes them: three channels each."""

    def __init__(self, images: Images):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index].expand(3, -1, -1)


# -- the parts of measure --------------------------------------------------------------------------


def _classifier(context: Context) -> Classifier:
    name, takes = context.test.name, (IMAGES.channels, IMAGES.height, IMAGES.width)
    if not has_classifier(name) or tuple(context.test.images.shape[1:]) != takes:
        raise ProtocolSkipped(
            f"the zoo ships no classifier for {name}, in whose features to measure"
        )
    return load_classifier(name)


def _distances(
    context: Context, classifier: Classifier, made: Tensor, baselines: dict[str, Tensor]
) -> Iterator[Figure]:
    real = context.of_data(
        "test classified",
        lambda: _classified(context, classifier, context.test.images[:], "of test images"),
    )
    scores = {"generated": distances(context, real, made, "generated images")}
    for key, features in baselines.items():
        scores[key] = context.of_data(
            (key, len(made), "distances"),
            partial(distances, context, real, features, key),
        )
    for name, words in distance_words(NEIGHBOURS, SUBSET).items():
        yield Figure(
            name=name,
            value=scores["generated"][name],
            spread=scores["generated"].get(f"{name}_spread"),
            baselines={key: scores[key][name] for key in baselines},
            protocol=f"{words} of {len(made):,} generated images against all test images, in the "
            f"features of the zoo's classifier for {context.test.name}; {_BASELINES}",
            samples=len(made),
            seed=context.seed,
        )


_BASELINES = (
    "train_set: as many random train images instead; pca: images of a Gaussian on "
    f"{PCA_COMPONENTS} principal components"
)


def distance_words(k: int, subset: int) -> dict[str, str]:
    """Each figure of :func:`distances` in words, to be continued by "of N generated images"."""
    balls = f"balls to the {k}th neighbour,"
    return {
        "frechet": "Fréchet distance",
        "kernel": f"kernel distance, mean of {SUBSETS} subsets of {subset:,} images,",
        "precision": f"share inside a test image's ball, {balls}",
        "recall": f"share of test images inside a generated image's ball, {balls}",
        "density": f"balls of test images around an image, divided by {k}, {balls}",
        "coverage": f"share of test images with an image in their ball, {balls}",
    }


def distances(
    context: Context, real: Tensor, made: Tensor, of: str, k: int = NEIGHBOURS
) -> dict[str, float]:
    """All of :func:`distance_words`, of features N x F and M x F; and ``kernel_spread``.

    Args:
        of: what the images are, for the display of progress.
        k: below N and M.
    """
    ways: list[Callable[[], dict[str, float]]] = [
        lambda: {"frechet": frechet_distance(real, made)},
        lambda: dict(
            zip(("kernel", "kernel_spread"), kernel_distance(real, made, context.seed), strict=True)
        ),
        lambda: manifolds(real, made, k),
    ]
    found: dict[str, float] = {}
    for way in context.tracked(ways, len(ways), f"distances of {of}"):
        found |= way()
    return found


def _classes(
    context: Context, classifier: Classifier, made: Tensor, baselines: dict[str, Tensor]
) -> Iterator[Figure]:
    number = classifier.head.out_features
    shares = {
        key: class_shares(classifier.classify(features), number)
        for key, features in {"generated": made, **baselines}.items()
    }
    for index, (name, words) in enumerate(
        {
            "classes_covered": f"how many of the {number} classes occur",
            "class_entropy": "entropy in nats of the shares of the classes "
            f"(at most {math.log(number):.4f})",
        }.items()
    ):
        yield Figure(
            name=name,
            value=shares["generated"][index],
            baselines={key: shares[key][index] for key in baselines},
            protocol=f"{words} among {len(made):,} generated images, by the zoo's classifier for "
            f"{context.test.name}; {_BASELINES}",
            samples=len(made),
            seed=context.seed,
        )


_BY_CLASSIFIER = "labelled by the zoo's classifier for {data} (the generator knows no labels)"
_AS_ASKED = "each labelled by the class that its code asked for (the generator learnt from labels)"


def _nearest(context: Context, images: Tensor, classes: Tensor, labelled: str) -> Figure:
    context = context.labelled

    def accuracy(references: Tensor, labels: Tensor) -> float:
        return nearest_accuracy(
            to_float(references).flatten(1),
            labels,
            context.features("pixels", "test"),
            context.labels("test"),
        )

    def baseline() -> float:
        rows = random_rows(context, len(images))
        return accuracy(context.train.images[rows], context.labels("train")[rows])

    return Figure(
        name="generated_1nn",
        value=accuracy(images, classes),
        baselines={"train_set": context.of_data("generated_1nn", baseline)},
        protocol=f"test accuracy of 1-NN on pixels that knows {len(images):,} generated images, "
        f"{labelled.format(data=context.test.name)}; train_set: as many random train images with "
        "their own labels instead",
        samples=len(context.test),
        seed=context.seed,
    )


def in_batches(context: Context, images: Tensor, what: str) -> Iterator[Tensor]:
    """uint8 images (which may be in a file) as float32 in [0, 1], a batch at a time, tracked."""
    starts = range(0, len(images), BATCH)
    for at in context.tracked(starts, len(starts), what):
        yield to_float(images[at : at + BATCH])


def _classified(context: Context, classifier: Classifier, images: Tensor, whose: str) -> Tensor:
    """The features of uint8 images."""
    parts = in_batches(context, images, f"features {whose}")
    return torch.cat([classifier.features(part) for part in parts])


def random_rows(context: Context, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(context.seed)
    return torch.randperm(len(context.train), generator=generator)[:n]


def _train_set(context: Context, n: int) -> Tensor:
    images = context.train.images[random_rows(context, n)]
    return _classified(context, load_classifier(context.test.name), images, "of train images")


def _pca(context: Context, n: int) -> Tensor:
    """Features of images drawn from a Gaussian on the principal components of the train part."""
    pca = context.pca(PCA_COMPONENTS)
    generator = torch.Generator().manual_seed(context.seed)
    noise = torch.randn(n, pca.n_components_, generator=generator, dtype=torch.float64)
    codes = noise.numpy() * pca.explained_variance_**0.5
    pixels = torch.from_numpy(pca.inverse_transform(codes)).float().clamp(0, 1)
    images = _eight_bits(pixels.unflatten(1, tuple(context.train.images.shape[1:])))
    return _classified(context, load_classifier(context.test.name), images, "of images by PCA")


def _eight_bits(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)
