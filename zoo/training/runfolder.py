"""The folder of a run, which may hold the user's own files too: its list, lock and clean-up.

::

    run.json        what this run wrote here, by exact names, and what it is a run of
    run.lock        while it runs: a second run is refused
    unfinished/     until it ends: files that are half written, and decoded images

Nothing is ever overwritten or removed here that ``run.json`` does not list.
"""

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import TrainingError
from zoo.files import HALF_WRITTEN, path_text, write_json
from zoo.locks import Lock, Locked
from zoo.manifest import EVENTS, FORMAT, MANIFEST, WEIGHTS, WORKSPACE, read_manifest

LOCK = "run.lock"
FILES = (
    MANIFEST, "recipe.json", "log.jsonl", "losses.png",
    "checkpoint.safetensors", "checkpoint.next.safetensors", "checkpoint.previous.safetensors",
)  # fmt: skip
FOLDERS = (WEIGHTS, EVENTS, "pictures", WORKSPACE)
NAMES = (*FILES, *FOLDERS)
"""The names that every run may write."""

_DECODED = re.compile(r"data-(train|test|all)-[0-9a-f]{20}\.(npy|json)")


class RunFolder:
    """The folder of one run; a context manager, which unlocks and cleans it at the end.

    ``facts`` identify the run; they are known from :meth:`note` on, or when it is resumed.
    """

    def __init__(self, path: Path):
        self.path = path
        self.workspace = path / WORKSPACE
        self.facts: dict[str, Any] = {}
        self._wrote: set[str] = set()
        self._lock: Lock | None = None
        self._new: list[Path] = []  # folders that were made for it, the outermost first
        self._fresh = False  # nothing that is worth keeping was written yet

    # -- taking it --------------------------------------------------------------------------------

    def open(self, resume: bool) -> str:
        """Take the folder for this process, if all that a run may write is free or of this run.

        Returns:
            A warning, or "".

        Raises:
            TrainingError: another run has it, it holds a run already, files of the user are where
                the run would write, or it cannot be written. Nothing was changed.
        """
        try:
            try:
                self._new = _make(self.path)
                self._lock = Lock(self.path / LOCK)
                self._take(resume)
            except BaseException:
                self._withdraw()
                raise
        except Locked:
            raise TrainingError(self._taken()) from None
        except OSError as error:
            raise TrainingError(
                f"the run's folder {path_text(self.path)} cannot be used: "
                f"{path_text(error.filename or self.path)}: {error.strerror or error}. "
                "Choose another --out"
            ) from error
        return "" if self._lock.works else (
            f"the file system of {path_text(self.path)} has no locks: start no second run there"
        )  # fmt: skip

    def _take(self, resume: bool) -> None:
        manifest = read_manifest(self.path)
        self._wrote = set(manifest["wrote"]) if manifest else set()
        self._refuse_foreign()
        if manifest and not resume:
            self._refuse_a_run()
        self.facts = manifest["facts"] if manifest and resume else {}
        self._fresh = manifest is None
        if not self.workspace.is_dir():
            self.workspace.mkdir()
            self._wrote.add(WORKSPACE)
        self._wrote.add(MANIFEST)
        if self._lock is not None and self._lock.made:
            self._wrote.add(LOCK)
        self._write()

    def _refuse_foreign(self) -> None:
        """Raises: TrainingError: a file that no run wrote is where the run would write."""
        foreign = [n for n in NAMES if n not in self._wrote and os.path.lexists(self.path / n)]
        if WORKSPACE in foreign and _is_workspace(self.workspace):
            foreign.remove(WORKSPACE)
        if foreign:
            raise TrainingError(
                f"{path_text(self.path)} holds {' and '.join(foreign)} already, which no run wrote "
                "as far as its run.json says, and a run would overwrite. Nothing was changed. "
                f"Choose another --out, such as {path_text(self.path / 'run')}"
            )

    def _refuse_a_run(self) -> None:
        if self.finished:
            raise TrainingError(
                f"{path_text(self.path / WEIGHTS)} exists already; choose another folder with --out"
            )
        if self.has_checkpoint:
            raise TrainingError(
                f"{path_text(self.path)} holds an unfinished run; add --resume, or choose another "
                "--out"
            )

    def _taken(self) -> str:
        manifest = read_manifest(self.path) or {"process": {}}
        by = manifest["process"]
        who = f"process {by['pid']} on {by['host']}" if by else "another process"
        return (
            f"a run is under way in {path_text(self.path)}: {who} writes there. Wait for its end, "
            "stop it, or choose another --out"
        )

    # -- what it holds ----------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the weights are there."""
        return (self.path / WEIGHTS).exists()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is anything to go on from."""
        return any((self.path / n).exists() for n in FILES if n.startswith("checkpoint."))

    def load(self) -> None:
        """The facts, for a process that works on the run of another one and writes nothing."""
        manifest = read_manifest(self.path)
        self.facts = manifest["facts"] if manifest else {}

    def note(self, facts: Mapping[str, Any]) -> None:
        """Record what identifies the run; from now on the folder is kept when it ends early."""
        self.facts, self._fresh = dict(facts), False
        if self._lock is not None:
            self._write()

    def claim(self, name: str) -> Path | None:
        """Where to write ``name``, which is listed from now on; None if another's file is there."""
        path = self.path / name
        if name not in self._wrote:
            if os.path.lexists(path):
                return None
            self._wrote |= {name, name.partition("/")[0]}
            self._write()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def require(self, name: str) -> Path:
        """As :meth:`claim`, for a file that the run needs.

        Raises: TrainingError: another's file is there.
        """
        path = self.claim(name)
        if path is None:
            raise TrainingError(
                f"{self.path / name} is not of this run, which has to write there. Move it away, "
                "then type the same command with --resume"
            )
        return path

    def wrote(self, name: str) -> bool:
        """Whether the file ``name``, if it is there, is of this run."""
        return name in self._wrote

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Raises: TrainingError: the folder has another run; the text has the differences.

        Only what ``facts`` has is compared.
        """
        differ = [k for k in facts if k in self.facts and not _same(self.facts[k], facts[k])]
        if not differ:
            return
        raise TrainingError(
            f"{path_text(self.path)} is of another run: "
            + "; ".join(_difference(k, self.facts[k], facts[k]) for k in differ)
            + ".\nTo go on with that one, type what it was started with; for a new one, choose "
            "another --out"
        )

    def _write(self) -> None:
        write_json(
            self.path / MANIFEST,
            {
                "format": FORMAT,
                "process": {"pid": os.getpid(), "host": socket.gethostname()},
                "facts": self.facts,
                "wrote": sorted(self._wrote),
            },
            self.workspace,
        )

    # -- giving it back ---------------------------------------------------------------------------

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is None:
            return
        if self._fresh:
            self._withdraw()
            return
        with contextlib.suppress(OSError):
            self.clean(decoded=self.finished)
            if WORKSPACE in self._wrote:
                self.workspace.rmdir()  # unless decoded images wait there to be used again
        self._release()

    def clean(self, *, decoded: bool) -> None:
        """Remove what is half written, and perhaps the ``decoded`` images: by their exact names."""
        if not self.workspace.is_dir():
            return
        for entry in sorted(self.workspace.iterdir()):
            if HALF_WRITTEN.fullmatch(entry.name) or (decoded and _DECODED.fullmatch(entry.name)):
                _remove(entry)

    def _withdraw(self) -> None:
        """Leave the folder as it was found."""
        with contextlib.suppress(OSError):
            if self._fresh:
                (self.path / MANIFEST).unlink(missing_ok=True)
                self.clean(decoded=True)
                if WORKSPACE in self._wrote:
                    self.workspace.rmdir()
        self._release()
        with contextlib.suppress(OSError):
            for folder in reversed(self._new):
                folder.rmdir()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release(remove=self._lock.made or LOCK in self._wrote)
            self._lock = None


def _is_workspace(folder: Path) -> bool:
    """Whether it holds only what a run leaves that was killed at its very start."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(HALF_WRITTEN.fullmatch(entry.name) for entry in folder.iterdir())


def _make(folder: Path) -> list[Path]:
    """Make ``folder`` and what leads there; returns those that are new, the outermost first."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder == folder.parent or os.path.lexists(folder):
            break
        folder = folder.parent
    made = []
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:
            if not each.is_dir():
                raise
        else:
            made.append(each)
    return made


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _same(before: Any, now: Any) -> bool:
    """Whether two facts are the same; a moved data set is, though it may have another name."""
    if isinstance(before, dict) and isinstance(now, dict):
        return {**before, "name": None} == {**now, "name": None}
    return bool(before == now)


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        if key == "data":
            from zoo.data.fingerprint import difference

            return difference(before, now)
        keys = [k for k in {**before, **now} if before.get(k) != now.get(k)]
        before, now = ({k: d.get(k) for k in keys} for d in (before, now))
    return f"its {key} is {before!r}, now {now!r}"
