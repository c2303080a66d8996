"""``zoo encode``, ``reconstruct``, ``generate``, ``interpolate`` and ``demo``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.shared import (
    UserPath,
    as_json,
    assignments,
    new_table,
    png_out,
    preparation,
    print_json,
    print_table,
    read,
    refuse_loss,
    report,
    seed,
    sources,
    strict,
    tell,
    tracked,
    usable_weights,
)
from zoo.errors import InputError
from zoo.files import path_text
from zoo.installing import install_plugins_command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from zoo.model import ZooModel


@click.command()
@click.argument("name")
@sources
@click.option(
    "--out",
    default="codes.npz",
    show_default=True,
    type=UserPath(dir_okay=False),
    help="A .parquet, .npz or .safetensors file.",
)
@click.option(
    "--what",
    default="codes",
    show_default=True,
    type=click.Choice(["codes", "features", "scores"]),
    help="What to write for each picture.",
)
@preparation
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="What to compute in: bf16 keeps two or three digits, and needs a processor that has it; "
    "by default fp32.",
)
@strict
@as_json
def encode(
    name: str,
    sources: tuple[Path, ...],
    out: Path,
    what: str,
    fit: str | None,
    background: float | None,
    precision: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Encode pictures (files and folders) into a table of codes."""
    if out.suffix not in (".parquet", ".npz", ".safetensors"):
        raise InputError(f"--out should end in .parquet, .npz or .safetensors, got {str(out)!r}")
    if not sources:
        raise InputError("name at least one picture or folder: zoo encode NAME FOLDER")
    refuse_loss(out, out.suffix, sources)
    from zoo.collection.encoding import encode_files, writing
    from zoo.images import files_of, why_not_opened

    model = zoo.load(name, fit=fit, background=background, precision=precision)
    call = {"codes": model.encode, "features": model.features, "scores": model.score}[what]
    files, skipped, notes = files_of(sources)
    refuse_loss(out, out.suffix, (path for path in files if not why_not_opened(path.name)))
    with writing(out, what) as table:
        encode_files(
            files, skipped, call, model.preprocessing, table,
            strict=strict, named=sources, notes=notes, progress=tracked,
        )  # fmt: skip
        tell(notes, skipped)
    report(
        as_json,
        f"{len(table.paths)} pictures: {what} of {name} in {out}",
        out=str(out),
        pictures=len(table.paths),
        skipped=[{"path": str(path), "reason": reason} for path, reason in skipped],
        notes=notes,
    )


@click.command()
@click.argument("name")
@sources
@png_out("reconstructions.png")
@click.option("--columns", default=10, show_default=True, type=click.IntRange(1, 100))
@strict
@as_json
def reconstruct(
    name: str, sources: tuple[Path], out: Path, columns: int, strict: bool, as_json: bool
) -> None:
    """Write pictures above what the model makes of them.

    Without SOURCES, the first 30 of the embedded Fashion-MNIST sample.
    """
    from zoo.pictures import grid, pairs, write_png

    refuse_loss(out, ".png", sources)
    model = zoo.load(name)
    pictures = read(model, sources, strict)
    refuse_loss(out, ".png", pictures.paths)
    rebuilt = model.reconstruct(pictures.images).cpu()
    write_png(grid(pairs(pictures.images, rebuilt, columns), columns=columns), out)
    error = float((rebuilt - pictures.images).square().mean())
    report(
        as_json,
        f"{len(rebuilt)} pictures above their reconstructions in {out} "
        f"(mean squared error {error:.5f})",
        out=str(out),
        pictures=len(rebuilt),
        mse=error,
        skipped=[{"path": str(path), "reason": reason} for path, reason in pictures.skipped],
        notes=pictures.notes,
    )


@click.command()
@click.argument("name")
@click.option("-n", "--number", default=64, show_default=True, type=click.IntRange(1, 10_000))
@seed
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the model, such as steps=20; zoo info NAME lists them.",
)
@png_out("generated.png")
@as_json
def generate(
    name: str, number: int, seed: int, settings: tuple[str, ...], out: Path, as_json: bool
) -> None:
    """Write a grid of new pictures."""
    from zoo.pictures import grid, write_png
    from zoo.spec import complete_options

    refuse_loss(out, ".png")
    model = zoo.load(name)
    options = complete_options(model.spec, assignments("--set", settings))
    write_png(grid(model.generate(number, seed=seed, **options)), out)
    said = "".join(f", {key} {value}" for key, value in options.items())
    report(
        as_json, f"{number} pictures of {name}, seed {seed}{said}, in {out}",
        out=str(out), pictures=number, seed=seed, **options,
    )  # fmt: skip


@click.command()
@click.argument("name")
@click.argument("start", required=False, type=UserPath(home=False))
@click.argument("end", required=False, type=UserPath(home=False))
@click.option("--steps", default=10, show_default=True, type=click.IntRange(2, 100))
@seed
@png_out("interpolation.png")
@as_json
def interpolate(
    name: str, start: Path | None, end: Path | None, steps: int, seed: int, out: Path, as_json: bool
) -> None:
    """Walk through the codes from picture START to picture END.

    Without them, five walks between pictures that the model generates.
    """
    from zoo.pictures import grid, write_png

    refuse_loss(out, ".png", [path for path in (start, end) if path is not None])
    model = zoo.load(name)
    if start is None:
        ends = model.generate(10, seed=seed)
    elif end is None:
        raise InputError("name two pictures, START and END, or none")
    else:
        ends = model.preprocess([start, end])
    write_png(grid(walks(model, ends, steps), columns=steps), out)
    report(
        as_json, f"{len(ends) // 2} walks of {steps} steps through the codes of {name} in {out}",
        out=str(out), walks=len(ends) // 2, steps=steps,
    )  # fmt: skip


