"""Files of a model on the Hugging Face Hub: downloaded into its cache, and uploaded as one commit.

A model there is named `user/name`, or `user/name@revision` for a branch, a tag or a commit. Nothing here knows what is
in the files: `pixelcnn.models.storage` reads them as strictly as a folder's. Only the files that are asked for are
downloaded, by the library huggingface_hub, which is imported on first use and reads HF_ENDPOINT, HF_TOKEN, HF_HOME and
HF_HUB_OFFLINE.

Everything that can go wrong there becomes one line: a `HubError`, or a ConnectionError where no server answers.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelcnn import __version__
from pixelcnn.files import private_folder
from pixelcnn.progress import on_terminal

__all__ = ["HubError", "HubName", "download", "upload"]

_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+)(?:@(?P<revision>[^\s@]+))?")
_LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"
_DAMAGE = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR, errno.EIO)


class HubError(ValueError):
    """The Hub has no such model, does not let one have it, or refuses what is pushed."""


@dataclass(frozen=True)
class HubName:
    """A model on the Hub."""

    repo: str
    """user/name."""
    revision: str | None = None
    """A branch, a tag or a commit; None for the branch `main`."""
    commit: str | None = None
    """The commit that this was found to be, which is what is downloaded."""

    @classmethod
    def of(cls, name: str) -> HubName | None:
        """What a text names if it has the form of a name on the Hub, `user/name` or `user/name@revision`."""
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
    """The folder in the Hub's cache that holds the files of one revision, after downloading what it lacks.

    Without a connection, or with HF_HUB_OFFLINE=1, it is what was downloaded before. A file gets its name by a rename
    when all of it is there, so what a killed download leaves is not found.

    Args:
        name: Which model.
        files: Names of files that it must have.
        optional: Of files that are downloaded if it has them.
        progress: Show bars on a terminal, if there is something to download.
        token: A token of the Hub; by default HF_TOKEN or that of `hf auth login`; False sends none.
        cache_dir: Where the cache is; by default as HF_HOME or HF_HUB_CACHE say, or a temporary folder of this process
            for a user without a home.
        force_download: Download the files although the cache has them.
        local_files_only: Ask no server.

    Raises:
        HubError: If there is no such model, revision or file, or no access to it.
        ConnectionError: If no server answers and the cache does not have all files.
        OSError: If the cache cannot be written.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if cache_dir is None and constants.HF_HUB_CACHE.startswith("~"):  # there is no home
        cache_dir = private_folder() / "hub"
    with _explained(name):
        revision = name.commit or name.revision
        kept = [huggingface_hub.try_to_load_from_cache(name.repo, file, cache_dir, revision) for file in files]
        lacking = force_download or not all(isinstance(path, str) for path in kept)
        shown = progress and lacking and on_terminal()
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
                tqdm_class=_bar(shown),
            )
        )
    for file in files:
        if not (folder / file).is_file():
            if local_files_only or constants.HF_HUB_OFFLINE:
                raise ConnectionError(_absent(name))
            raise HubError(f"{name} on {_endpoint()} is not a model of this package: it has no {file}")
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
    """Makes the repository if there is none and adds a folder's files to it in one commit; returns the commit's URL.

    Args:
        folder: Whose files; those of other names in the repository stay.
        name: Where to; its revision is an existing branch.
        message: The commit's.
        private: Whether a new repository is private; None leaves that to the user's settings.
        token: As for `download`; it must be allowed to write.
        create_pr: Open a pull request instead of changing the branch.

    Raises:
        HubError: If the repository cannot be made or written to, or is public although `private` was asked for. No
            file of it has changed then; a repository that was made for it stays, empty.
        ConnectionError: If no server answers.
    """
    import huggingface_hub

    with _explained(name):
        api = huggingface_hub.HfApi(library_name="pixelcnn", library_version=__version__, token=token)
        api.create_repo(name.repo, private=private, exist_ok=True)
        if private and api.model_info(name.repo).private is False:
            raise HubError(f"{name.repo} exists and is public: make it private there, or do not ask for a private one")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        shown = on_terminal()  # the library shows a bar for files, and none for bytes
        commit = api.create_commit(
            name.repo,
            [huggingface_hub.CommitOperationAdd(path.name, path if shown else path.read_bytes()) for path in files],
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
        if isinstance(error, OSError) and error.errno in _DAMAGE:  # the cache's disk
            raise
        raise _explanation(error, name) from error


def _explanation(error: BaseException, name: HubName) -> HubError | ConnectionError:
    from huggingface_hub import constants, errors

    missing = isinstance(error, errors.LocalEntryNotFoundError)
    outer = isinstance(error, RuntimeError) or (missing and not constants.HF_HUB_OFFLINE)
    if outer and error.__cause__ is not None:
        return _explanation(error.__cause__, name)  # why a file was not had, or not taken
    said = " ".join(str(error).split()) or type(error).__name__
    hub, repo = _endpoint(), name.repo
    nothing = f"no model {repo!r}: neither a folder here nor one that {hub} shows; if it is private, {_LOG_IN}"
    meanings: list[tuple[type[BaseException], HubError | ConnectionError]] = [  # a subclass before its base
        (errors.HFValidationError, HubError(f"{repo!r} cannot be a model's name on the Hub: {said}")),
        (errors.GatedRepoError, HubError(f"{name} is gated: ask for access on {hub}/{repo}, then {_LOG_IN}")),
        (errors.RepositoryNotFoundError, HubError(nothing)),
        (
            errors.RevisionNotFoundError,
            HubError(f"{repo} on {hub} has no branch, tag or commit {name.revision or 'main'!r}"),
        ),
        (errors.LocalEntryNotFoundError, ConnectionError(_absent(name))),
        (errors.OfflineModeIsEnabled, ConnectionError(f"HF_HUB_OFFLINE forbids to ask {hub} for {name}")),
    ]
    for kind, meaning in meanings:
        if isinstance(error, kind):
            return meaning
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error.response.status_code, error.server_message or said, name)
    if any(kind.__name__ == "HTTPError" for kind in type(error).__mro__):  # httpx's, of whichever version
        return ConnectionError(f"{hub} cannot be reached for {name} ({said}): check the connection, or HF_ENDPOINT")
    return HubError(f"{name} on {hub}: {said}")


def _absent(name: HubName) -> str:
    from huggingface_hub import constants

    why = f"HF_HUB_OFFLINE forbids to ask {_endpoint()}" if constants.HF_HUB_OFFLINE else "no server was to be asked"
    return f"{name} is neither a folder here nor whole in the cache, and {why}"


def _refusal(status: int, said: str, name: HubName) -> HubError | ConnectionError:
    """What an answer with an error code means."""
    if status >= 500 or status == 429:
        return ConnectionError(f"{_endpoint()} answers with error {status} for {name}; try again later")
    if status in (401, 403):
        return HubError(f"{_endpoint()} does not allow this for {name} ({said}): {_LOG_IN}, as a user who may")
    return HubError(f"{_endpoint()} refuses this for {name} ({said})")


def _bar(shown: bool) -> type[Any]:
    """The library's progress bar, or one that shows nothing."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Silent(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    return tqdm if shown else Silent


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
