"""``zoo convert``: a model's call as an ONNX or torch.export file."""

from pathlib import Path

import click

from zoo.cli.shared import UserPath, as_json, refuse_loss, report


@click.command()
@click.argument("name")
@click.option(
    "--to",
    required=True,
    type=click.Choice(["onnx", "pt2"]),
    help="ONNX, or torch.export's own.",
)
@click.option(
    "--out",
    required=True,
    type=UserPath(dir_okay=False),
    help="The file to write.",
)
@click.option(
    "--what",
    default="features",
    show_default=True,
    type=click.Choice(["features", "encode", "decode", "reconstruct"]),
    help="The call to write.",
)
@as_json
def convert(name: str, to: str, out: Path, what: str, as_json: bool) -> None:
    """Write a call of a model as a file that runs without the zoo.

    It takes batches of any size, and is compared with the model before it is put in place.
    """
    from zoo.converting import convert

    refuse_loss(out, f".{to}")
    done = convert(name, out, to=to, what=what)
    vectors = f"{done.recorded} recorded and " if done.recorded else ""
    report(
        as_json,
        f"{what} of {name} in {out}: {done.inputs} to {done.outputs}\n"
        f"run on {vectors}{done.drawn} random inputs: at most {done.deviation:.2g} of the "
        "tolerance away from the model",
        out=str(out),
        to=to,
        what=what,
        inputs=done.inputs,
        outputs=done.outputs,
        recorded=done.recorded,
        drawn=done.drawn,
        deviation=done.deviation,
    )
