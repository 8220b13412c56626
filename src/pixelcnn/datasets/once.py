"""Folders made once and whole, or not at all, in the folder of all caches: `$XDG_CACHE_HOME/pixelcnn/data`.

A folder appears by one rename. If several processes make the same one, in whichever containers, the first to finish
gives it its name, and the others use it. The folder of all caches is locked while one is begun, named or deleted; what
killed processes left half-written is deleted when the next one is begun.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pixelcnn.files import cache_home, new_folder, only_user_of, writable_folder

__all__ = ["cache_folder", "link", "made"]

T = TypeVar("T")


class _MadeMeanwhileError(Exception):
    """Another process has made the same folder."""


def cache_folder() -> Path:
    """The folder of all caches."""
    return cache_home() / "data"


def made(path: Path, fill: Callable[[Path], None], read: Callable[[Path], T | None]) -> T:
    """What a folder holds that was missing or damaged, once it is made.

    Args:
        path: The folder, in that of all caches.
        fill: Fills a temporary folder, which is then renamed to `path`.
        read: The content of the folder at a path; None if there is none, or it is damaged.

    Raises:
        ValueError: If the folder changed as soon as it was written.
        OSError: If it cannot be written; nothing is left behind.
    """
    with _advised(path):
        writable_folder(path.parent)
        with contextlib.suppress(_MadeMeanwhileError):
            _make(path, fill, read)
        found = read(path)
        if found is None:
            raise ValueError(f"the cache {path} changed as soon as it was written; another process is using it")
        return found


def link(name: str, path: Path) -> None:
    """Makes a name in the folder of all caches lead to one of them, unless it leads to one already.

    Raises:
        OSError: If the link cannot be made.
    """
    alias = path.with_name(name)
    with _advised(path), only_user_of(path.parent, wait=True):
        if not alias.exists():
            alias.unlink(missing_ok=True)
            alias.symlink_to(path.name)


def _make(path: Path, fill: Callable[[Path], None], read: Callable[[Path], object]) -> None:
    """Makes a folder.

    Raises:
        _MadeMeanwhileError: If another process was faster.
    """
    with contextlib.ExitStack() as naming, contextlib.ExitStack() as filling:
        with only_user_of(path.parent, wait=True):
            _clear(path.parent)
            _unlink(path)
            folder = filling.enter_context(new_folder(path))
            filling.enter_context(only_user_of(folder))  # so that `_clear` of another process leaves it alone
        fill(folder)
        naming.enter_context(only_user_of(path.parent, wait=True))  # until the folder has its name
        if read(path) is not None:
            raise _MadeMeanwhileError
        _unlink(path)


@contextlib.contextmanager
def _advised(path: Path) -> Iterator[None]:
    """Makes errors about a folder, or one that it lies in, say what to do; errors about the source stay as they are."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            at = Path(error.filename)
            if not (at.is_relative_to(path.parent) or path.is_relative_to(at)):
                raise  # it is about the source
        message = f"{error.strerror}, so the images cannot be cached; XDG_CACHE_HOME chooses another place"
        raise OSError(error.errno, message, str(path)) from error


def _unlink(path: Path) -> None:
    """Deletes a link at a cache's path, which leads to a cache that is damaged or gone."""
    if path.is_symlink():
        path.unlink()


def _clear(folder: Path) -> None:
    """Deletes what killed processes left half-written; living ones lock theirs. The caller has locked `folder`."""
    for left in (*folder.glob(".*.tmp"), *folder.glob(".*.old")):
        with contextlib.suppress(ValueError, OSError), only_user_of(left):
            shutil.rmtree(left, ignore_errors=True)
