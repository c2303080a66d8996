"""``zoo list``, ``zoo info`` and ``zoo plugins``."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.shared import (
    as_json,
    new_table,
    print_json,
    print_table,
    printable,
    size,
    warn_of_faults,
)
from zoo.installing import install_plugins_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.spec import ModelSpec


@click.command("list")
@click.argument("pattern", default="*")
@as_json
def list_command(pattern: str, as_json: bool) -> None:
    """List models; PATTERN is shell-style ("*ae*")."""
    rows = [_row(name, zoo.info(name)) for name in zoo.list_models(pattern)]
    rows += _prefix_rows(pattern)
    if as_json:
        print_json(rows)
    elif rows:
        table = new_table("model", "weights", "family", "image", "code", "what it is")
        for row in rows:
            table.add_row(
                row["name"],
                "\n".join(row["weights"]) or "-",
                row["family"],
                size(row["image_shape"] or "-"),
                size(row["code_shape"] or "-"),
                row["summary"] + (f" ({row['example']})" if "example" in row else ""),
            )
        print_table(table)
    elif pattern == "*":
        click.echo(
            f"No model is installed: they come in plugins.\nType: {install_plugins_command()}"
        )
    else:
        click.echo(f"No model matches {pattern!r}. There are: {', '.join(zoo.list_models())}")
    warn_of_faults()


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


def _options(spec: "ModelSpec") -> "Iterator[str]":
    """What ``zoo generate --set`` takes, a line each."""
    for name, option in spec.generate_options.items():
        text = f"{name}={option.default}: {option.expected}"
        yield f"{text}; {option.summary}" if option.summary else text


def _prefix_rows(pattern: str) -> list[dict[str, Any]]:
    """A row for each prefix that a plugin owns: its models are too many to be listed."""
    from zoo.registry import registry

    rows: list[dict[str, Any]] = [
        {
            "name": f"{prefix.name}:...",
            "family": prefix.family,
            "summary": prefix.summary,
            "image_shape": None,
            "code_shape": None,
            "weights": [],
            "default_tag": None,
            "example": prefix.example,
        }
        for _, prefix in registry().prefixes()
    ]
    return [row for row in rows if fnmatchcase(row["name"], pattern)]


def _prefix_info(name: str, as_json: bool) -> None:
    from zoo.registry import registry

    plugin, prefix = registry().find_prefix(name)
    if as_json:
        print_json(prefix.to_dict())
        return
    facts = new_table("", "", show_header=False)
    for label, value in (
        ("names", f"{name}:..., such as {prefix.example}"),
        ("what it is", prefix.summary),
        ("plugin", plugin.distribution),
        ("paper", prefix.paper or "-"),
        ("library", prefix.url or "-"),
        ("can", ", ".join(prefix.capabilities) or "differs from name to name"),
    ):
        facts.add_row(label, value)
    print_table(facts)
    if not prefix.recommended:
        return
    table = new_table("recommended", "parameters", "licence", "labels", "learnt from")
    for each in sorted(prefix.recommended, key=lambda each: each.parameters):
        table.add_row(
            each.name,
            f"{each.parameters / 1e6:.1f} M",
            each.licence,
            "with" if each.labels else "without",
            each.learnt,
        )
    print_table(table)


@click.command()
@click.argument("name")
@as_json
def info(name: str, as_json: bool) -> None:
    """Show the record of a model, with its weights and what they measured.

    Of a repository on the Hub (hf-hub:org/name) it shows what that says, and fetches no tensors. Of
    a prefix alone (timm:) it shows which of its names are worth a try.
    """
    from zoo.names import HubName
    from zoo.registry import registry
    from zoo.sources import parse

    if name.endswith(":") and name[:-1] in registry().prefix_names():
        return _prefix_info(name[:-1], as_json)
    parsed = parse(name)
    if isinstance(parsed, HubName):
        from zoo.cli import hub

        return hub.info(parsed.repo, parsed.revision, as_json)
    spec = zoo.info(name)
    if as_json:
        print_json(spec.to_dict())
        return
    facts = new_table("", "", show_header=False)
    for label, value in (
        ("model", spec.name),
        ("what it is", spec.summary),
        ("family", spec.family),
        ("paper", spec.paper or "-"),
        ("image (C x H x W)", size(spec.image_shape)),
        ("code", size(spec.code_shape) or "-"),
        ("can", ", ".join(spec.capabilities)),
        ("generate takes", "\n".join(_options(spec)) or "-"),
        ("config", ", ".join(f"{k}={v}" for k, v in spec.config.items()) or "-"),
        ("built by", spec.builder),
    ):
        facts.add_row(label, str(value))
    print_table(facts)
    if not spec.weights:
        return
    from zoo.report.leaderboard import COLUMNS

    table = new_table("weights", "data", "parameters", "sha256", "measured on the test part")
    for w in spec.weights:
        default = " (default)" if w.tag == spec.default_tag and len(spec.weights) > 1 else ""
        shown = [m for m in w.metrics if m.name in COLUMNS] or list(w.metrics[:8])
        figures = [f"{m.name} {m.value:.5g}" for m in shown] or ["-"]
        if more := len(w.metrics) - len(shown):
            figures.append(f"and {more} more: zoo card {spec.name}.{w.tag}")
        table.add_row(
            f"{spec.name}.{w.tag}{default}",
            w.dataset,
            f"{w.parameters:,}",
            w.sha256[:12],
            "\n".join(figures),
        )
    print_table(table)


@click.command()
@click.option("--traceback", is_flag=True, help="Show where each failed plugin failed.")
@as_json
def plugins(traceback: bool, as_json: bool) -> None:
    """List plugins, and what is wrong with those that failed."""
    from zoo.registry import registry

    found = registry().plugins
    broken = registry().broken_weights()
    if as_json:
        print_json(
            [
                {
                    "distribution": p.candidate.distribution,
                    "version": p.candidate.version,
                    "entry_point": p.candidate.entry_point,
                    "module": p.candidate.module,
                    "models": [spec.name for spec in p.specs],
                    "prefixes": [prefix.name for prefix in p.prefixes],
                    "broken_weights": {name: str(why) for of, name, why in broken if of is p},
                    "fault": p.fault
                    and {
                        "stage": p.fault.stage,
                        "fatal": p.fault.fatal,
                        "exception": type(p.fault.exception).__name__,
                        "message": p.fault.message,
                    },
                }
                for p in found
            ]
        )
        return
    if not found:
        click.echo(f"No plugin is installed. Type: {install_plugins_command()}")
        return
    table = new_table("plugin", "version", "entry point", "models", "state")
    for p in found:
        c = p.candidate
        names = [s.name for s in p.specs] + [f"{prefix.name}:..." for prefix in p.prefixes]
        table.add_row(
            c.distribution, c.version, f"{c.entry_point} = {c.module}", ", ".join(names) or "-",
            printable(str(p.fault)) if p.fault else "ok",
        )  # fmt: skip
    print_table(table)
    for plugin, name, why in broken:
        text = f"The weights {name} of {plugin.distribution} cannot be used: {why}"
        click.echo(printable(text), err=True)
    if traceback:
        import traceback as tb

        for p in found:
            if p.fault:
                click.echo(f"\n{p}\n" + printable("".join(tb.format_exception(p.fault.exception))))
