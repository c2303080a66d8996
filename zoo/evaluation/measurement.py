"""One measurement: a model, its data, and the protocols that are run in turn."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

from zoo.boundary import typed
from zoo.errors import CapabilityError, InputError, MissingDependency
from zoo.evaluation.parts import learnt_from, train_and_test, unlabelled_note
from zoo.evaluation.protocol import Context, Figure, Protocol, ProtocolSkipped
from zoo.evaluation.protocols import (
    chosen_protocols,
    chosen_space,
    possible_protocols,
    protocol_names,
    require_samples,
    why_unsuited,
)
from zoo.evaluation.record import (
    current_versions,
    merged,
    metric_records,
    read_record,
    refuse_cache,
)
from zoo.files import write_json
from zoo.folder import CARD, METRICS
from zoo.locks import holding

T = TypeVar("T")


def _in_isolation(call: Callable[..., T]) -> Callable[..., T]:
    """``call`` under :func:`zoo.isolation.isolated`, which is not imported before it runs."""

    @wraps(call)
    def wrapped(*args: Any, **kwargs: Any) -> T:
        from zoo.isolation import isolated

        with isolated():
            return call(*args, **kwargs)

    return wrapped


@typed()
@_in_isolation
def evaluate(
    name: str,
    *,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocols: Iterable[str] | None = None,
    seed: int = 0,
    against: str | Path | None = None,
    samples: int | None = None,
    space: str | None = None,
    with_baselines: bool = True,
    write: bool = True,
    progress: Callable[[str], None] = lambda line: None,
    advance: Callable[[str, float, float], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure a model on the test part of a data set.

    What cannot be measured, for want of a library or of labels, is known before anything is.

    Args:
        name: what :func:`zoo.load` takes.
        data: what :func:`zoo.data.load_data` takes; by default what the weights were trained on.
            A folder without parts is split four to one by ``seed``.
        data_dir: where to look for a named set first.
        protocols: keys of :data:`PROTOCOLS`, or ``"all"``; by default the standard ones.
        seed: of everything random.
        against: the weights folder of the same model trained with another recipe; its squared
            error is measured beside, and the difference of recipes is its protocol.
        samples: how many images a generator makes to be measured; by default as each protocol
            says, up to 50,000.
        space: where generated images are compared with test images by the protocol ``distances``:
            ``pixels``, ``pca`` (the default), or the name of a model that has features.
        with_baselines: whether baselines are measured too, which takes most of the time.
        write: keep metrics.json of a ``local-dir:`` folder up to date after each protocol; figures
            of other protocols stay in it.
        progress: called with a line for each protocol that starts or is left out, and with what is
            to be said of the data.
        advance: called with what is going on, how much of it is done, and of how much, for all that
            may take longer than seconds.

    Returns:
        What metrics.json holds: ``data``, ``seed``, ``metrics`` (records with their seconds),
        ``left_out`` (protocols with the reason why they were not run) and ``versions``.

    Raises:
        InputError: there is no such protocol or space, or the weights do not say where the data
            are that they learnt from.
        MissingDependency: a library that a protocol needs which was named; the text has them all.
        CapabilityError: nothing could be measured at all; the text has each reason.
        ZooError: as :func:`zoo.load` and :func:`zoo.data.load_data`.
    """
    from zoo.api import load
    from zoo.report.card import is_card, write_card

    chosen = chosen_protocols(protocols)
    named = frozenset() if protocols is None else protocol_names(protocols) - {"all"}
    model = load(name)
    source = model.source
    if (source is None or source.folder is None) and (data is None or against is not None):
        raise InputError(
            f"{name} has no weights folder that says what it was trained on"
            + (": leave --against out" if against else f"; type: zoo evaluate {name} --data SET")
        )
    folder = (source and source.folder) or Path()
    write = write and name.startswith("local-dir:")
    if write:
        refuse_cache(folder)
        read_record(folder)  # what cannot be read is not found out at the end
    chosen, left_out = possible_protocols(chosen, named, model, name, with_baselines)
    for out in left_out:
        progress(f"left out {out['protocol']}: {out['reason']}")
    where = chosen_space(space, chosen, model)
    require_samples(samples, chosen)
    if against is not None:
        load(f"local-dir:{against}")  # which may not be there
    data = learnt_from(name, folder) if data is None else str(data)
    train, test = train_and_test(model, data, data_dir, seed, partial(advance, "reading pictures"))
    notes = [*test.remarks, *train.remarks]
    if any(protocol.labels for protocol in chosen):
        notes += filter(None, map(unlabelled_note, (train, test)))
    for note in dict.fromkeys(notes):
        progress(note)
    # A folder's path is nobody's business in what is published of it.
    called = model.record.name if name.startswith("local-dir:") else model.name
    context = Context(
        model, called, train, test, seed, with_baselines,
        samples=samples, space=where, named=named, advance=advance,
    )  # fmt: skip
    metrics: list[dict[str, Any]] = []
    done: list[str] = []  # the names, shell-style, of what was measured
    result = {"data": test.name, "seed": seed, "metrics": metrics, "left_out": left_out}

    def run(measure: Callable[[Context], Iterator[Figure]], *gives: str) -> None:
        for record in metric_records(measure(context), test):
            metrics.append(record)
        done.extend(gives)

    def keep() -> None:
        result["versions"] = current_versions()
        if write and metrics:
            again = {protocol.name for protocol in chosen} | {o["protocol"] for o in left_out}
            with holding(folder):  # another may have written since this one began
                write_json(folder / METRICS, merged(read_record(folder), result, done, again))

    def leave_out(protocol: Protocol, reason: str) -> None:
        left_out.append({"protocol": protocol.name, "reason": reason})
        progress(f"left out {protocol.name}: {reason}")

    suited = []
    for protocol in chosen:
        if reason := why_unsuited(protocol, context):
            leave_out(protocol, reason)
        else:
            suited.append(protocol)
    for protocol in suited:
        progress(f"{protocol.name}: {protocol.summary}")
        try:  # of one that is measured in a space, figures in other spaces stay
            run(protocol.run, *(() if protocol.in_a_space else protocol.gives))
        except (ProtocolSkipped, MissingDependency) as error:
            leave_out(protocol, str(error))
        keep()
    if against is not None:
        from zoo.evaluation.reconstruction import measure_against

        progress(f"against: squared error of {against}")
        run(partial(measure_against, folder=folder, other=Path(against)), "sse_ablated")
    keep()
    if not metrics:
        raise CapabilityError(
            f"nothing of {name} could be measured on {test.name}:\n"
            + "\n".join(f"  {out['protocol']}: {out['reason']}" for out in left_out)
        )
    card = folder / CARD
    if write and is_card(card):  # it shows the figures
        write_card(folder)
    elif write and card.exists():
        progress(f"{card} is not a card that the zoo wrote, so it stays as it is")
    return result
