"""The command line. It knows all of the zoo and nothing of the zoo knows it.

What a command needs is imported inside it: ``zoo list`` must not wait for torch.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.errors import InputError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.model import ZooModel
    from zoo.spec import ModelSpec


class Group(click.Group):
    """Shows the zoo's own errors as one message, with exit code 2, and keeps commands in order."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZooError as error:
            click.echo(f"Error: {_printable(str(error))}", err=True)
            sys.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(zoo.__version__, prog_name="zoo")
def main() -> None:
    """A zoo of models that learn from images without labels.

    \b
    NAME is a model with weights (deep_ae.mnist), a model (deep_ae: its default weights),
    or a weights folder (local-dir:FOLDER).
    """
    # Two threads that spin while they wait fall to a tenth when another process takes a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
seed = click.option("--seed", default=0, show_default=True, help="Same seed, same result.")
sources = click.argument("sources", nargs=-1, type=click.Path(path_type=Path))
strict = click.option("--strict", is_flag=True, help="Refuse when a picture cannot be read.")


def png_out(default: str):
    return click.option(
        "--out",
        default=default,
        show_default=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="The PNG to write.",
    )


# -- what there is -------------------------------------------------------------------------------


@main.command("list")
@click.argument("pattern", default="*")
@as_json
def list_command(pattern: str, as_json: bool) -> None:
    """List models; PATTERN is shell-style ("*ae*")."""
    rows = [_row(name, zoo.info(name)) for name in zoo.list_models(pattern)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        table = _table("model", "weights", "family", "image", "code", "what it is")
        for row in rows:
            table.add_row(
                row["name"],
                "\n".join(row["weights"]) or "-",
                row["family"],
                _size(row["image_shape"]),
                _size(row["code_shape"]),
                row["summary"],
            )
        _print(table)
    elif pattern == "*":
        click.echo(
            "No model is installed: they come in plugins.\n"
            "Type: pip install latentzoo-ae latentzoo-gan"
        )
    else:
        click.echo(f"No model matches {pattern!r}. There are: {', '.join(zoo.list_models())}")
    _warn_of_faults()


def _row(name: str, spec: "ModelSpec") -> dict[str, Any]:
    return {
        "name": name,
        "family": spec.family,
        "summary": spec.summary,
        "image_shape": list(spec.image_shape),
        "code_shape": list(spec.code_shape),
        "weights": [f"{name}.{w.tag}" for w in spec.weights],
        "default_tag": spec.default_tag,
    }


@main.command()
@click.argument("name")
@as_json
def info(name: str, as_json: bool) -> None:
    """Show the record of a model, with its weights and what they measured."""
    spec = zoo.info(name)
    if as_json:
        click.echo(json.dumps(spec.to_dict(), indent=2))
        return
    facts = _table("", "", show_header=False)
    for label, value in (
        ("model", spec.name),
        ("what it is", spec.summary),
        ("family", spec.family),
        ("paper", spec.paper or "-"),
        ("image (C x H x W)", _size(spec.image_shape)),
        ("code", _size(spec.code_shape)),
        ("can", ", ".join(spec.capabilities)),
        ("config", ", ".join(f"{k}={v}" for k, v in spec.config.items()) or "-"),
        ("built by", spec.builder),
    ):
        facts.add_row(label, str(value))
    _print(facts)
    if not spec.weights:
        return
    table = _table("weights", "data", "parameters", "sha256", "measured on the test part")
    for w in spec.weights:
        default = " (default)" if w.tag == spec.default_tag and len(spec.weights) > 1 else ""
        figures = "\n".join(f"{m.name} {m.value:.5g}" for m in w.metrics) or "-"
        table.add_row(
            f"{spec.name}.{w.tag}{default}", w.dataset, f"{w.parameters:,}", w.sha256[:12], figures
        )
    _print(table)


@main.command()
@click.option("--traceback", is_flag=True, help="Show where each failed plugin failed.")
@as_json
def plugins(traceback: bool, as_json: bool) -> None:
    """List plugins, and what is wrong with those that failed."""
    from zoo.registry import registry

    found = registry().plugins
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "distribution": p.candidate.distribution,
                        "version": p.candidate.version,
                        "entry_point": p.candidate.entry_point,
                        "module": p.candidate.module,
                        "models": [spec.name for spec in p.specs],
                        "fault": p.fault
                        and {
                            "stage": p.fault.stage,
                            "fatal": p.fault.fatal,
                            "exception": type(p.fault.exception).__name__,
                            "message": p.fault.message,
                        },
                    }
                    for p in found
                ],
                indent=2,
            )
        )
        return
    if not found:
        click.echo("No plugin is installed. Type: pip install latentzoo-ae latentzoo-gan")
        return
    table = _table("plugin", "version", "entry point", "models", "state")
    for p in found:
        c = p.candidate
        models = ", ".join(spec.name for spec in p.specs) or "-"
        table.add_row(
            c.distribution, c.version, f"{c.entry_point} = {c.module}", models,
            _printable(str(p.fault)) if p.fault else "ok",
        )  # fmt: skip
    _print(table)
    if traceback:
        import traceback as tb

        for p in found:
            if p.fault:
                click.echo(f"\n{p}\n" + _printable("".join(tb.format_exception(p.fault.exception))))


