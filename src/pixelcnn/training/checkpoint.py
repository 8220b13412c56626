"""Checkpoints: folders `step-NNNNNNNN-epochs-NNNN` with a run's tensors and state, written in one rename.

The name says the steps taken and the epochs finished, so none is ever replaced by another.

    tensors.safetensors   weights, Adam's moments, averaged weights, with a checksum of their own
    state.json            the numbers of the run so far
    manifest.json         size and SHA-256 of the two, written last

The newest two are kept. A damaged one is passed over with a warning in favour of the one before it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelcnn.config import from_dict
from pixelcnn.files import decode_tensors, encode_tensors, new_folder, read_json, write_file

__all__ = ["Checkpoint", "RunState", "checkpoints", "load_checkpoint", "load_newest", "save_checkpoint"]

_KEEP = 2
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


@dataclass(kw_only=True)
class RunState:
    """The numbers of a run, beside its tensors."""

    step: int = 0
    """Steps taken."""
    epoch_nats: float = 0.0
    """Sum of the negative log-likelihoods over the current epoch so far, each before its step."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """A dictionary for each finished epoch: the lines of metrics.jsonl."""
    record: dict[str, Any] = field(default_factory=dict)
    """The run's record, see `pixelcnn.training.record`."""

    @property
    def name(self) -> str:
        """Name of the state's checkpoint; a later state's name sorts after it."""
        return f"step-{self.step:08d}-epochs-{len(self.metrics):04d}"


Checkpoint = tuple[RunState, dict[str, Tensor]]
"""What a checkpoint holds: the numbers and the tensors by name."""


def save_checkpoint(folder: Path, state: RunState, tensors: dict[str, Tensor]) -> Path:
    """Writes a checkpoint into `folder`, by the state's name, and deletes all but the newest two.

    Raises:
        OSError: If it cannot be written; the earlier checkpoints are intact then.
    """
    path = folder / state.name
    files = {
        _TENSORS: encode_tensors(tensors, {"step": str(state.step)}),
        _STATE: json.dumps(dataclasses.asdict(state), indent=2).encode(),
    }
    manifest = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in files.items()}
    with new_folder(path) as new:
        for name, data in files.items():
            write_file(new / name, data)
        write_file(new / _MANIFEST, json.dumps(manifest, indent=2))
    for old in checkpoints(folder)[_KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint.

    Raises:
        ValueError: If a file is missing, truncated or changed.
    """
    if not (path / _MANIFEST).is_file():
        raise ValueError(f"{path} is not a checkpoint: one is a folder RUN/checkpoints/step-... with a {_MANIFEST}")
    manifest = read_json(path / _MANIFEST)
    contents: dict[str, bytes] = {}
    for name in (_TENSORS, _STATE):
        try:
            contents[name] = (path / name).read_bytes()
        except OSError as error:
            raise ValueError(f"{path / name} cannot be read: {error.strerror}") from None
        said = {"bytes": len(contents[name]), "sha256": _sha256(contents[name])}
        if not isinstance(manifest, dict) or manifest.get(name) != said:
            raise ValueError(f"{path / name} is damaged: it is not what {_MANIFEST} says")
    tensors, _ = decode_tensors(contents[_TENSORS], str(path / _TENSORS))
    state = from_dict(RunState, json.loads(contents[_STATE]), str(path / _STATE))
    return state, tensors


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is intact, or None if there is no checkpoint at all.

    Raises:
        ValueError: If there are checkpoints and none is intact.
    """
    paths = checkpoints(folder)
    for path in paths:
        try:
            return load_checkpoint(path)
        except ValueError as error:
            warnings.warn(f"checkpoint passed over: {error}", stacklevel=2)
    if paths:
        raise ValueError(f"none of the {len(paths)} checkpoints in {folder} is intact; start anew in another folder")
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first; none if it is missing."""
    return sorted(folder.glob("step-[0-9]*"), reverse=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
