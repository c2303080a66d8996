"""Looks at a repository on the Hub that weights are published to, and commits to it.

A publication is complete or does not happen, and nothing that was published before changes: a
branch keeps its tensors, a tag never moves, and of two who publish at the same time one is refused.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HubError, PublishConflict, RepositoryNotFound, ZooError
from zoo.folder import CARD, CONFIG, METRICS, PICTURE, TENSORS, VECTORS
from zoo.hub.errors import host, hub_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEEDED, IF_THERE, WRITTEN = (CONFIG, TENSORS, VECTORS), (METRICS,), (CARD, PICTURE)
"""The files that are published: those that are always copied out of the folder, those that are
copied if they exist, and those that are written here. Other files in the folder are left out."""


@dataclass(frozen=True)
class File:
    """One file of a publication; ``change`` is ``new``, ``changed``, ``same`` or ``deleted``."""

    path: str
    size: int
    change: str


def at_branch(branch: str) -> str:
    return "" if branch == "main" else f"@{branch}"


@dataclass(frozen=True)
class Target:
    """Where to publish, as whom: the client has the token."""

    api: "HfApi"
    repo: str
    branch: str
    tag: str | None
    private: bool


@dataclass(frozen=True)
class Remote:
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


def look(target: Target) -> Remote:
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
        return Remote()
    return Remote(
        exists=True,
        private=bool(info.private),
        branch_exists=target.branch in branches,
        head=head,
        files=files,
        branches=branches,
        tags=tags,
        tagged=tagged,
    )


def changes_of(folder: Path, there: Mapping[str, Any]) -> tuple[File, ...]:
    """The change of each file of the zoo's between what is ``there`` and what is in ``folder``."""
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
    """Whether ``path`` has the bytes that the Hub has, which names large files by sha256."""
    from huggingface_hub.utils.sha import git_hash

    if record.lfs is None:
        data = path.read_bytes()
        return bool(record.size == len(data) and record.blob_id == git_hash(data))
    with path.open("rb") as file:
        return bool(record.lfs.sha256 == hashlib.file_digest(file, "sha256").hexdigest())


def is_there(files: tuple[File, ...]) -> bool:
    return all(file.change == "same" for file in files)


def refuse_conflicts(target: Target, folder: Path, before: Remote) -> None:
    """Raises: PublishConflict: what is in the repository would have to change, or be shown."""
    repo, branch, tag = target.repo, target.branch, target.tag
    if target.private and before.exists and not before.private:
        raise PublishConflict(
            f"hf-hub:{repo} is there and everybody can see it, so --private cannot be kept. "
            f"Nothing was changed.\nMake it private at {host()}/{repo}/settings, and publish "
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
        differ = [f.path for f in changes_of(folder, before.tagged) if f.change != "same"]
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
            f"hf-hub:{repo}{at_branch(branch)} has other weights already, of commit {before.head}. "
            "A name never changes its tensors, and nothing was changed.\nPublish the new ones to a "
            f"name of their own, such as --to {repo}_2, or to a new branch: --revision NAME"
        )


def _is_fresh(target: Target, before: Remote) -> bool:
    """Whether nothing was published on the branch itself: it is where it began, on main."""
    if target.branch == "main":
        return False
    if not before.branch_exists or before.head == before.branches.get("main"):
        return True
    with hub_errors(target.repo):
        of_main = target.api.list_repo_commits(target.repo, revision="main")
        return before.head in {commit.commit_id for commit in of_main}


# -- changing it ---------------------------------------------------------------------------------


def commit_folder(target: Target, folder: Path, before: Remote, summary: str) -> str:
    """Make the repository and the branch if need be, commit, and return the commit's sha.

    When it fails, what was made for it is deleted again, unless somebody else has used it since.
    """
    api, repo, made = target.api, target.repo, ""
    new = not before.exists
    try:
        with hub_errors(repo):
            if new:
                api.create_repo(repo, private=target.private)
                made = "repository"
                before = look(target)
                refuse_conflicts(target, folder, before)
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
        there = now is not None and now.branch_exists and is_there(changes_of(folder, now.files))
        if there and isinstance(error, HubError) and now is not None and now.head is not None:
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


def _operations(folder: Path, before: Remote) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        CommitOperationDelete(file.path)
        if file.change == "deleted"
        else CommitOperationAdd(file.path, folder / file.path)
        for file in changes_of(folder, before.files)
        if file.change != "same"
    ]


def _seen(target: Target) -> Remote | None:
    """The state of the repository after a failure; None if that cannot be found out either."""
    try:
        return look(target)
    except ZooError:
        return None


def _undo(target: Target, made: str, before: Remote, now: Remote | None) -> str:
    """Delete what was ``made``, unless it was used since; returns what is left, for the message."""
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
        + (f", or delete it at {host()}/{target.repo}/settings" if made == "repository" else "")
    )


def tag_commit(target: Target, tag: str, folder: Path, name: str) -> None:
    """Tag what was published as ``name``, the pinned one."""
    try:
        with hub_errors(target.repo):
            commit = name.rpartition("@")[2]
            target.api.create_tag(target.repo, tag=tag, revision=commit)
    except HubError as error:
        now = _seen(target)
        if now is not None and tag in now.tags:
            if is_there(changes_of(folder, now.tagged)):
                return
            raise PublishConflict(
                f"{name} is published, but somebody else has made the tag {tag} meanwhile, "
                "of other bytes, and it stays as it is. Choose another tag"
            ) from error
        raise type(error)(
            f"{error}\n{name} is published, only its tag {tag} is not there: publish "
            "again, which makes the tag alone"
        ) from error
