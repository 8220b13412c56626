"""Checkpoints of training runs as files, verified when they are read; see `pixelcnn.training.checkpoint`."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from pixelcnn.files import decode_tensors, read_json

__all__ = ["MANIFEST", "STATE", "TENSORS", "checkpoints", "manifest_of", "newest", "read_checkpoint"]

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"

T = TypeVar("T")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first; none if it is missing."""
    return sorted(folder.glob("step-[0-9]*"), reverse=True)


def newest(folder: Path, read: Callable[[Path], T]) -> T | None:
    """What `read` makes of the newest intact checkpoint in a folder, by its path; None if there is none.

    Warns:
        UserWarning: For each later one, of which `read` raises a ValueError.
    """
    for path in checkpoints(folder):
        try:
            return read(path)
        except ValueError as error:
            warnings.warn(f"checkpoint passed over, going back to the one before it: {error}", stacklevel=4)
    return None


def read_checkpoint(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """A checkpoint's state as JSON values, and its tensors.

    Raises:
        ValueError: If a file is missing, truncated or changed.
    """
    if not (path / MANIFEST).is_file():
        raise ValueError(f"{path} is not a checkpoint: one is a folder RUN/checkpoints/step-... with a {MANIFEST}")
    contents = {name: _content(path / name) for name in (TENSORS, STATE)}
    if _content(path / MANIFEST) != manifest_of(contents):
        manifest, true = read_json(path / MANIFEST), json.loads(manifest_of(contents))
        for name in contents:
            if not isinstance(manifest, dict) or manifest.get(name) != true[name]:
                raise ValueError(f"{path / name} is damaged: it does not match {MANIFEST}")
        raise ValueError(f"{path / MANIFEST} is damaged: it is not as it was written")
    tensors, _ = decode_tensors(contents[TENSORS], str(path / TENSORS))
    return json.loads(contents[STATE]), tensors


def manifest_of(files: dict[str, bytes]) -> bytes:
    """Sizes and SHA-256 of the files; the same files always give the same bytes."""
    lines = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    return json.dumps(lines, indent=2).encode()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
