"""What is shown to others: cards and tables of the figures."""

from pathlib import Path

import click


@click.command()
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