# -- pictures in, pictures out -------------------------------------------------------------------


@main.command()
@click.argument("name")
@sources
@click.option(
    "--out",
    default="codes.npz",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .parquet, .npz or .safetensors file.",
)
@click.option(
    "--what",
    default="codes",
    show_default=True,
    type=click.Choice(["codes", "features", "scores"]),
    help="What to write for each picture.",
)
@strict
@as_json
def encode(name: str, sources: tuple[Path], out: Path, what: str, strict: bool, as_json: bool):
    """Encode pictures (files and folders) into a table of codes."""
    if out.suffix not in (".parquet", ".npz", ".safetensors"):
        raise InputError(f"--out should end in .parquet, .npz or .safetensors, got {str(out)!r}")
    if not sources:
        raise InputError("name at least one picture or folder: zoo encode NAME FOLDER")
    model = zoo.load(name)
    pictures = _read(model, sources, strict)
    call = {"codes": model.encode, "features": model.features, "scores": model.score}[what]
    _write_rows(out, what, [str(path) for path in pictures.paths], call(pictures.images))
    _report(
        as_json,
        f"{len(pictures.paths)} pictures: {what} of {name} in {out}",
        out=str(out),
        pictures=len(pictures.paths),
        skipped=[{"path": str(path), "reason": reason} for path, reason in pictures.skipped],
    )


def _write_rows(out: Path, what: str, paths: list[str], values: "Tensor") -> None:
    import io

    from zoo.files import write_atomically

    array = values.cpu().numpy()
    buffer = io.BytesIO()
    if out.suffix == ".npz":
        import numpy as np

        np.savez_compressed(buffer, allow_pickle=False, **{what: array, "paths": paths})
    elif out.suffix == ".safetensors":
        import safetensors.torch

        buffer.write(
            safetensors.torch.save({what: values.cpu().contiguous()}, {"paths": json.dumps(paths)})
        )
    else:
        from zoo._optional import optional

        arrow = optional("pyarrow", "pyarrow", "parquet")
        parquet = optional("pyarrow.parquet", "pyarrow", "parquet")
        rows = array if array.ndim == 1 else list(array.reshape(len(array), -1))
        parquet.write_table(arrow.table({"path": paths, what: rows}), buffer)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, buffer.getvalue())


@main.command()
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
    from zoo.images import grid, pairs, write_png

    model = zoo.load(name)
    pictures = _read(model, sources, strict)
    rebuilt = model.reconstruct(pictures.images).cpu()
    write_png(grid(pairs(pictures.images, rebuilt, columns), columns=columns), out)
    error = float((rebuilt - pictures.images).square().mean())
    _report(
        as_json,
        f"{len(rebuilt)} pictures above their reconstructions in {out} "
        f"(mean squared error {error:.5f})",
        out=str(out),
        pictures=len(rebuilt),
        mse=error,
        skipped=[{"path": str(path), "reason": reason} for path, reason in pictures.skipped],
    )


@main.command()
@click.argument("name")
@click.option("-n", "--number", default=64, show_default=True, type=click.IntRange(1, 10_000))
@seed
@png_out("generated.png")
@as_json
def generate(name: str, number: int, seed: int, out: Path, as_json: bool) -> None:
    """Write a grid of new pictures."""
    from zoo.images import grid, write_png

    write_png(grid(zoo.load(name).generate(number, seed=seed)), out)
    _report(
        as_json, f"{number} pictures of {name}, seed {seed}, in {out}",
        out=str(out), pictures=number, seed=seed,
    )  # fmt: skip


