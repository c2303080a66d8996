"""Many machines: what one machine does with a few files, done in the processes of a Ray cluster.

Paths go to them; hashes, sizes, reasons and features come back, in the order of the files. Each
process has the model once. Who lists, settles and writes is the machine that was asked, so that a
collection is the same whoever computed it, and one engine goes on where another stopped. All
machines have to see the pictures under the same paths.
"""

import contextlib
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

import zoo
from zoo.collection.entries import Entry
from zoo.collection.models import loaded
from zoo.collection.pipeline import BYTES, Batch, Pipeline, Work, finite
from zoo.collection.store import MEASURES, SMALL, Store
from zoo.errors import CollectionError
from zoo.optional import optional

if TYPE_CHECKING:
    from zoo.model import ZooModel

__all__ = ["Cluster", "Embed"]

FILES = 128
"""Files that a process gets at once."""
AHEAD = 3
"""How many times as many files each process may be ahead of what is settled."""
THREADS = 2
"""That decode in each process: there is a process for each processor already."""
OBJECTS = 200_000_000
"""Bytes that a cluster which is started here keeps results in."""
ANSWERS_WITHIN = 10
"""Seconds that a cluster has to answer when it is first asked."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_worker_register_timeout_seconds": "180",
}
"""Of a cluster that is started here: it tells nobody that it was, and may start slowly where other
programs run."""


class Embed:
    """A model that looks at pictures by their paths: for ``dataset.map_batches`` of Ray Data.

    >>> dataset = ray.data.from_items([{"path": path} for path in paths])
    >>> dataset.map_batches(Embed, fn_constructor_args=("simclr.cifar10",), concurrency=2)

    Args:
        name: of the model, which is loaded when the first batch is there.
        preprocessing: how pictures become images, as a collection keeps it; by default as the
            weights say.
        expected: what :func:`zoo.collection.indexing.identity` says of the model that is meant,
            the version of the zoo, and the precision to compute in, float32 without one.
        known: sorted sha256 of contents that need not be decoded, as ``S32``.
    """

    def __init__(
        self,
        name: str,
        preprocessing: Mapping[str, Any] | None = None,
        expected: Mapping[str, Any] | None = None,
        known: np.ndarray | None = None,
    ):
        self.name, self.preprocessing, self.expected = name, preprocessing, expected
        self.known = np.zeros(0, "S32") if known is None else known

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Of the column ``path``, a row a path: what was found, and ``features``.

        Where a picture could not be read, ``reason`` says why, and the features are NaN.
        """
        paths = [str(path) for path in batch["path"]]
        (whole,) = _together(self.look([*map(_entry, paths)]))
        return {**batch, **_columns(whole)}

    def ready(self) -> None:
        """Load the model now.

        Raises:
            CollectionError: it is not the one that is meant.
        """
        _ = self._pipeline

    def look(self, entries: list[Entry]) -> list[Batch]:
        """What one machine's pipeline makes of some files or members of archives."""
        return [
            Batch([replace(each, entry=_named(each.entry)) for each in batch.seen], batch.values)
            for batch in self._pipeline(entries)
        ]

    @cached_property
    def _pipeline(self) -> Pipeline:
        model = loaded(self.name, self.preprocessing)
        self._refuse_another(model)
        model._precision = (self.expected or {}).get("precision", "fp32")
        _to_gpu(model)
        work = Work(model.preprocessing, self._is_known, measured=True)
        return Pipeline(model.features, work, THREADS)

    def _refuse_another(self, model: "ZooModel") -> None:
        """Raises: CollectionError: this machine has other weights, or another version."""
        from zoo.collection.indexing import identity

        expected = self.expected or {}
        for key, has in {"sha256": identity(model)["sha256"], "zoo": zoo.__version__}.items():
            if expected.get(key) not in (None, has):
                raise CollectionError(
                    f"{self.name} has {key} {has} on one machine of the cluster, and "
                    f"{expected[key]} on the one that asks: install the same on both"
                )

    def _is_known(self, digest: bytes) -> bool:
        wanted = np.array([digest], "S32")
        at = int(np.searchsorted(self.known, wanted)[0])
        return at < len(self.known) and bool(self.known[at] == wanted[0])


