"""A model's files on the Hugging Face Hub: downloaded into its cache, and uploaded in one commit.

A model there is named `user/name`, or `user/name@revision` for a branch, a tag or a commit. Reading files is left to
`pixelcnn.models.base`, which is as strict with them as with those of a folder. Only the requested files are
downloaded, by the library huggingface_hub, which is imported on first use and reads HF_ENDPOINT, HF_TOKEN, HF_HOME and
HF_HUB_OFFLINE.

Whatever goes wrong becomes one line: a `HubError`, or a ConnectionError if no server answers.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelcnn.files import private_folder
from pixelcnn.progress import on_terminal
from pixelcnn.version import __version__

__all__ = ["HubError", "HubName", "download", "upload"]

_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+)(?:@(?P<revision>[^\s@]+))?")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_DISK = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR, errno.EIO)


class HubError(ValueError):
    """The Hub has no such model, denies access to it, or refuses an upload."""


@dataclass(frozen=True)
class HubName:
    """A model on the Hub."""

    repo: str
    """user/name."""
    revision: str | None = None
    """A branch, a tag or a commit; None for the branch `main`."""
    commit: str | None = None
    """The commit that the revision stood for, if known; it is what is downloaded."""

    @classmethod
    def of(cls, name: str) -> HubName | None:
        """The model of a name, `user/name` or `user/name@revision`; None if the text has another form."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(match["repo"], match["revision"])

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def download(
    name: HubName,
    files: Sequence[str],
    optional: Sequence[str] = (),
    *,
    progress: bool = False,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """Downloads what the Hub's cache lacks of one revision; returns the folder in the cache that holds its files.

    Without a connection, or with HF_HUB_OFFLINE=1, the folder is what was downloaded before. A file gets its name by a
    rename once it is complete, so the remains of a killed download are not found.

    Args:
        name: The model.
        files: Names of the files that it must have.
        optional: Names of further files, which are downloaded if it has them.
        progress: Show bars on a terminal if there is something to download.
        token: A token of the Hub; by default HF_TOKEN or that of `hf auth login`; False sends none.
        cache_dir: Folder of the cache; by default that of HF_HOME or HF_HUB_CACHE, or a temporary folder of this
            process for a user without a home.
        force_download: Download the files even if the cache has them.
        local_files_only: Ask no server.

    Raises:
        HubError: If there is no such model, revision or file, or no access to it.
        ConnectionError: If no server answers and the cache lacks a file.
        OSError: If the cache cannot be written.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if cache_dir is None and constants.HF_HUB_CACHE.startswith("~"):  # the user has no home
        cache_dir = private_folder() / "hub"
    with _explained(name):
        revision = name.commit or name.revision
        cached = [huggingface_hub.try_to_load_from_cache(name.repo, file, cache_dir, revision) for file in files]
        complete = not force_download and all(isinstance(path, str) for path in cached)
        folder = Path(
            huggingface_hub.snapshot_download(
                name.repo,
                revision=revision,
                allow_patterns=[*files, *optional],
                library_name="pixelcnn",
                library_version=__version__,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                tqdm_class=_bar(progress and not complete and on_terminal()),
            )
        )
    for file in files:
        if not (folder / file).is_file():
            if local_files_only or constants.HF_HUB_OFFLINE:
                raise _not_cached(name)
            raise HubError(f"{name} on {constants.ENDPOINT} is not a model of this package: it has no {file}")
    return folder


def upload(
    folder: Path,
    name: HubName,
    *,
    message: str,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
) -> str:
    """Adds a folder's files to a repository, which is made if needed, in one commit; returns the commit's URL.

    Args:
        folder: The folder; files of other names in the repository stay.
        name: The repository; its revision is an existing branch.
        message: The commit's message.
        private: Whether a new repository is private; None leaves that to the user's settings.
        token: As for `download`, with the right to write.
        create_pr: Open a pull request instead of changing the branch.

    Raises:
        HubError: If the repository cannot be made or written to, or is public although `private` was asked for. No
            file of it has changed then; a newly made repository stays, empty.
        ConnectionError: If no server answers.
    """
    import huggingface_hub

    with _explained(name):
        api = huggingface_hub.HfApi(library_name="pixelcnn", library_version=__version__, token=token)
        api.create_repo(name.repo, private=private, exist_ok=True)
        if private and api.model_info(name.repo).private is False:
            raise HubError(f"{name.repo} exists and is public: make it private there, or do not ask for a private one")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        bars = on_terminal()  # the library shows a bar for files, and none for bytes
        commit = api.create_commit(
            name.repo,
            [huggingface_hub.CommitOperationAdd(path.name, path if bars else path.read_bytes()) for path in files],
            commit_message=message,
            revision=name.revision,
            create_pr=create_pr,
        )
    return str(commit.pr_url or commit.commit_url)


@contextmanager
def _explained(name: HubName) -> Iterator[None]:
    """Turns the errors of huggingface_hub, and of the libraries below it, into one line that says what to do."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # of many libraries, which change with huggingface_hub's version
        if isinstance(error, OSError) and error.errno in _DISK:  # the disk of the cache
            raise
        raise _explanation(error, name) from error


def _explanation(error: BaseException, name: HubName) -> HubError | ConnectionError:
    from huggingface_hub import constants, errors

    missing = isinstance(error, errors.LocalEntryNotFoundError)
    if error.__cause__ is not None and (isinstance(error, RuntimeError) or (missing and not constants.HF_HUB_OFFLINE)):
        return _explanation(error.__cause__, name)  # why a file could not be downloaded or uploaded
    reason = " ".join(str(error).split()) or type(error).__name__
    hub, repo = constants.ENDPOINT, name.repo
    match error:  # a subclass before its base
        case errors.HFValidationError():
            text = f"{repo!r} cannot be a model's name on the Hub: {reason}"
        case errors.GatedRepoError():
            text = f"{name} is gated: ask for access on {hub}/{repo}, then {_LOG_IN}"
        case errors.RepositoryNotFoundError():
            text = f"no model {repo!r}: neither a folder here nor one that {hub} shows; if it is private, {_LOG_IN}"
        case errors.RevisionNotFoundError():
            text = f"{repo} on {hub} has no branch, tag or commit {name.revision or 'main'!r}"
        case errors.LocalEntryNotFoundError():
            return _not_cached(name)
        case errors.OfflineModeIsEnabled():
            return ConnectionError(f"HF_HUB_OFFLINE forbids asking {hub} for {name}")
        case errors.HfHubHTTPError():
            return _refusal(error.response.status_code, error.server_message or reason, name)
        case _ if any(kind.__name__ == "HTTPError" for kind in type(error).__mro__):  # httpx's, of whichever version
            return ConnectionError(f"{hub} cannot be reached for {name} ({reason}): check the network or HF_ENDPOINT")
        case _:
            text = f"{name} on {hub}: {reason}"
    return HubError(text)


def _not_cached(name: HubName) -> ConnectionError:
    from huggingface_hub import constants

    reason = f"HF_HUB_OFFLINE forbids asking {constants.ENDPOINT}"
    if not constants.HF_HUB_OFFLINE:
        reason = "local_files_only is set"
    return ConnectionError(f"{name} is neither a folder here nor complete in the cache, and {reason}")


def _refusal(status: int, reason: str, name: HubName) -> HubError | ConnectionError:
    """The meaning of an answer with an error code."""
    from huggingface_hub.constants import ENDPOINT

    if status >= 500 or status == 429:
        return ConnectionError(f"{ENDPOINT} answers with error {status} for {name}; try again later")
    if status in (401, 403):
        return HubError(f"{ENDPOINT} does not allow this for {name} ({reason}): {_LOG_IN}, as a user with the right")
    return HubError(f"{ENDPOINT} refuses this for {name} ({reason})")


def _bar(shown: bool) -> type[Any]:
    """The library's progress bar, or one that shows nothing."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Silent(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    return tqdm if shown else Silent