@main.command()
@click.argument("name")
@click.argument("start", required=False, type=click.Path(path_type=Path))
@click.argument("end", required=False, type=click.Path(path_type=Path))
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
    from zoo.images import grid, write_png

    model = zoo.load(name)
    if start is None:
        ends = model.generate(10, seed=seed)
    elif end is None:
        raise InputError("name two pictures, START and END, or none")
    else:
        ends = model.preprocess([start, end])
    write_png(grid(_walks(model, ends, steps), columns=steps), out)
    _report(
        as_json, f"{len(ends) // 2} walks of {steps} steps through the codes of {name} in {out}",
        out=str(out), walks=len(ends) // 2, steps=steps,
    )  # fmt: skip


def _walks(model: "ZooModel", ends: "Tensor", steps: int) -> "Tensor":
    """A row of images from the first to the second, from the third to the fourth, ..."""
    import torch

    from zoo.images import interpolate

    codes = model.encode(ends)
    walks = [interpolate(a, b, steps) for a, b in zip(codes[::2], codes[1::2], strict=True)]
    return model.decode(torch.cat(walks)).cpu()


# -- learning ------------------------------------------------------------------------------------


@main.command()
@click.argument("model")
@click.option("--data", required=True, metavar="SET|FOLDER", help="mnist, fashion_mnist or FOLDER.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run's folder.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where named sets lie.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Over the recipe.")
@click.option("--config", multiple=True, metavar="KEY=VALUE", help="Over the model's config.")
@click.option("--epochs", type=click.IntRange(1), help="The same as --set epochs=N.")
@click.option("--device", default="cpu", show_default=True)
@seed
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@strict
@as_json
def train(
    model: str,
    data: str,
    out: Path,
    data_dir: Path | None,
    settings: tuple[str, ...],
    config: tuple[str, ...],
    epochs: int | None,
    device: str,
    seed: int,
    resume: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Train a model on a named data set or a folder of pictures."""
    recipe = _assignments("--set", settings) | ({"epochs": epochs} if epochs else {})

    def report(line: dict[str, Any]) -> None:
        losses = {
            k: v for k, v in line.items() if isinstance(v, float) and not k.startswith("seconds")
        }
        click.echo(
            f"{line['phase']} {line['epoch']}/{line['of']}  "
            + "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            + f"  {line['images_per_second']:,} images/s  {_minutes(line['seconds_left'])} left",
            err=True,
        )

    weights = zoo.train(
        model,
        data=data,
        out=out,
        config=_assignments("--config", config),
        settings=recipe,
        seed=seed,
        data_dir=data_dir,
        device=device,
        strict=strict,
        resume=resume,
        report=report,
    )
    trained = json.loads((weights / "config.json").read_text("utf-8"))["training"]
    skipped = f" ({trained['skipped']} files skipped)" if trained["skipped"] else ""
    _report(
        as_json,
        f"trained on {trained['images']:,} images{skipped} in {_minutes(trained['seconds'])}; "
        f"weights in {weights}\nTry: zoo generate local-dir:{out}",
        weights=str(weights),
        **trained,
    )


def _assignments(option: str, texts: tuple[str, ...]) -> dict[str, Any]:
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{option} takes KEY=VALUE, got {text!r}")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value  # a text needs no quotes
    return values


@main.command()
@click.argument("name")
@click.option("--data", required=True, metavar="SET", help="mnist or fashion_mnist.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where named sets lie.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="The same model trained with another recipe, measured beside it.",
)
@as_json
def evaluate(name: str, data: str, data_dir: Path | None, against: Path | None, as_json: bool):
    """Measure a model on the test part of a data set.

    For a weights folder (local-dir:FOLDER) its metrics.json is written too.
    """
    from zoo import evaluation

    result = evaluation.evaluate(name, data=data, data_dir=data_dir, against=against)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    table = _table("metric", "value", "samples", "seconds", "protocol")
    for m in result["metrics"]:
        table.add_row(
            m["name"], f"{m['value']:.5g}", f"{m['samples']:,}", str(m["seconds"]), m["protocol"]
        )
    _print(table)


@main.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A file, not stdout.")
def card(name: str, out: Path | None) -> None:
    """Write the model card of NAME from its records and measured figures."""
    from zoo.api import weights_folder
    from zoo.card import render_card

    text = render_card(weights_folder(name), name)
    if out is None:
        click.echo(text, nl=False)
    else:
        from zoo.files import write_atomically

        write_atomically(out, text.encode())
        click.echo(f"the card of {name} is in {out}")


# -- all of it at once ---------------------------------------------------------------------------


@main.command()
@click.option(
    "--out",
    default="out",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write into.",
)
@as_json
def demo(out: Path, as_json: bool) -> None:
    """Encode, rebuild and generate with every model that has weights, in under a minute.

    Clothes are test images of Fashion-MNIST that come with the zoo. Digits to rebuild are those
    that a model generated before, since MNIST itself is not included.
    """
    import time

    import torch

    from zoo.images import grid, write_png
    from zoo.sample import sample

    names = zoo.list_models(pretrained=True)
    if not names:
        raise InputError(
            "no trained model is installed. Type: pip install latentzoo-ae latentzoo-gan"
        )
    begin = time.perf_counter()
    made: list[dict[str, Any]] = []

    def write(file: str, images: "Tensor", columns: int, what: str) -> None:
        write_png(grid(images, columns=columns), out / file)
        made.append({"file": str(out / file), "what": what})

    for dataset in sorted({zoo.info(name).weights[0].dataset for name in names}):
        models = {
            name: zoo.load(name) for name in names if zoo.info(name).weights[0].dataset == dataset
        }
        for name, model in models.items():
            write(f"{name}.generated.png", model.generate(64, seed=0), 8, "64 new images, seed 0")
        if dataset == "fashion_mnist":
            whose, pictures = "sample images", model.preprocess(sample()[0][:40])
        else:
            # The GAN's are the sharpest, if there is one.
            source = next((n for n in models if zoo.info(n).family == "gan"), next(iter(models)))
            whose, pictures = f"images by {source}", models[source].generate(40, seed=1)
        originals, pair = pictures[:10], pictures[10:]
        rows = torch.cat([originals, *(m.reconstruct(originals) for m in models.values())])
        write(
            f"{dataset}.reconstructed.png", rows, 10,
            f"{whose} (top row), then rebuilt by {', '.join(models)}",
        )  # fmt: skip
        for name, model in models.items():
            walks = _walks(model, pair[:10], 10)
            write(f"{name}.interpolated.png", walks, 10, "walks through the codes of two images")
    seconds = time.perf_counter() - begin
    if as_json:
        click.echo(json.dumps({"seconds": round(seconds, 1), "files": made}, indent=2))
        return
    table = _table("file", "what it shows")
    for row in made:
        table.add_row(row["file"], row["what"])
    _print(table)
    click.echo(f"{len(made)} pictures by {len(names)} models in {seconds:.1f} s. Open one!")


# -- plumbing ------------------------------------------------------------------------------------


def _read(model: "ZooModel", sources: tuple[Path, ...], strict: bool):
    """The pictures of ``sources``, or some of the embedded sample; what was skipped is said."""
    from zoo.images import Pictures, read_pictures

    if not sources:
        from zoo.sample import sample

        images = model.preprocess(sample()[0][:30])
        return Pictures(images, [Path(f"sample/{i}") for i in range(len(images))])
    pictures = read_pictures(sources, model.preprocessing, strict=strict, progress=_track)
    if pictures.skipped:
        click.echo(f"{len(pictures.skipped)} files skipped:", err=True)
        for path, reason in pictures.skipped[:20]:
            click.echo(_printable(f"  {path}: {reason}"), err=True)
        if len(pictures.skipped) > 20:
            click.echo(f"  and {len(pictures.skipped) - 20} more", err=True)
    return pictures


def _track(paths: list[Path]):
    """A progress bar on a terminal, for more files than one notices."""
    if len(paths) < 200 or not sys.stderr.isatty():
        return paths
    from rich.console import Console
    from rich.progress import track

    return track(paths, "reading", console=Console(stderr=True))


def _report(as_json: bool, text: str, **facts: Any) -> None:
    click.echo(json.dumps(facts, indent=2) if as_json else text)


def _warn_of_faults() -> None:
    from zoo.registry import registry

    for plugin in registry().plugins:
        if plugin.fault:
            word = "failed to load" if plugin.fault.fatal else "is slow to load"
            click.echo(
                _printable(f"The plugin {plugin} {word}: {plugin.fault}. More: zoo plugins"),
                err=True,
            )


def _table(*columns: str, show_header: bool = True):
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=show_header, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    # Not a terminal (a pipe, a file): rich's 80 columns would break names in two.
    width = None if sys.stdout.isatty() else 140
    Console(width=width, highlight=False, markup=False).print(table)


def _printable(text: str) -> str:
    """``text`` without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _size(shape: Any) -> str:
    return " x ".join(map(str, shape))


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"


if __name__ == "__main__":
    main()