class Cluster:
    """The processes of a Ray cluster, one for each GPU, or for each processor if there is none.

    Args:
        address: of a cluster's head, such as ``"10.0.0.1:6379"``; None is the one that the
            environment names, or else one of this machine alone, which ends with the ``with``.

    Raises:
        MissingDependency: Ray is not installed.
        CollectionError: there is no cluster at ``address``.
    """

    def __init__(self, address: str | None = None):
        self.ray: Any = optional("ray", "Ray", "ray")
        self._ours = not self.ray.is_initialized()
        if self._ours:
            self._connect(address)

    def _connect(self, address: str | None) -> None:
        started: dict[str, Any] = {}
        variables = {}
        if address is None and not os.environ.get("RAY_ADDRESS"):
            started = {"include_dashboard": False, "object_store_memory": OBJECTS}
            variables = ENVIRONMENT
        try:
            _try(address or os.environ.get("RAY_ADDRESS") or "")
            with _environment(variables):
                self.ray.init(
                    address or (None if not started else "local"),
                    log_to_driver=False, logging_level="error", **started,
                )  # fmt: skip
        except Exception as error:  # Ray's own, of a start that takes too long, has no kind
            said = " ".join(str(error).split())[:200]
            raise CollectionError(
                f"no Ray cluster at {address or 'this machine'}: {said}. Type: ray status "
                "--address HOST:PORT, which says what is wrong (if that is the token, set "
                "RAY_AUTH_MODE=token), or leave --address out for this machine alone"
            ) from error

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        if self._ours:
            self.ray.shutdown()

    def __call__(
        self, store: Store, known: np.ndarray
    ) -> Callable[[Iterable[Entry]], Generator[Batch]]:
        """What looks at entries with the model of a collection, whose contents are ``known``."""
        facts = store.manifest.model
        name = facts["name"]
        if facts["weights"]:
            name = f"local-dir:{os.path.abspath(store.folder / facts['weights'])}"
        told: dict[str, Any] = {
            key: value for key, value in facts.items() if key in ("sha256", "precision")
        }
        expected = {**told, "zoo": zoo.__version__}
        given = (name, store.manifest.preprocessing, expected, self.ray.put(known))
        return lambda entries: self._looked(entries, given)

    def _looked(self, entries: Iterable[Entry], given: tuple[Any, ...]) -> Generator[Batch]:
        crew = _Crew(self.ray, given)
        try:
            for chunk in _chunks(entries):
                crew.give(chunk)
                while len(crew.tasks) > AHEAD * len(crew.actors):
                    yield from crew.next()
            while crew.tasks:
                yield from crew.next()
        finally:
            crew.dismiss()


