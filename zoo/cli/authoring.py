"""``zoo new-plugin`` and ``zoo check``, for the authors of plugins."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.shared import UserPath, as_json, print_json, printable

if TYPE_CHECKING:
    from zoo.authoring import checking


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["autoencoder", "generator", "features"]),
    default="autoencoder",
    show_default=True,
    help="What its model does: all calls, generate alone, or encode and features.",
)
@click.option(
    "--out",
    type=UserPath(),
    help="The package's folder, new or empty.  [latentzoo-NAME]",
)
def new_plugin(name: str, kind: str, out: Path | None) -> None:
    """Write the package of a new plugin, with a small model that works.

    NAME is mine or latentzoo-mine. The package has the record, the model with its recipe, tests,
    an example for CI and a page for its card; its README says what to do next.
    """
    from zoo.authoring.scaffold import new_plugin as write

    folder = write(name, out, kind=kind)
    click.echo(
        printable(
            f"{folder} is a plugin of its own, with a model that works. Try:\n"
            f"  pip install --editable {folder}\n"
            f"  zoo check {folder}"
        )
    )


@click.command()
@click.argument("target")
@as_json
def check(target: str, as_json: bool) -> None:
    """Check a plugin, a model or a weights folder against the contract.

    \b
    TARGET is a plugin distribution (latentzoo-ae) or the folder of its project, a model
    (deep_ae: with all its weights), a model with weights (deep_ae.mnist), a weights folder,
    or a name such as hf-hub:org/name.

    A failure that the model's class declares, with a reason, is no fault. A check that does not
    apply (to a call that is not declared, or without weights) is listed with the reason. Exit code
    0 if all is well, 1 if a check found a fault, 2 if TARGET is unknown.
    """
    from zoo.authoring import checking

    counts: dict[str, int] = {}
    skipped: dict[tuple[str, str], list[str]] = {}

    def show(result: checking.Result) -> None:
        if result.name not in counts and sys.stderr.isatty() and not as_json:
            click.echo(printable(f"checking {result.name} ..."), err=True)
        counts[result.state] = counts.get(result.state, 0) + 1
        counts.setdefault(result.name, 0)
        quiet = (checking.PASSED, checking.NOT_APPLICABLE)
        if result.state == checking.NOT_APPLICABLE:
            skipped.setdefault((result.check, result.reason), []).append(result.name)
        if result.state not in quiet and not as_json:
            click.echo(printable(_result_text(result)) + "\n")

    results = checking.check(target, report=show)
    well = all(result.well for result in results)
    if as_json:
        states = {state: sum(r.state == state for r in results) for state in checking.STATES}
        whole = {"target": target, "well": well, "counts": states,
                 "results": [r.to_dict() for r in results]}  # fmt: skip
        print_json(whole)
    else:
        names = list(dict.fromkeys(result.name for result in results))
        for (check, reason), of in skipped.items():
            whose = "" if len(of) == len(names) else f" ({', '.join(of)})"
            click.echo(printable(f"not applicable: {check}, since {reason}{whose}"))
        said = ", ".join(f"{counts[state]} {state}" for state in checking.STATES if state in counts)
        click.echo(printable(f"{', '.join(names)}: {said}"))
    sys.exit(0 if well else 1)


def _result_text(result: "checking.Result") -> str:
    """What was expected, what was found and where to look, a line each."""
    lines = [f"{result.name}: {result.check} {result.state}", f"  expected  {result.expected}"]
    if result.got:
        got, *more = result.got.splitlines()
        lines += [f"  got       {got}", *(f"            {line}" for line in more)]
    if result.reason:
        lines.append(f"  reason    {result.reason}")
    if result.state == "passed after all":
        lines.append("  to do     take it out of expected_failures")
    if result.look and not result.well:
        lines.append(f"  look at   {result.look}")
    return "\n".join(lines)
