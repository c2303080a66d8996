"""Publishing: a weights folder becomes one commit of a repository on the Hugging Face Hub.

All or nothing, and nothing that was published before changes::

    hf-hub:org/name            the tensors of a branch (main by default) never become others
    hf-hub:org/name@TAG        a tag never moves
    hf-hub:org/name@<commit>   what a publication gives back, to be pinned

The folder is copied, and the copy is validated and sent, so that nobody can change it in between.
The commit's parent is the one that was looked at before the validation: of two who publish at the
same time one is refused.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.api import opened
from zoo.boundary import typed, user_path
from zoo.errors import (
    AccessDenied,
    HubError,
    InvalidConfig,
    InvalidName,
    ModelNameError,
    WeightsError,
    WeightsNotFound,
    ZooError,
)
from zoo.files import write_json
from zoo.folder import (
    CONFIG,
    HUB_RECORD,
    LIMITS,
    METRICS,
    refuse_pickles,
    weights_record,
    weights_root,
)
from zoo.hub.client import api
from zoo.hub.errors import clean, host, hub_errors
from zoo.hub.repository import (
    IF_THERE,
    NEEDED,
    File,
    Target,
    at_branch,
    changes_of,
    commit_folder,
    is_there,
    look,
    refuse_conflicts,
    tag_commit,
)
from zoo.names import FolderName, is_commit, is_repo, is_revision
from zoo.sources import locate, weights_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Report = Callable[[str], None]


def _silent(line: str) -> None:
    """The default report, which prints nothing."""


@dataclass(frozen=True)
class Published:
    """What was published, or with ``dry_run`` what would be.

    ``commit`` is the full sha to pin; None of what is not there yet. ``committed`` is False when
    the branch had the very same bytes already.
    """

    repo: str
    commit: str | None
    url: str
    files: tuple[File, ...]
    user: str
    branch: str
    tag: str | None
    private: bool
    created: bool
    committed: bool
    dry_run: bool

    @property
    def name(self) -> str:
        """The pinned name, for :func:`zoo.load`."""
        return f"hf-hub:{self.repo}" + (f"@{self.commit}" if self.commit else "")

    def to_dict(self) -> dict[str, Any]:
        """This record as plain JSON types."""
        return {"name": self.name, **asdict(self)}


@typed()
def publish(
    source: str | Path,
    to: str,
    *,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    report: Report = _silent,
) -> Published:
    """Publish the weights of ``source`` to the Hub, in one commit.

    First the folder is validated as by :func:`zoo.load`, and more: the model has to give the
    recorded outputs of its test vectors on this machine, and its records have to make a card.
    Without metrics.json it is published too, and its card says that nothing was measured. A folder
    that is not valid is refused before a login is asked for. Files that are on the Hub already,
    byte for byte, are not committed again.

    Args:
        source: a name such as ``deep_ae.mnist`` or ``local-dir:runs/mine``, or a folder.
        to: the repository, ``org/name``; made if it is not there.
        private: make the repository so that only its owners see it.
        revision: the branch; ``main`` by default, made if it is not there.
        tag: what the commit shall be called too, for ever.
        token: of the Hub; by default the one that its client finds (``HF_TOKEN``, ``hf auth
            login``).
        dry_run: change nothing; say what would be done.
        report: called with a line on each step.

    Raises:
        InvalidName: the repository, the branch or the tag cannot have this name.
        WeightsError: the folder is not valid.
        AccessDenied: nobody is logged in, or not with the right to publish there.
        PublishConflict: other weights are behind the name or the tag already, or somebody else has
            published meanwhile. Nothing was changed.
        HubError: the Hub cannot be reached, or refuses; the text says what is left there.
    """
    to, branch = to.removeprefix("hf-hub:"), revision or "main"
    _check_names(to, branch, tag)
    target = Target(api(token), to, branch, tag, private)
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as scratch:
        folder = Path(scratch)
        name = f"hf-hub:{to}{at_branch(branch)}"
        try:
            user, namespaces = _login(target.api)
            report(f"logged in as {user}")
            before = look(target)
        except HubError:
            # What is wrong with the folder is said first, without a login and without the Hub.
            prepare(source, folder, name, report)
            raise
        summary = prepare(source, folder, name, report)
        refuse_conflicts(target, folder, before)
        files = changes_of(folder, before.files)
        there = before.branch_exists and is_there(files)
        result = Published(
            repo=to,
            commit=before.head if there else None,
            url=f"{host()}/{to}{'' if branch == 'main' else f'/tree/{branch}'}",
            files=files,
            user=user,
            branch=branch,
            tag=tag,
            private=before.private if before.exists else private,
            created=not before.exists,
            committed=not there,
            dry_run=dry_run,
        )
        if dry_run:
            if to.partition("/")[0] not in namespaces:
                report(f"{user} does not seem to be a member of {to.partition('/')[0]}")
            return result
        if not there:
            try:
                result = replace(result, commit=commit_folder(target, folder, before, summary))
            except AccessDenied as error:
                raise AccessDenied(
                    f"{error}\n{user} may publish to: {', '.join(namespaces)}"
                ) from error
        if tag is not None and tag not in before.tags:
            tag_commit(target, tag, folder, result.name)
    return result


@typed()
def publish_bundled(
    namespace: str,
    *,
    private: bool = False,
    token: str | None = None,
    dry_run: bool = False,
    report: Report = _silent,
) -> list[Published]:
    """Publish all weights in the plugins' source trees to ``namespace/<model>.<tag>``.

    The repository and the pinned commit of each are written into ``hub.json`` in its folder, out of
    which the plugin's record takes them (:func:`zoo.folder.weights_record`); it is never published
    itself. Plugins that were installed as wheels are left out: what is written there is never
    shipped.

    Raises: as :func:`publish`; what was published before stays so, and typing it again goes on.
    """
    if not is_repo(f"{namespace}/name"):
        raise InvalidName(f"expected a user or an organisation of the Hub, got {namespace!r:.120}")
    results = []
    for folder in _bundled(report):
        report(f"{folder.name}:")
        result = publish(
            folder,
            f"{namespace}/{folder.name}",
            private=private,
            token=token,
            dry_run=dry_run,
            report=report,
        )
        if not dry_run:
            write_json(folder / HUB_RECORD, {"repo": result.repo, "revision": result.commit})
        results.append(result)
    return results


def _bundled(report: Report) -> list[Path]:
    from zoo.registry import registry

    folders = []
    for plugin, spec in registry().specs():
        if plugin.root is None or not plugin.root.__file__:
            continue
        root = weights_root(plugin.root.__file__)
        shipped = [root / f"{spec.name}.{weights.tag}" for weights in spec.weights]
        if shipped and {"site-packages", "dist-packages"} & set(root.parts):
            report(f"left out {spec.name} of {plugin}: it is installed, not a source tree")
            continue
        folders += [folder for folder in shipped if folder.is_dir()]
    if not folders:
        raise WeightsNotFound(
            "no installed plugin has weights in a source tree. In a clone, type: "
            "pip install --editable . --editable ./plugins/NAME"
        )
    return folders


# -- what is asked for ---------------------------------------------------------------------------


def _check_names(to: str, branch: str, tag: str | None) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        if not is_repo(to):
            raise HFValidationError("it is not of the form org/name")
        validate_repo_id(to)
    except HFValidationError as error:
        raise InvalidName(
            f"{to!r:.120} cannot be a repository on the Hub; write org/name, with letters, digits, "
            f"'-', '_' and '.'.\nThe Hub's rule: {clean(error, 300)}"
        ) from None
    for what, name in (("branch", branch), ("tag", tag)):
        if name is None:
            continue
        bad = name.startswith(("refs/", "-", ".", "/")) or name.endswith((".lock", "/", "."))
        if not is_revision(name) or bad:
            raise InvalidName(f"{name!r:.120} cannot be a {what}; write one such as 'v1'")
        if is_commit(name):
            raise InvalidName(
                f"{name} is a commit, which never changes; name a {what} such as 'v1'"
            )
    if branch == tag:
        raise InvalidName(f"{tag!r} cannot be a branch and a tag: a branch moves, a tag does not")


def _login(api: "HfApi") -> tuple[str, tuple[str, ...]]:
    """Who is logged in, and where they may publish as far as the Hub says."""
    with hub_errors():
        who = api.whoami()
        user = clean(who["name"], 100)
        return user, (user, *(str(org["name"]) for org in who.get("orgs") or ()))


# -- the folder ----------------------------------------------------------------------------------


def prepare(source: str | Path, folder: Path, name: str, report: Report = _silent) -> str:
    """Copy what is published of ``source`` into ``folder``, validate the copy and write its card.

    Args:
        source: as :func:`publish` takes it.
        folder: an empty one.
        name: what the card's examples load.
        report: called with a line on each step.

    Returns:
        What the weights are, in a line.

    Raises:
        ModelNameError: the source is unknown here, or ambiguous.
        WeightsError: it is not valid; the text says where and how.
    """
    origin = _folder_of(source)
    with _speaking_of(folder, origin):
        _copy(origin, folder)
        summary = validate(folder, report)
        from zoo.report.card import write_card

        write_card(folder, name=name)
        _check_sizes(folder)
    if not (folder / METRICS).exists():
        report(
            f"it has no {METRICS}, so its card says that nothing was measured. To measure it: "
            f"zoo evaluate local-dir:{origin}"
        )
    return summary


def _folder_of(source: str | Path) -> Path:
    if isinstance(source, Path):
        return weights_folder(f"local-dir:{source}")
    try:
        return weights_folder(source)
    except ModelNameError:
        if not user_path(source).is_dir():
            raise
        return weights_folder(f"local-dir:{source}")


def _copy(origin: Path, folder: Path) -> None:
    refuse_pickles(origin)
    for name in (*NEEDED, *IF_THERE):
        path = origin / name
        if not path.is_file():
            if name in NEEDED:
                raise WeightsNotFound(f"{origin} has no {name}, without which nothing is published")
            continue
        try:
            shutil.copyfile(path, folder / name)
        except OSError as error:
            raise WeightsError(f"{path} cannot be copied: {error.strerror}") from error
    _check_sizes(folder)


def _check_sizes(folder: Path) -> None:
    """Refuse files that are larger than :mod:`zoo.hub` would fetch."""
    for name, most in LIMITS.items():
        path = folder / name
        if path.exists() and path.stat().st_size > most:
            raise WeightsError(
                f"{path} has {path.stat().st_size:,} bytes, expected at most {most:,}: nobody "
                "could load it from the Hub"
            )


def validate(folder: Path, report: Report = _silent) -> str:
    """Check a folder: load it, run its test vectors and read its records; raise what is wrong.

    The same for what is saved, checked and published. Returns what the weights are, in a line.
    """
    from zoo.errors import SpecError
    from zoo.weights import verify

    located = locate(FolderName(f"local-dir:{folder}", str(folder)))
    config = located.config
    deviations = verify(opened(located), folder)
    report(
        f"{config.model}: {config.size:,} bytes of tensors are sound, its "
        f"{len(deviations)} vectors come out within {max(deviations.values(), default=0):.2g} of "
        "their tolerance"
    )
    try:
        record = weights_record(folder, "published", config)
    except (SpecError, WeightsError) as error:
        raise InvalidConfig(
            f"{folder / CONFIG} and {METRICS} do not say what a card needs: {error}"
        ) from error
    return f"{config.model} trained on {record.dataset}"


@contextlib.contextmanager
def _speaking_of(copy: Path, origin: Path) -> Iterator[None]:
    """Make errors of the copy name the folder that was copied, which the user can mend."""
    try:
        yield
    except ZooError as error:
        said = str(error).replace(str(copy), str(origin))
        raise type(error)(said if str(origin) in said else f"{origin}: {said}") from error
