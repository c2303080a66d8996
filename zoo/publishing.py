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
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import hub
from zoo.api import opened
from zoo.boundary import typed, user_path
from zoo.errors import (
    AccessDenied,
    HubError,
    InvalidConfig,
    InvalidName,
    ModelNameError,
    PublishConflict,
    RepositoryNotFound,
    WeightsError,
    WeightsNotFound,
    ZooError,
)
from zoo.files import write_json
from zoo.folder import (
    CARD,
    CONFIG,
    HUB_RECORD,
    LIMITS,
    METRICS,
    PICTURE,
    TENSORS,
    VECTORS,
    refuse_pickles,
    weights_record,
    weights_root,
)
from zoo.hub import hub_errors
from zoo.names import FolderName, is_commit, is_repo, is_revision
from zoo.sources import locate, weights_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEEDED, IF_THERE, WRITTEN = (CONFIG, TENSORS, VECTORS), (METRICS,), (CARD, PICTURE)
"""The files that are published: copied out of the folder, copied if they are there, and written
here. Whatever else lies in the folder stays where it is."""

Report = Callable[[str], None]


def _silent(line: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class File:
    """One file of a publication; ``change`` is ``new``, ``changed``, ``same`` or ``deleted``."""

    path: str
    size: int
    change: str


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

    First the folder is validated as :func:`zoo.load` would, and more: its vectors have to come out
    on this machine, and its records have to make a card. Without metrics.json it goes out all the
    same, and its card says that nothing was measured. What is published already, byte for byte, is
    not committed again.

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
        InvalidName: the repository, the branch or the tag cannot be called so.
        WeightsError: the folder is not valid.
        AccessDenied: nobody is logged in, or not with the right to publish there.
        PublishConflict: other weights are behind the name or the tag already, or somebody else has
            published meanwhile. Nothing was changed.
        HubError: the Hub cannot be reached, or refuses; the text says what is left there.
    """
    to, branch = to.removeprefix("hf-hub:"), revision or "main"
    _check_names(to, branch, tag)
    target = _Target(hub._api(token), to, branch, tag, private)
    user, namespaces = _login(target.api)
    report(f"logged in as {user}")
    before = _look(target)
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as scratch:
        folder = Path(scratch)
        summary = prepare(source, folder, f"hf-hub:{to}{_at(branch)}", report)
        _refuse(target, folder, before)
        files = _changes(folder, before.files)
        there = before.branch_exists and _is_there(files)
        result = Published(
            repo=to,
            commit=before.head if there else None,
            url=f"{hub._host()}/{to}{'' if branch == 'main' else f'/tree/{branch}'}",
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
                result = replace(result, commit=_commit(target, folder, before, summary))
            except AccessDenied as error:
                raise AccessDenied(
                    f"{error}\n{user} may publish to: {', '.join(namespaces)}"
                ) from error
        if tag is not None and tag not in before.tags:
            _tag(target, folder, result.name)
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
    """Publish all weights that lie in the plugins' source trees, to ``namespace/<model>.<tag>``.

    The repository and the pinned commit of each are written into ``hub.json`` in its folder, out of
    which the plugin's record takes them (:func:`zoo.folder.weights_record`); it is never published
    itself. Plugins that were installed as wheels are left out: nobody would ship what is written
    there.

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
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        if not is_repo(to):
            raise HFValidationError("it is not of the form org/name")
        validate_repo_id(to)
    except HFValidationError as error:
        raise InvalidName(
            f"{to!r:.120} cannot be a repository on the Hub; write org/name, with letters, digits, "
            f"'-', '_' and '.'.\nThe Hub's rule: {hub._clean(error, 300)}"
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


def _at(branch: str) -> str:
    return "" if branch == "main" else f"@{branch}"


def _login(api: "HfApi") -> tuple[str, tuple[str, ...]]:
    """Who is logged in, and where they may publish as far as the Hub says."""
    with hub_errors():
        who = api.whoami()
        user = hub._clean(who["name"], 100)
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
        ModelNameError: the source means nothing here.
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
    """What :mod:`zoo.hub` would refuse to fetch is not published."""
    for name, most in LIMITS.items():
        path = folder / name
        if path.exists() and path.stat().st_size > most:
            raise WeightsError(
                f"{path} has {path.stat().st_size:,} bytes, expected at most {most:,}: nobody "
                "could load it from the Hub"
            )


def validate(folder: Path, report: Report = _silent) -> str:
    """Load the folder, run its vectors and read its records: what is wrong with it is raised.

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
    """Errors of the copy name the folder that it was made of, which somebody can mend."""
    try:
        yield
    except ZooError as error:
        said = str(error).replace(str(copy), str(origin))
        raise type(error)(said if str(origin) in said else f"{origin}: {said}") from error


# -- the repository ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """Where to publish, as whom: the client has the token."""

    api: "HfApi"
    repo: str
    branch: str
    tag: str | None
    private: bool


@dataclass(frozen=True)
class _Remote:
    """A repository as it is. ``head`` is the branch's commit, or the one it would start at."""

    exists: bool = False
    private: bool = False
    branch_exists: bool = False
    head: str | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    """The client's record of each file of ``head``."""
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    tagged: Mapping[str, Any] = field(default_factory=dict)
    """The client's record of each file behind the tag that was asked for."""


def _look(target: _Target) -> _Remote:
    def files_of(commit: str | None) -> tuple[Any, dict[str, Any]]:
        info = target.api.model_info(target.repo, revision=commit, files_metadata=True)
        return info, {file.rfilename: file for file in info.siblings or ()}

    try:
        with hub_errors(target.repo):
            refs = target.api.list_repo_refs(target.repo)
            branches = {ref.name: ref.target_commit for ref in refs.branches}
            tags = {ref.name: ref.target_commit for ref in refs.tags}
            head = branches.get(target.branch) or branches.get("main")
            info, files = files_of(head)
            tagged = files_of(tags[target.tag])[1] if target.tag in tags else {}
    except RepositoryNotFound:
        return _Remote()
    return _Remote(
        exists=True,
        private=bool(info.private),
        branch_exists=target.branch in branches,
        head=head,
        files=files,
        branches=branches,
        tags=tags,
        tagged=tagged,
    )


def _changes(folder: Path, there: Mapping[str, Any]) -> tuple[File, ...]:
    """What becomes of each file of the zoo's, from what is ``there`` to what is in ``folder``."""
    files = []
    for name in (*NEEDED, *IF_THERE, *WRITTEN):
        path = folder / name
        if path.exists():
            same = name in there and _is_same(path, there[name])
            change = "same" if same else "changed" if name in there else "new"
            files.append(File(name, path.stat().st_size, change))
        elif name in there:
            files.append(File(name, there[name].size or 0, "deleted"))
    return tuple(files)


def _is_same(path: Path, record: Any) -> bool:
    """Whether ``path`` has the bytes that the Hub has: it calls large ones by sha256."""
    from huggingface_hub.utils.sha import git_hash

    if record.lfs is None:
        same_size = record.size == path.stat().st_size
        return bool(same_size and record.blob_id == git_hash(path.read_bytes()))
    with path.open("rb") as file:
        return bool(record.lfs.sha256 == hashlib.file_digest(file, "sha256").hexdigest())


def _is_there(files: tuple[File, ...]) -> bool:
    return all(file.change == "same" for file in files)


def _refuse(target: _Target, folder: Path, before: _Remote) -> None:
    """Raises: PublishConflict: what is in the repository would have to change, or be shown."""
    repo, branch, tag = target.repo, target.branch, target.tag
    if target.private and before.exists and not before.private:
        raise PublishConflict(
            f"hf-hub:{repo} is there and everybody can see it, so --private cannot be kept. "
            f"Nothing was changed.\nMake it private at {hub._host()}/{repo}/settings, and publish "
            "again"
        )
    if branch in before.tags or tag in before.branches:
        name, is_a, be_a = (
            (branch, "tag", "branch") if branch in before.tags else (tag, "branch", "tag")
        )
        raise PublishConflict(
            f"hf-hub:{repo} has a {is_a} {name!r}, which cannot be a {be_a} too. Nothing was "
            "changed; choose another name"
        )
    if tag in before.tags:
        differ = [f.path for f in _changes(folder, before.tagged) if f.change != "same"]
        if differ:
            raise PublishConflict(
                f"hf-hub:{repo}@{tag} is there, and is not the same: {', '.join(differ)}. A tag "
                "never changes its bytes, and nothing was changed.\nChoose a new tag, or leave "
                "--tag out"
            )
    there = before.files.get(TENSORS)
    if (
        there is not None
        and not _is_same(folder / TENSORS, there)
        and not _is_fresh(target, before)
    ):
        raise PublishConflict(
            f"hf-hub:{repo}{_at(branch)} has other weights already, of commit {before.head}. A "
            "name never changes its tensors, and nothing was changed.\nPublish the new ones to a "
            f"name of their own, such as --to {repo}_2, or to a new branch: --revision NAME"
        )


def _is_fresh(target: _Target, before: _Remote) -> bool:
    """Whether nothing was published on the branch itself: it is where it began, on main."""
    if target.branch == "main":
        return False
    if not before.branch_exists or before.head == before.branches.get("main"):
        return True
    with hub_errors(target.repo):
        of_main = target.api.list_repo_commits(target.repo, revision="main")
        return before.head in {commit.commit_id for commit in of_main}


# -- changing it ---------------------------------------------------------------------------------


def _commit(target: _Target, folder: Path, before: _Remote, summary: str) -> str:
    """Make the repository and the branch if need be, and commit; the sha.

    When it fails, what was made for it is taken away again, as long as nobody else has used it.
    """
    api, repo, made = target.api, target.repo, ""
    new = not before.exists
    try:
        with hub_errors(repo):
            if new:
                api.create_repo(repo, private=target.private)
                made = "repository"
                before = _look(target)
                _refuse(target, folder, before)
            if not before.branch_exists and before.head is not None:
                api.create_branch(repo, branch=target.branch, revision=before.head)
                made = made or "branch"
            return api.create_commit(
                repo,
                _operations(folder, before),
                commit_message=summary,
                commit_description=_description(),
                revision=target.branch,
                parent_commit=before.head,
            ).oid
    except BaseException as error:
        now = _seen(target)
        there = now is not None and now.branch_exists and _is_there(_changes(folder, now.files))
        if there and now and now.head and isinstance(error, HubError):
            return now.head  # the answer was lost, or somebody else published the very same
        left = _undo(target, made, before, now)
        if new and not made and now is not None and now.exists:
            # Its answer may have been lost; or it is somebody else's, and not ours to delete.
            left = f"\nThe repository {repo} is there by now. Publish again"
        if not isinstance(error, ZooError):
            raise
        raise type(error)(f"{error}{left}") from error


def _description() -> str:
    import zoo

    return f"Published by latentzoo {zoo.__version__}."


def _operations(folder: Path, before: _Remote) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        CommitOperationDelete(file.path)
        if file.change == "deleted"
        else CommitOperationAdd(file.path, folder / file.path)
        for file in _changes(folder, before.files)
        if file.change != "same"
    ]


def _seen(target: _Target) -> _Remote | None:
    """The repository after something failed; None if it cannot be looked at either."""
    try:
        return _look(target)
    except ZooError:
        return None


def _undo(target: _Target, made: str, before: _Remote, now: _Remote | None) -> str:
    """Take away what was ``made``, if nobody has used it since; for the message, what is left."""
    if not made:
        return ""
    what = f"{made} {target.repo if made == 'repository' else target.branch}"
    if now is not None:
        empty = now.files.keys() <= {".gitattributes"} and not now.tags
        if not (empty if made == "repository" else now.head == before.head):
            return ""  # somebody else has published there
        with contextlib.suppress(ZooError), hub_errors(target.repo):
            if made == "repository":
                target.api.delete_repo(target.repo)
            else:
                target.api.delete_branch(target.repo, branch=target.branch)
            return f"\nThe {what}, made for this, was deleted again"
    return (
        f"\nThe {what} was made for this and could not be deleted again: it may be there, without "
        "these weights. Publish again to fill it"
        + (
            f", or delete it at {hub._host()}/{target.repo}/settings"
            if made == "repository"
            else ""
        )
    )


def _tag(target: _Target, folder: Path, name: str) -> None:
    """Tag what was published as ``name``, the pinned one."""
    try:
        with hub_errors(target.repo):
            commit = name.rpartition("@")[2]
            target.api.create_tag(target.repo, tag=str(target.tag), revision=commit)
    except HubError as error:
        now = _seen(target)
        if now is not None and target.tag in now.tags:
            if _is_there(_changes(folder, now.tagged)):
                return
            raise PublishConflict(
                f"{name} is published, but somebody else has made the tag {target.tag} meanwhile, "
                "of other bytes, and it stays as it is. Choose another tag"
            ) from error
        raise type(error)(
            f"{error}\n{name} is published, only its tag {target.tag} is not there: publish "
            "again, which makes the tag alone"
        ) from error
