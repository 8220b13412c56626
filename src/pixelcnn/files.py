"""Files written whole or not at all, locked folders, checksums, and tensors in files; no pickle is ever read.

Every write goes to a temporary sibling, which is synced and then renamed; a folder of files also appears by one rename.
Links are followed: the target is replaced, and the link stays. What is not a regular file (a device, a pipe,
/dev/stdout) cannot be replaced and is written to in place. Temporary names are random, since process numbers repeat
from container to container; what a killed process left is deleted by whoever holds the folder's lock.

Tensors are stored as safetensors with a SHA-256 of the whole content (names, types, shapes, values and the other
metadata) in the metadata, so that any change is noticed when it is read; the same content gives the same bytes.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import tokenize
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

__all__ = [
    "cache_home",
    "check_no_pointer",
    "checksum_of",
    "decode_tensors",
    "descriptor_of",
    "encode_tensors",
    "is_special_file",
    "leftover_of",
    "map_array",
    "new_folder",
    "only_user_of",
    "printable",
    "private_folder",
    "read_json",
    "recover",
    "values_digest",
    "writable_file",
    "writable_folder",
    "write_file",
]

_KEY = "pixelcnn"  # of our metadata in a safetensors header: one JSON object, since several keys have no fixed order
_MAX_LINKS = 40  # that are followed, as on Linux
_MAX_NAME = 200  # bytes of a name that its temporary name repeats: file systems allow 255 in all
_CONTROLS = ("Cc", "Zl", "Zp")  # Unicode's categories of controls and of ends of lines
_POINTER = b"version https://git-lfs.github.com/spec/"


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file by one rename; its folder must exist. A special file is written to instead of replaced.

    Raises:
        OSError: If it cannot be written; nothing is left behind, and an earlier file stays as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    with _named(path):
        if is_special_file(path):
            _write_to(path, data)
            return
        target = _target(path)
        temporary = _sibling(target, "tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def is_special_file(path: Path) -> bool:
    """Whether a path leads to something that is neither a regular file nor a folder: a device, a pipe, /dev/stdout.

    Raises:
        OSError: If that cannot be found out, as for a circle of links.
    """
    if descriptor_of(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor_of(path: Path) -> int | None:
    """The descriptor of this process's open file that a path such as /dev/stdout or /dev/fd/1 leads to; else None."""
    descriptors = {"/dev/fd", os.path.realpath("/proc/self/fd")}
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if folder in descriptors and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            break
        path = Path(folder, os.readlink(path))
    return None


