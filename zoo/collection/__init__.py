"""A collection: an index of a user's own pictures, which are never copied, moved or written to.

>>> collection = zoo.Collection.index("simclr.cifar10", ["photographs"], "index")
>>> collection.report.computed, len(collection)

Importing it imports nothing heavy.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.boundary import typed, user_path
from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from zoo.collection.duplicates import Duplicates
    from zoo.collection.grouping import Layer
    from zoo.collection.indexing import Engine, Report
    from zoo.collection.merging import Merged
    from zoo.collection.odd import Odd
    from zoo.collection.recognising import Recogniser
    from zoo.collection.store import Pictures
    from zoo.model import ZooModel

__all__ = ["Collection"]


class Collection:
    """A collection of pictures, as ``zoo index`` makes them.

    Args:
        folder: of the collection, or the address of one on a store of S3's protocol
            (``"s3://bucket/folder"``), of which a folder in this machine's cache is opened.

    Raises:
        CollectionError: there is none, it is damaged, or a newer zoo wrote it.
    """

    report: "Report | None" = None
    """What the update found and did, of a collection that comes from one."""
    merged: "Merged | None" = None
    """What a merge has done, of a collection that comes from one."""

    def __init__(self, folder: str | Path):
        from zoo.collection.store import Store

        with typed():
            self.store = Store.open(_folder(folder))

    @classmethod
    @typed()
    def index(
        cls,
        model: "ZooModel | str | None",
        sources: "Sequence[str | Path]",
        folder: str | Path,
        *,
        learn: bool = False,
        settings: Mapping[str, Any] | None = None,
        fit: str | None = None,
        background: float | None = None,
        report: "Callable[[dict[str, Any]], None]" = lambda line: None,
        progress: Callable[[int, int], None] | None = None,
        engine: str = "local",
        address: str | None = None,
    ) -> "Collection":
        """Make a collection, or bring one up to date.

        Args:
            model: with features, or its name; None takes the one that the collection was made
                with, and for a new one the best whose weights are installed.
            sources: folders, pictures, archives (zip, tar) and Parquet files, and addresses of
                object stores (``"s3://bucket/folder"``); those that the
                collection is of already are looked at as well.
            folder: of the collection, or its address on a store of S3's protocol; made if it is
                not there.
            learn: train ``model``, which is a name without a tag, on these pictures first, unless
                that was done. The weights stay in the collection.
            settings: over the recipe of that training.
            fit, background: how pictures are made into images of a model that is named, as
                :func:`zoo.load` takes them; by default as its weights say, and as before where
                there is a collection.
            report: is told of that training, as of :func:`zoo.train`.
            progress: is told how many of how many files are done.
            engine: ``"local"`` is this machine; ``"ray"`` the processes of a Ray cluster, which
                see the pictures under the same paths.
            address: of that cluster, ``"HOST:PORT"``; by default the one that the environment
                names, or else one that is started on this machine.

        Raises:
            CollectionError: the collection is of another model, in use, the cluster is not there or
                fails, or ``folder`` is a folder
                with other things.
            ImageError: a source is not there.
            FileError: the disk is full, or nothing can be written there.
        """
        from zoo.collection.indexing import refuse_foreign, update
        from zoo.collection.mirror import writing
        from zoo.collection.store import Store

        sources = [_source(source) for source in sources]
        _refuse_unknown(engine, address)
        with writing(folder) as here:
            refuse_foreign(here)
            with Store.writing(here):
                chosen = {"fit": fit, "background": background}
                if learn:
                    found = _learnt(model, sources, here, settings or {}, report, chosen)
                else:
                    found = _found(model, here, chosen)
                with _engine(engine, address) as made_by:
                    done = update(
                        here, found[0], sources,
                        progress=progress, weights=found[1], engine=made_by,
                    )  # fmt: skip
        made = cls(here)
        made.report = done
        return made

    @classmethod
    @typed()
    def merge(cls, collections: "Sequence[str | Path]", folder: str | Path) -> "Collection":
        """Make one collection of several that were made alike, such as by several machines.

        Rows and decisions are copied, and nothing is computed; groups are found anew by
        :meth:`group`. Of a file that several know, the content of its latest time counts.

        Args:
            collections: their folders, two or more, which stay as they are.
            folder: of the new collection, which is there whole or not at all.

        Raises:
            InputError: fewer than two are named, or one twice.
            CollectionError: one is no collection, was interrupted within an archive, or is of
                another model or another preparation of pictures; ``folder`` is there already.
            FileError: the disk is full, or nothing can be written there.
        """
        from zoo.collection.merging import merge
        from zoo.collection.mirror import refuse_stored

        named = [_folder(each) for each in collections]
        refuse_stored(folder)
        folder = user_path(folder, "the folder of the collection")
        done = merge(named, folder)
        made = cls(folder)
        made.merged = done
        return made

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.store.folder

    def __len__(self) -> int:
        """How many pictures are there and could be read."""
        return len(self.pictures())

    def __repr__(self) -> str:
        return f"Collection({str(self.folder)!r})"

    def pictures(self) -> "Pictures":
        """The pictures that are there and could be read: paths, hashes, sizes, measures."""
        return self.store.pictures()

    def features(self) -> "np.ndarray":
        """What the model makes of :meth:`pictures`, in their order: P x F float32."""
        return self.store.features(self.pictures().rows)

    def unread(self) -> list[tuple[str, str]]:
        """The files that could not be read, and why."""
        return self.store.unread()

    @typed()
    def group(
        self, number: int | None = None, *, seed: int = 0, anew: bool = False
    ) -> "list[Layer]":
        """Find groups of pictures that are alike, and keep them; as ``zoo group`` does.

        Args:
            number: of groups in the layer "middle"; None finds how many there are.
            seed: the same seed gives the same groups.
            anew: find groups as if there were none yet; else pictures that have a group stay in
                it, unless a quarter of all has come since.

        Returns:
            The layers "coarse", "middle" and "fine": of each of :meth:`pictures` the number of its
            group, -1 for what has few of its kind, and how sure that is.

        Raises:
            CollectionError: another command is writing to the collection.
            InputError: there are fewer pictures than ``number``.
        """
        from zoo.collection.derived import regroup

        return regroup(self.folder, number, seed, anew)

    def groups(self) -> "list[Layer]":
        """The layers of groups as they were found, and as a person merged and split them.

        The default layer, "middle", is the first; there are none before :meth:`group`.
        """
        from zoo.collection.opened import Opened

        return Opened(self.folder).layers

    def odd(self) -> "Odd":
        """How far each of :meth:`pictures` is from all others, and its nearest as the reason."""
        from zoo.collection.opened import Opened

        return Opened(self.folder).odd

    @typed()
    def name(
        self,
        name: str | None,
        pictures: "Sequence[str | Path]" = (),
        *,
        group: int | None = None,
        layer: str = "middle",
    ) -> None:
        """Name pictures, or a group, as ``zoo name`` does; on the disk once this returns.

        Args:
            name: None takes their names away.
            pictures: paths; they are known by their content.
            group: or the number of a group of ``layer``.

        Raises:
            InputError: there is no such picture or group, it is no name, or the collection is one
                of a store.
        """
        from zoo.collection.mirror import refuse_stored
        from zoo.collection.opened import Opened

        refuse_stored(self.folder)
        if bool(pictures) == (group is not None):
            raise InputError("name pictures or a group: expected one of both")
        Opened(self.folder).name(name, [Path(each) for each in pictures], group, layer)

    def names(self) -> list[tuple[str | None, float]]:
        """Of each of :meth:`pictures` its name, None without one, and how probable the name is.

        Without a name it is the probability of the likeliest.
        """
        from zoo.collection.opened import Opened

        naming = Opened(self.folder).naming
        return [(naming.of(i), float(each)) for i, each in enumerate(naming.probability)]

    @typed()
    def find(
        self,
        *pictures: str | Path,
        unlike: "Sequence[str | Path]" = (),
        words: str = "",
        number: int = 10,
    ) -> list[tuple[str, float]]:
        """The pictures that are most like some, or what words say: paths and cosines.

        Args:
            pictures: paths, of the collection or not.
            unlike: what they are not like.
            words: instead of pictures, where the model knows words.

        Raises:
            InputError: neither pictures nor words, or both.
            ImageError: a picture cannot be read.
            CapabilityError: the model knows no words.
        """
        from zoo.collection.finding import like, saying
        from zoo.collection.opened import Opened

        if bool(pictures) == bool(words):
            raise InputError("find by pictures or by words: expected one of both")
        opened = Opened(self.folder)
        if words:
            found = saying(opened, words, number)
        else:
            unwanted = [Path(each) for each in unlike]
            found = like(opened, [Path(each) for each in pictures], unwanted, number=number)
        paths = [opened.pictures.paths[i] for i in found.pictures]
        return list(zip(paths, map(float, found.similarities), strict=True))

    def recogniser(self) -> "Recogniser":
        """What recognises new pictures by their features, learnt from the names.

        Raises:
            InputError: nothing has a name yet.
        """
        from zoo.collection.opened import Opened
        from zoo.collection.recognising import learnt

        return learnt(Opened(self.folder))

    def duplicates(self) -> "Duplicates":
        """The sets of the same file and of the same picture, each with the one to keep, and why.

        Nothing is deleted. ``members`` of a set are positions in :meth:`pictures`. What was
        compared is kept in the collection's folder, and is not compared again.
        """
        from zoo.collection.duplicates import find
        from zoo.collection.opened import Opened

        return find(Opened(self.folder))

    def table(self) -> "dict[str, list[Any]]":
        """All that is known, as ``zoo export`` writes it: columns with a row a file."""
        from zoo.collection.duplicates import find
        from zoo.collection.exporting import columns, facts_of
        from zoo.collection.opened import Opened

        opened = Opened(self.folder)
        return columns(facts_of(opened, find(opened)))

    def model(self) -> "ZooModel":
        """The model that the collection was made with."""
        from zoo.collection.models import of_collection

        return of_collection(self.store)


def _refuse_unknown(engine: str, address: str | None) -> None:
    """Raises: InputError, or MissingDependency: before anything is loaded or made."""
    from zoo.optional import optional

    if engine not in ("local", "ray"):
        raise InputError(f"engine {engine!r}: expected local or ray")
    if engine == "ray":
        optional("ray", "Ray", "ray")
    elif address is not None:
        raise InputError("an address is of a cluster; type: --engine ray")


@contextlib.contextmanager
def _engine(engine: str, address: str | None) -> "Iterator[Engine | None]":
    if engine == "local":
        yield None
        return
    from zoo.collection.ray import Cluster

    with Cluster(address) as cluster:
        yield cluster


def _folder(folder: str | Path) -> Path:
    """Of a collection, as its user means it; of one on a store that in this machine's cache."""
    from zoo.collection.mirror import opened
    from zoo.collection.remote import is_address

    if is_address(folder):
        return opened(str(folder))
    return user_path(folder, "the folder of a collection")


