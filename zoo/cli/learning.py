"""Training."""

import json
from pathlib import Path
from typing import Any

import click

import zoo
from zoo.cli.shared import as_json, minutes, report, seed, strict
from zoo.errors import InputError


@click.command()
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

    def show(line: dict[str, Any]) -> None:
        losses = {
            k: v for k, v in line.items() if isinstance(v, float) and not k.startswith("seconds")
        }
        click.echo(
            f"{line['phase']} {line['epoch']}/{line['of']}  "
            + "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            + f"  {line['images_per_second']:,} images/s  {minutes(line['seconds_left'])} left",
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
        report=show,
    )
    trained = json.loads((weights / "config.json").read_text("utf-8"))["training"]
    skipped = f" ({trained['skipped']} files skipped)" if trained["skipped"] else ""
    report(
        as_json,
        f"trained on {trained['images']:,} images{skipped} in {minutes(trained['seconds'])}; "
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