def _try(address: str) -> None:
    """Connect once to HOST:PORT or ray://HOST:PORT: Ray itself would try for minutes.

    Raises: OSError.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN):
            pass


@dataclass(eq=False)
class _Task:
    """Some files that a process has."""

    entries: list[Entry]
    actor: Any
    result: Any


class _Crew:
    """The processes that are left, and what they have to do, in order.

    Who has loaded the model is given work, and nobody waits for the others: a machine that is lost
    while it starts has nothing to be done again.
    """

    def __init__(self, ray: Any, given: tuple[Any, ...]):
        self.ray = ray
        self.tasks: deque[_Task] = deque()
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        count = gpus or max(1, int(resources.get("CPU", 1)))
        remote = ray.remote(Embed).options(num_cpus=1, num_gpus=1 if gpus else 0)
        started = [remote.remote(*given) for _ in range(count)]
        self.starting = {actor.ready.remote(): actor for actor in started}
        self.actors: list[Any] = []

    def give(self, entries: list[Entry]) -> None:
        self._admit()
        actor = self._freest()
        self.tasks.append(_Task(entries, actor, actor.look.remote(entries)))

    def next(self) -> list[Batch]:
        """What came out of the first of the tasks, whoever had to do it again.

        Raises:
            CollectionError: it failed, or no process is left.
        """
        while True:
            task = self.tasks[0]
            found: list[Batch] | None = self._got(task.result, task.actor)
            if found is not None:
                self.tasks.popleft()
                return found
            self._again(task.actor)

    def dismiss(self) -> None:
        """End the processes, whatever they are at."""
        for actor in [*self.actors, *self.starting.values()]:
            self.ray.kill(actor)

    def _admit(self) -> None:
        """Those that have loaded the model meanwhile join; if there is none yet, wait for one.

        Raises:
            CollectionError: none is left.
        """
        while self.starting:
            wait = 0 if self.actors else None
            ready, _ = self.ray.wait([*self.starting], num_returns=1, timeout=wait)
            if not ready:
                return
            actor = self.starting.pop(ready[0])
            self.actors.append(actor)
            self._got(ready[0], actor)

    def _got(self, result: Any, actor: Any) -> Any:
        """A result; None if the process was lost, which is left out from then on."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(result)
        except (errors.RayActorError, errors.ObjectLostError) as error:
            self.actors = [each for each in self.actors if each is not actor]
            if not self.actors and not self.starting:
                raise CollectionError(
                    f"no machine of the cluster is left: {' '.join(str(error).split())[:200]}. "
                    "Type the same again: it goes on where it was"
                ) from None
        except errors.RayTaskError as error:
            cause = error.cause
            raise CollectionError(
                f"a process of the cluster failed: {type(cause).__name__}: {cause}"
            ) from None
        return None

    def _freest(self) -> Any:
        """The process that has least to do."""
        results = [task.result for task in self.tasks]
        under_way: set[Any] = set()
        if results:
            under_way = {*self.ray.wait(results, num_returns=len(results), timeout=0)[1]}
        busy = Counter(task.actor for task in self.tasks if task.result in under_way)
        return min(self.actors, key=lambda actor: busy[actor])

    def _again(self, lost: Any) -> None:
        """Give what a lost process had to the others."""
        self._admit()
        for task in self.tasks:
            if task.actor is lost:
                task.actor = self._freest()
                task.result = task.actor.look.remote(task.entries)


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Files for one process at a time; of archives' members, a bounded number of bytes."""
    chunk: list[Entry] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) >= FILES or sum(len(each.data or b"") for each in chunk) >= BYTES // 4:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _named(entry: Entry) -> Entry:
    """An entry without its bytes, which need not travel back."""
    return entry if entry.data is None else replace(entry, data=None)


def _entry(path: str) -> Entry:
    size = 0
    with contextlib.suppress(OSError, ValueError):  # the pipeline says why it cannot be read
        size = os.path.getsize(path)
    return Entry(0, "", path, size, 0)


def _together(batches: list[Batch]) -> list[Batch]:
    import torch

    values = [batch.values for batch in batches if batch.values is not None]
    seen = [each for batch in batches for each in batch.seen]
    return [Batch(seen, torch.cat(values) if values else None)]


def _columns(batch: Batch) -> dict[str, Any]:
    """A batch as columns, as Ray Data has them."""
    values = np.zeros((0, 0)) if batch.values is None else finite(batch.values.numpy())
    decoded = np.array([each.decoded for each in batch.seen], bool)
    features = np.full((len(decoded), values.shape[1]), np.nan, np.float32)
    features[decoded] = values
    small = np.zeros((len(decoded), SMALL, SMALL, 3), np.uint8)
    for row, each in enumerate(batch.seen):
        if each.small is not None:
            small[row] = each.small
    facts = ("hash", "bytes", "width", "height", "orientation", "reason")
    return {
        **{name: [getattr(each, name) for each in batch.seen] for name in facts},
        **{name: [(each.measures or {}).get(name) for each in batch.seen] for name in MEASURES},
        "features": features,
        "small": small,
    }


def _to_gpu(model: "ZooModel") -> None:
    """Ray shows a process the one GPU that is its own, and no other."""
    import torch

    if torch.cuda.is_available():
        model.to("cuda")


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables as they have to be while a cluster is started, unless a person set them."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