def _source(source: str | Path) -> str | Path:
    """An address of a store as it was written, a path as its user means it."""
    from zoo.collection.remote import is_address

    return source if is_address(source) else user_path(source, "a source")


def _found(
    model: "ZooModel | str | None", folder: Path, chosen: "Mapping[str, Any]"
) -> "tuple[ZooModel, str | None]":
    """The model to use, and the folder within the collection that it is from, if it is."""
    from zoo.collection.models import best_embedded, computing_as, loaded, of_collection
    from zoo.collection.store import Store

    store = Store.open(folder) if Store.exists(folder) else None
    if model is None and store is not None:
        return of_collection(store).prepare(**chosen), store.manifest.model["weights"]
    if model is None:
        model = best_embedded()
    if isinstance(model, str):
        if store is None:
            return loaded(model, **chosen), None
        return computing_as(store, loaded(model, store.manifest.preprocessing, **chosen)), None
    if set(chosen.values()) != {None}:
        raise InputError("fit and background are of a model that is named; type: model.prepare()")
    return model, None


def _learnt(
    model: "ZooModel | str | None",
    sources: "Sequence[str | Path]",
    folder: Path,
    settings: "Mapping[str, Any]",
    report: "Callable[[dict[str, Any]], None]",
    chosen: "Mapping[str, Any]",
) -> "tuple[ZooModel, str | None]":
    """As :func:`_found`, of a model that is trained on the pictures, now or before."""
    from zoo.collection.models import learnt
    from zoo.collection.store import WEIGHTS, Store

    if not isinstance(model, str):
        raise InputError("to learn from the pictures, name a model without a tag, such as simclr")
    recorded = None
    if Store.exists(folder):
        manifest = Store.open(folder).manifest
        sources, recorded = [*manifest.sources, *sources], manifest.preprocessing
    return learnt(model, sources, folder, report, settings, recorded, **chosen), WEIGHTS
