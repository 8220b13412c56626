"""Files that are whole or not there: every write is a temporary sibling, fsync, rename; no pickle is ever read.

Tensors are kept as safetensors with a SHA-256 of everything the file says (names, types, shapes, values and the other
metadata) in its metadata, so that any change is noticed when it is read; the same content gives the same bytes. A
folder of files appears by one rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

__all__ = [
    "checksum_of",
    "decode_tensors",
    "encode_tensors",
    "new_folder",
    "only_user_of",
    "read_json",
    "recover",
    "writable_folder",
    "write_file",
]

_KEY = "pixelcnn"  # of the metadata in a safetensors header: a JSON object


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file in one rename; its folder must exist.

    Raises:
        OSError: If it cannot be written; nothing is left behind, and an earlier file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which file
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` in one rename when the block ends without an error.

    An earlier folder at `path` is renamed aside first and deleted last. A process killed between the two renames leaves
    it as `.NAME.PID.old`, which `recover` puts back.

    Raises:
        OSError: If it cannot be written; nothing is left behind, and an earlier folder stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    earlier = path.with_name(f".{path.name}.{os.getpid()}.old")
    _put_back(earlier, path)  # of a process that had the same number
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        _sync_folder(temporary)
        if path.exists():
            path.rename(earlier)
        temporary.rename(path)
    except BaseException:
        _put_back(earlier, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def recover(folder: Path) -> None:
    """Clears a folder of what killed processes left of `write_file` and `new_folder` in it; none may be running there.

    What was half-written is deleted; a folder that was to be replaced and was not gets its name back.
    """
    for left in list(folder.iterdir()):
        match = re.fullmatch(r"\.(.+)\.\d+\.(tmp|old)", left.name)
        if match is None:
            continue
        if match[2] == "old":
            _put_back(left, left.with_name(match[1]))
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _put_back(earlier: Path, path: Path) -> None:
    if path.exists():
        shutil.rmtree(earlier, ignore_errors=True)
    elif earlier.exists():
        earlier.rename(path)


def writable_folder(path: Path) -> Path:
    """The folder itself, made if it is missing and proven to take files: long work should not end in an error.

    Raises:
        OSError: If it cannot be made or written to.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def only_user_of(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for the same out of a folder.

    The lock is the folder's own and goes with the process: there is no file that a killed one could leave.

    Raises:
        ValueError: If another process is using the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is using {folder}; wait for it, or choose another folder") from None
        yield
    finally:
        os.close(descriptor)


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        ValueError: If the file is missing or is not JSON; it is named.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Tensors and metadata as the bytes of a safetensors file, with their checksum added."""
    plain = _plain(tensors)
    signed = {**metadata, "sha256": _digest(plain, metadata)}
    return safetensors.torch.save(
        plain, {_KEY: json.dumps(signed, sort_keys=True)}
    )  # one key: more have no fixed order


def checksum_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The SHA-256 that `encode_tensors` adds to the same tensors and metadata."""
    return _digest(_plain(tensors), metadata)


def decode_tensors(content: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file, checked against their checksum.

    Args:
        content: The file's bytes.
        where: The file's name, for errors.

    Raises:
        ValueError: If the content is truncated, damaged or has no checksum.
    """
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        signed = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(_KEY)
        metadata = None if signed is None else dict(json.loads(signed))
    except (safetensors.SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{where} is damaged or not a safetensors file: {error}") from None
    if metadata is None:
        raise ValueError(f"{where} has no checksum: it was not written by pixelcnn")
    expected = metadata.pop("sha256", None)
    if _digest(tensors, metadata) != expected:
        raise ValueError(f"{where} is damaged: its content does not match its checksum")
    return tensors, metadata


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
