"""``zoo evaluate --verify``: measures the recorded figures again and compares them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zoo.boundary import typed
from zoo.errors import InputError, WeightsError
from zoo.evaluation.measurement import evaluate
from zoo.evaluation.parts import learnt_from
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.protocols import chosen_protocols
from zoo.folder import weights_record
from zoo.spec import Metric


@typed()
def verify(
    name: str,
    *,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocols: Iterable[str] | None = None,
    space: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
    advance: Callable[[str, float, float], None] = lambda what, done, total: None,
) -> list[dict[str, Any]]:
    """Measure again what the weights' metrics.json holds, without the baselines, and compare.

    An exact figure may differ by a thousandth of its value, one with a seed by 0.01 (or a
    hundredth, when it is above 1): libraries and processors differ by less.

    Args:
        name: what :func:`zoo.load` takes.
        data: the figures on these data only, such as the folder that a name in the record means.
        data_dir: where to look for named sets first.
        protocols: of these only; by default of all that gave a figure.
        space: the figures in this space only, of those that are in one; weights of a folder are
            called ``local-dir:FOLDER`` here, since the record does not say where they were.
        progress: called with a line for each protocol that starts.
        advance: as :func:`evaluate`.

    Returns:
        A row for each figure: ``name``, ``dataset``, ``recorded``, ``measured``, ``tolerance``.

    Raises:
        WeightsError: a figure is not what it was; the text names each, with both values.
        InputError: there is no such protocol, or nothing is recorded of it.
        ZooError: as :func:`evaluate`.
    """
    from zoo.api import loaded
    from zoo.sources import has_folder, locate

    if not has_folder(name):
        locate(name)  # which raises: it has none
    model = loaded(name)
    assert model.located is not None
    folder, config = model.located.folder, model.located.config
    recorded = list(weights_record(folder, "recorded", config).metrics)
    if data is not None:
        path = Path(data).resolve()
        recorded = [m for m in recorded if m.dataset in (path.name, path.stem)]
    wanted = chosen_protocols("all" if protocols is None else protocols)
    rows: list[dict[str, Any]] = []
    for how, again in _runs(recorded, wanted, space).items():
        result = evaluate(
            model,
            data=data or learnt_from(name, folder, how.data, config=config),
            data_dir=data_dir,
            protocols=list(again),
            seed=how.seed,
            samples=how.samples,
            space=how.space,
            with_baselines=False,
            write=False,
            progress=progress,
            advance=advance,
        )
        measured = {m["name"]: m["value"] for m in result["metrics"]}
        rows += [
            {
                "name": m.name,
                "dataset": how.data,
                "recorded": m.value,
                "measured": measured.get(m.name),
                "tolerance": tolerance(m),
            }
            for m in recorded
            if any(m in given for given in again.values())
        ]
    if not rows:
        raise InputError(
            f"{folder} records no figure of {', '.join(p.name for p in wanted)}"
            + (f" on {data}" if data else "")
            + ".\n"
            f"Type: zoo evaluate local-dir:{folder}"
        )
    _refuse_deviations(name, rows)
    return rows


def _refuse_deviations(name: str, rows: list[dict[str, Any]]) -> None:
    """Raises: WeightsError: a figure is not the recorded one, or was not measured at all."""
    wrong = [
        r
        for r in rows
        if r["measured"] is None or not abs(r["measured"] - r["recorded"]) <= r["tolerance"]
    ]
    if wrong:
        raise WeightsError(
            f"{len(wrong)} of {len(rows)} figures of {name} are not the recorded ones:\n"
            + "\n".join(
                f"  {r['name']} on {r['dataset']}: recorded {r['recorded']:.6g}, measured "
                + ("nothing" if r["measured"] is None else f"{r['measured']:.6g}")
                + f", tolerance {r['tolerance']:.2g}"
                for r in wrong
            )
        )


class _How(NamedTuple):
    """How a group of figures was measured, so that one :func:`evaluate` can measure them again."""

    data: str
    seed: int
    samples: int | None
    space: str | None


def _runs(
    recorded: Iterable[Metric], protocols: Iterable[Protocol], space: str | None = None
) -> dict[_How, dict[str, list[Metric]]]:
    """The recorded figures, by how they were measured and by protocol.

    Args:
        space: of figures in a space only those in this one.
    """
    called = None if space is None else _space_of(space)
    runs: dict[_How, dict[str, list[Metric]]] = {}
    recorded = list(recorded)
    for data in dict.fromkeys(m.dataset for m in recorded):
        for protocol in protocols:
            given = [m for m in recorded if m.dataset == data and protocol.has_given(m.name)]
            seed = next((m.seed for m in given if m.seed is not None), 0)
            for each, figures in _by_space(protocol, given).items():
                if each is not None and called not in (None, each):
                    continue
                if called is None and each and "@" in each and not each.startswith("hf-hub:"):
                    raise InputError(
                        f"figures in the features of {each} are recorded, the weights of a folder "
                        "whose place is not: name it with --space local-dir:FOLDER, or name other "
                        "protocols than distances"
                    )
                how = _How(data, seed, _samples(protocol, figures), space if called else each)
                runs.setdefault(how, {})[protocol.name] = figures
    return runs


def _by_space(protocol: Protocol, given: list[Metric]) -> dict[str | None, list[Metric]]:
    if not protocol.in_a_space:
        return {None: given} if given else {}
    spaces: dict[str | None, list[Metric]] = {}
    for metric in given:
        spaces.setdefault(metric.name.partition("_in_")[2], []).append(metric)
    return spaces


def _samples(protocol: Protocol, figures: list[Metric]) -> int | None:
    """What ``samples`` figures were measured with; None for the protocol's own number."""
    if not protocol.samples:
        return None
    made = [m.samples for m in figures if m.name != "generated_1nn"]  # which counts test images
    return None if not made or made[0] == protocol.own_samples else made[0]


def _space_of(name: str) -> str:
    """The end of the names of figures in the space that a user names."""
    from zoo.evaluation.distances import open_space

    return open_space(name, (1, 1, 1)).name


def tolerance(metric: Metric) -> float:
    """How far a figure that is measured again may be from the recorded one."""
    if metric.seed is None:
        return max(1e-3 * abs(metric.value), 5e-6)  # the first records have five decimals
    return 0.01 * max(1.0, abs(metric.value))
