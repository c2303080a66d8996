"""``evaluate``: runs the protocols on a model and its data, one after the other."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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

if TYPE_CHECKING:
    from zoo.api import Loaded
    from zoo.sources import Located

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
    name: "str | Loaded",
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
    fit: str | None = None,
    background: float | None = None,
    progress: Callable[[str], None] = lambda line: None,
    advance: Callable[[str, float, float], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure a model on the test part of a data set.

    What cannot be measured, for want of a library or of labels, is known before anything is.

    Args:
        name: what :func:`zoo.load` takes, or what :func:`zoo.api.loaded` returned for it.
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
        fit, background: how pictures are made into images, in another way than the weights say, as
            :func:`zoo.load` takes them. Figures of another way are not kept.
        progress: called with a line for each protocol that starts or is left out, and with what is
            to be said of the data.
        advance: called with what is going on, how much of it is done, and of how much, for all that
            may take longer than seconds.

    Returns:
        What metrics.json holds: ``data``, ``seed``, ``metrics`` (records with their seconds),
        ``left_out`` (protocols with the reason why they were not run) and ``versions``.

    Raises:
        InputError: there is no such protocol or space, or the weights do not say where the data
            are that they were trained on.
        MissingDependency: a library that a protocol needs which was named; the text has them all.
        CapabilityError: nothing could be measured at all; the text has each reason.
        ZooError: as :func:`zoo.load` and :func:`zoo.data.load_data`.
    """
    from zoo.api import Loaded, loaded

    chosen = chosen_protocols(protocols)
    named = frozenset() if protocols is None else protocol_names(protocols) - {"all"}
    name, model, located = name if isinstance(name, Loaded) else loaded(name)
    if located is None and (data is None or against is not None):
        raise InputError(
            f"{name} has no weights folder that says what it was trained on"
            + (": leave --against out" if against else f"; type: zoo evaluate {name} --data SET")
        )
    model.prepare(fit=fit, background=background)
    as_recorded = fit is None and background is None
    kept = located if write and as_recorded and name.startswith("local-dir:") else None
    if kept is not None:
        refuse_cache(kept.folder)
        read_record(kept.folder, kept.config)  # a damaged file is found now, not at the end
    chosen, left_out = possible_protocols(chosen, named, model, name, with_baselines)
    for out in left_out:
        progress(f"left out {out['protocol']}: {out['reason']}")
    where = chosen_space(space, chosen, model)
    require_samples(samples, chosen)
    other = None if against is None else loaded(f"local-dir:{against}")  # which may not be there
    if data is None and located is not None:
        data = learnt_from(name, located.folder, config=located.config)
    train, test = train_and_test(
        model, str(data), data_dir, seed, partial(advance, "reading pictures")
    )
    notes = [*test.remarks, *train.remarks]
    if any(protocol.labels for protocol in chosen):
        notes += filter(None, map(unlabelled_note, (train, test)))
    for note in dict.fromkeys(notes):
        progress(note)
    # The figures may be published, and the path of a folder should not be.
    called = model.record.name if name.startswith("local-dir:") else model.name
    context = Context(
        model, called, train, test, seed, with_baselines,
        samples=samples, space=where, named=named, advance=advance,
    )  # fmt: skip
    measurement = _Measurement(context, kept, chosen, left_out, progress)
    measurement.run_protocols()
    if located is not None and other is not None:
        measurement.compare(located, other)
    if not measurement.metrics:
        raise CapabilityError(
            f"nothing of {name} could be measured on {test.name}:\n"
            + "\n".join(f"  {out['protocol']}: {out['reason']}" for out in left_out)
        )
    measurement.update_card()
    return measurement.result()


@dataclass
class _Measurement:
    """What one call of :func:`evaluate` has measured so far, and where it is kept."""

    context: Context
    kept: "Located | None"
    """The weights folder whose metrics.json and card are kept up to date, if they are."""
    chosen: list[Protocol]
    left_out: list[dict[str, str]]
    progress: Callable[[str], None]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """The names, shell-style, of what was measured."""

    def run_protocols(self) -> None:
        """Run each protocol that suits the model and the data, and write its figures at once."""
        suited = []
        for protocol in self.chosen:
            if reason := why_unsuited(protocol, self.context):
                self._leave_out(protocol, reason)
            else:
                suited.append(protocol)
        for protocol in suited:
            self.progress(f"{protocol.name}: {protocol.summary}")
            try:  # of one that is measured in a space, figures in other spaces stay
                self._run(protocol.run, *(() if protocol.in_a_space else protocol.gives))
            except (ProtocolSkipped, MissingDependency) as error:
                self._leave_out(protocol, str(error))
            self._keep()
        self._keep()

    def compare(self, located: "Located", other: "Loaded") -> None:
        """The squared error of another recipe's weights beside that of ``located``."""
        from zoo.evaluation.reconstruction import measure_against

        assert other.located is not None
        self.progress(f"against: squared error of {other.located.folder}")
        measure = partial(
            measure_against,
            config=located.config,
            model=other.model,
            other=other.located.config,
        )
        self._run(measure, "sse_ablated")
        self._keep()

    def result(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return {
            "data": self.context.test.name,
            "seed": self.context.seed,
            "metrics": self.metrics,
            "left_out": self.left_out,
            "versions": current_versions(),
        }

    def update_card(self) -> None:
        """The card shows the figures; one that somebody else wrote stays as it is."""
        from zoo.report.card import is_card, write_card

        if self.kept is None:
            return
        card = self.kept.folder / CARD
        if is_card(card):
            write_card(self.kept.folder)
        elif card.exists():
            self.progress(f"{card} is not a card that the zoo wrote, so it stays as it is")

    def _run(self, measure: Callable[[Context], Iterator[Figure]], *gives: str) -> None:
        for record in metric_records(measure(self.context), self.context.test):
            self.metrics.append(record)
        self.done.extend(gives)

    def _leave_out(self, protocol: Protocol, reason: str) -> None:
        self.left_out.append({"protocol": protocol.name, "reason": reason})
        self.progress(f"left out {protocol.name}: {reason}")

    def _keep(self) -> None:
        if self.kept is None or not self.metrics:
            return
        folder = self.kept.folder
        again = {p.name for p in self.chosen} | {out["protocol"] for out in self.left_out}
        with holding(folder):  # another may have written since this one began
            before = read_record(folder, self.kept.config)
            write_json(folder / METRICS, merged(before, self.result(), self.done, again))