def walks(model: "ZooModel", ends: "Tensor", steps: int) -> "Tensor":
    """A row of images from the first to the second, from the third to the fourth, ..."""
    import torch

    from zoo.pictures import interpolate

    codes = model.encode(ends)
    walks = [interpolate(a, b, steps) for a, b in zip(codes[::2], codes[1::2], strict=True)]
    return model.decode(torch.cat(walks)).cpu()


def nearest(model: "ZooModel", images: "Tensor", queries: int, columns: int) -> "Tensor":
    """A row for each of the first ``queries`` images: itself, then the most alike of ``images``."""
    from torch.nn import functional as F

    features = F.normalize(model.features(images))
    similarity = features[:queries] @ features.T  # cosine, queries x N
    similarity.fill_diagonal_(2)  # itself first, though an image may be there twice
    return images[similarity.topk(columns).indices.flatten()]


def few_images(names: "Iterable[str]") -> "Tensor | None":
    """The test images that came with the first weights that have some: an even number, or None.

    Raises: CorruptWeights: they cannot be read.
    """
    from zoo.report.card import vector_images
    from zoo.sources import weights_folder

    for name in names:
        folder = weights_folder(name)
        if (folder / "vectors.safetensors").is_file():
            images = vector_images(folder)
            return images[: len(images) // 2 * 2] if len(images) > 1 else None
    return None


@click.command()
@click.option(
    "--out",
    default="out",
    show_default=True,
    type=UserPath(file_okay=False),
    help="The folder to write into.",
)
@as_json
def demo(out: Path, as_json: bool) -> None:
    """Encode, rebuild, generate and search with every model that has weights, in a minute.

    Clothes are test images of Fashion-MNIST that come with the zoo. Of other data sets there are
    the few that come with the weights, and to search in, those that a model generates.
    """
    import time

    import torch

    from zoo.pictures import grid, write_png
    from zoo.sample import sample

    names = usable_weights()
    if not names:
        raise InputError(f"no trained model is installed. Type: {install_plugins_command()}")
    begin = time.perf_counter()
    made: list[dict[str, Any]] = []
    unseen: list[str] = []

    def write(file: str, images: "Tensor", columns: int, what: str) -> None:
        refuse_loss(out / file, ".png")
        write_png(grid(images, columns=columns), out / file)
        made.append({"file": path_text(out / file), "what": what})

    for dataset in sorted({zoo.info(name).weights[0].dataset for name in names}):
        models = {
            name: zoo.load(name) for name in names if zoo.info(name).weights[0].dataset == dataset
        }
        makers = [name for name, model in models.items() if "generate" in model.capabilities]
        rebuilders = [n for n, model in models.items() if "reconstruct" in model.capabilities]
        for name in makers:
            write(
                f"{name}.generated.png", models[name].generate(64, seed=0), 8,
                "64 new images, seed 0",
            )  # fmt: skip
        originals: Tensor | None
        ends: Tensor | None
        many: Tensor | None
        if dataset == "fashion_mnist":
            many = next(iter(models.values())).preprocess(sample()[0])
            originals, ends, whose = many[:10], many[10:20], "sample images"
        else:
            originals = ends = few_images(models)
            many, whose = None, "test images"
        if rebuilders and originals is not None:
            rows = torch.cat([originals, *(models[n].reconstruct(originals) for n in rebuilders)])
            write(
                f"{dataset}.reconstructed.png", rows, len(originals),
                f"{whose} (top row), then rebuilt by {', '.join(rebuilders)}",
            )  # fmt: skip
        if many is None and makers:
            # A search needs more images than that: generated ones, of a GAN if there is one.
            source = next((n for n in makers if zoo.info(n).family == "gan"), makers[0])
            many, whose = models[source].generate(100, seed=1), f"images by {source}"
        for name, model in models.items():
            if name in rebuilders and ends is not None:
                steps = walks(model, ends, 10)
                write(f"{name}.interpolated.png", steps, 10, "walks through the codes of images")
            elif name not in rebuilders and many is not None:
                write(
                    f"{name}.neighbours.png", nearest(model, many, 8, 10), 10,
                    f"{whose} (left), then the nearest of {len(many)} by their features",
                )  # fmt: skip
            elif name not in makers:
                unseen.append(name)
    seconds = time.perf_counter() - begin
    if as_json:
        print_json({"seconds": round(seconds, 1), "files": made, "not_shown": unseen})
        return
    table = new_table("file", "what it shows")
    for row in made:
        table.add_row(row["file"], row["what"])
    print_table(table)
    shown = len(names) - len(unseen)
    click.echo(f"{len(made)} pictures by {shown} models in {seconds:.1f} s. Open one!")
    if unseen:
        click.echo(f"Nothing to show without a data set: {', '.join(unseen)}")