def _write_to(path: Path, data: bytes) -> None:
    """Writes to a special file."""
    descriptor = descriptor_of(path)
    if descriptor is None:
        opened = os.open(path, os.O_WRONLY)  # never creates a file
    else:
        if descriptor == 1 and sys.stdout is not None:
            sys.stdout.flush()
        opened = os.dup(descriptor)  # if it were opened again, a file would be overwritten from its start
    with open(opened, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Makes errors name a path: a full disk names no file, and other errors name a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _target(path: Path) -> Path:
    """The path that a link leads to, whether it exists or not; other paths as they are, but ending in a name.

    Raises:
        OSError: If the link is part of a circle of links.
    """
    if not (path.is_symlink() or path.name in ("", "..")):
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def _sibling(path: Path, ending: str) -> Path:
    """A path beside another, with a name that no other process chooses and that `recover` knows."""
    name = os.fsdecode(os.fsencode(path.name)[:_MAX_NAME]) if ending == "tmp" else path.name
    return path.with_name(f".{name}.{secrets.token_hex(8)}.{ending}")


@contextlib.contextmanager
def new_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` by one rename when the block ends without an error.

    An earlier folder at `path` is renamed first and deleted last. A process killed between the two renames leaves it as
    `.NAME.RANDOM.old`, which `recover` puts back.

    Args:
        path: The folder's path.
        replace: Whether a folder that holds something is replaced; otherwise it is kept, which is an error.

    Raises:
        OSError: If it cannot be written, is the current folder, or what is there is not to be replaced; nothing is left
            behind, and an earlier folder stays as it was.
    """
    path = _target(path)
    with contextlib.suppress(FileNotFoundError):
        if path.samefile(os.curdir):  # whoever is in it would be left in a deleted one
            raise OSError(errno.EBUSY, "the current folder cannot be replaced", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, earlier = _sibling(path, "tmp"), _sibling(path, "old")
    try:
        with _named(path):
            temporary.mkdir()
        yield temporary
        _sync_folder(temporary)
        if replace:
            while not _moved(temporary, path, earlier):
                pass
        else:
            with _named(path):
                temporary.rename(path)  # which takes the place of an empty folder, and of nothing else
    except BaseException:
        _put_back(earlier, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _moved(temporary: Path, path: Path, earlier: Path) -> bool:
    """Whether a folder got its name; False if another process was faster, whose folder is then the earlier one."""
    if path.exists():
        with contextlib.suppress(FileNotFoundError):
            path.rename(earlier)
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(earlier, ignore_errors=True)
        return False
    return True


def recover(folder: Path) -> None:
    """Clears a folder of what `write_file` and `new_folder` left in it when their processes were killed.

    What is half-written is deleted; a folder that was renamed but not yet replaced gets its name back. Neither function
    may be running there: the caller holds the lock of `only_user_of`.
    """
    for left in list(folder.iterdir()):
        if (found := leftover_of(left.name)) is None:
            continue
        name, ending = found
        if ending == "old":
            _put_back(left, left.with_name(name))
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def leftover_of(name: str) -> tuple[str, str] | None:
    """The name of the file or folder that a killed process left a part of, and "tmp" or "old"; None for other names."""
    match = re.fullmatch(r"\.(.+)\.(?:[0-9a-f]{16}|\d+)\.(tmp|old)", name)
    return None if match is None else (match[1], match[2])


def _put_back(earlier: Path, path: Path) -> None:
    if path.exists():
        shutil.rmtree(earlier, ignore_errors=True)
    elif earlier.exists():
        earlier.rename(path)


def writable_folder(path: Path) -> Path:
    """The folder itself, made if missing, after checking that files can be made in it, before long work begins.

    Raises:
        OSError: If it cannot be made or written to.
    """
    with _named(path):
        _target(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path


def writable_file(path: Path) -> Path:
    """The file's path itself, its folder made if missing, after checking that `write_file` can write it.

    Raises:
        OSError: If it is a folder, a special file that cannot be written to, or in a folder that cannot be written to.
    """
    with _named(path):
        special, descriptor = is_special_file(path), descriptor_of(path)
        if descriptor is not None:
            os.fstat(descriptor)
        elif special and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        elif path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not special:
        writable_folder(_target(path).parent)
    return path


def cache_home() -> Path:
    """The folder for files that this package can make again; it need not exist yet.

    `$XDG_CACHE_HOME/pixelcnn`, or `~/.cache/pixelcnn`; if the user has no home that can be written to, a temporary
    folder of this process.
    """
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "pixelcnn"
    try:
        return writable_folder(Path.home() / ".cache" / "pixelcnn")
    except (RuntimeError, OSError):  # RuntimeError if neither HOME nor the user database names a home
        return private_folder()


@functools.cache
def private_folder() -> Path:
    """A temporary folder of this process, removed when it ends.

    Raises:
        OSError: If it cannot be made.
    """
    folder = tempfile.mkdtemp(prefix="pixelcnn-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextlib.contextmanager
def only_user_of(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Locks a folder against other processes that lock it in the same way.

    The lock is on the folder itself and ends with the process: there is no lock file that a killed process could leave.

    Args:
        folder: An existing folder.
        wait: Whether to wait for a process that is using it.

    Raises:
        ValueError: If another process is using the folder, unless `wait` is set.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ValueError(f"another process is using {folder}; wait for it, or choose another folder") from None
        yield
    finally:
        os.close(descriptor)


def check_no_pointer(content: bytes | Path, where: object) -> None:
    """Checks that a file is not the pointer that Git has instead of a large file kept by Git LFS.

    Args:
        content: The file's first 40 bytes, or more; or the path of the file to read them from.
        where: The file's name, for the error.

    Raises:
        ValueError: If it is such a pointer.
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            content = file.read(len(_POINTER))
    if content.startswith(_POINTER):
        raise ValueError(f"{where} is a pointer of Git LFS and not the file itself: fetch it by `git lfs pull`")


def printable(name: str) -> str:
    r"""A file's name as valid text on one line.

    Bytes that are not UTF-8 become escapes, as in `\xff.png`, and so do line breaks and other control characters.
    """
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(ascii(each)[1:-1] if unicodedata.category(each) in _CONTROLS else each for each in text)


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        ValueError: If the file is missing or is not JSON; it is named.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    check_no_pointer(content, path)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def map_array(path: Path) -> np.memmap[Any, Any]:
    """The array of a .npy file, mapped into memory; writing to it does not reach the file.

    Raises:
        ValueError: If it is damaged, holds Python objects, or is not as long as its header says.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="c")
    except (ValueError, TypeError, LookupError, OverflowError, EOFError, SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{path} is damaged or not a NumPy file: {error}") from None
    if path.stat().st_size != array.offset + array.nbytes:
        raise ValueError(f"{path} is damaged: it is longer than its header says")
    return array


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Tensors and metadata as the bytes of a safetensors file, with their checksum added."""
    plain: dict[str, Tensor] = {}
    pointers: set[int] = set()
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().contiguous()
        plain[name] = values.clone() if values.data_ptr() in pointers else values  # safetensors refuses tied weights
        pointers.add(values.data_ptr())
    signed = {**metadata, "sha256": checksum_of(plain, metadata)}
    return safetensors.torch.save(plain, {_KEY: json.dumps(signed, sort_keys=True)})


def checksum_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The SHA-256 that `encode_tensors` adds to the same tensors and metadata."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_values(tensor))
    return digest.hexdigest()


def decode_tensors(content: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file, checked against their checksum.

    Args:
        content: The file's bytes.
        where: The file's name, for errors.

    Raises:
        ValueError: If the content is truncated, damaged or has no checksum.
    """
    check_no_pointer(content, where)
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        signed = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(_KEY, "null")
        metadata = json.loads(signed)
    except (safetensors.SafetensorError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(f"{where} is damaged or not a safetensors file: {error}") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{where} has no checksum: it was not written by pixelcnn")
    expected = metadata.pop("sha256", None)
    if checksum_of(tensors, metadata) != expected:
        raise ValueError(f"{where} is damaged: its content does not match its checksum")
    return tensors, metadata


def values_digest(*tensors: Tensor) -> str:
    """The SHA-256 of the values of tensors one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(_values(tensor))
    return digest.hexdigest()


def _values(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
