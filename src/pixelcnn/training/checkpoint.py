"""Checkpoints: folders `step-NNNNNNNN-epochs-NNNN` with a run's tensors and state, written in one rename.

The name says the steps taken and the epochs finished, so none is ever replaced by another.

    tensors.safetensors   weights, the optimiser's moments, averaged weights, with a checksum of their own
    state.json            the numbers of the run so far
    manifest.json         size and SHA-256 of the two, written last

Kept are the newest ones, the one with the best validation loss and, while the loss has gone astray, the newest one from
before that. A damaged one is passed over with a warning in favour of the one before it: every byte of the three files
counts, those of the manifest included, which must be written exactly as `save_checkpoint` does.
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
from pixelcnn.training.watch import LossWatch

__all__ = [
    "Checkpoint",
    "RunState",
    "checkpoints",
    "held_out_loss",
    "last_sound",
    "load_checkpoint",
    "load_newest",
    "save_checkpoint",
]

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


@dataclass(kw_only=True)
class RunState:
    """The numbers of a run, beside its tensors."""

    step: int = 0
    """Steps taken."""
    seconds: float = 0.0
    """Time that they took, of a run that is given some minutes."""
    planned_steps: int = 0
    """Of such a run, how many steps it will have by the last plan; 0 before there is one."""
    epoch_nats: float = 0.0
    """Sum of the negative log-likelihoods over the current epoch so far, each before its step."""
    epoch_gradient_norm: float = 0.0
    """Sum of the steps' gradient norms over the current epoch so far."""
    epoch_gradient_norm_max: float = 0.0
    """The largest of them."""
    watch: LossWatch = field(default_factory=LossWatch)
    """Whether the loss has gone astray."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """A dictionary for each finished epoch: the lines of metrics.jsonl."""
    record: dict[str, Any] = field(default_factory=dict)
    """The run's record, see `pixelcnn.training.record`."""

    @property
    def name(self) -> str:
        """Name of the state's checkpoint; a later state's name sorts after it."""
        return _name(self.step, len(self.metrics))

    @property
    def best(self) -> dict[str, Any] | None:
        """The line of the epoch with the lowest validation loss, the first of equals; None before there is one."""
        return min(self.metrics, key=held_out_loss, default=None)

    @property
    def best_name(self) -> str | None:
        """Name of the checkpoint that was written after that epoch."""
        return None if self.best is None else _name(self.best["step"], self.best["epoch"])


def held_out_loss(line: dict[str, Any]) -> float:
    """The validation loss of a line of metrics.jsonl, that of the averaged weights where there are some."""
    return float(line.get("validation_loss_ema", line["validation_loss"]))


def _name(step: int, epochs: int) -> str:
    return f"step-{step:08d}-epochs-{epochs:04d}"


Checkpoint = tuple[RunState, dict[str, Tensor]]
"""What a checkpoint holds: the numbers and the tensors by name."""


def save_checkpoint(folder: Path, state: RunState, tensors: dict[str, Tensor], keep_last: int = 2) -> Path:
    """Writes a checkpoint into `folder`, by the state's name, and deletes those that are not to be kept.

    Raises:
        OSError: If it cannot be written; the earlier checkpoints are intact then.
    """
    path = folder / state.name
    files = {
        _TENSORS: encode_tensors(tensors, {"step": str(state.step)}),
        _STATE: json.dumps(dataclasses.asdict(state), indent=2).encode(),
    }
    with new_folder(path) as new:
        for name, data in files.items():
            write_file(new / name, data)
        write_file(new / _MANIFEST, _manifest(files))
    earlier = [old for old in checkpoints(folder) if old.name <= state.name]  # later ones are damaged
    for old in earlier[keep_last:]:
        if old.name != state.best_name and old != last_sound(folder, state):
            shutil.rmtree(old, ignore_errors=True)
    return path


def last_sound(folder: Path, state: RunState) -> Path | None:
    """The newest checkpoint in a folder from before the loss went astray; None if there is none."""
    astray = _name(state.step - state.watch.steps_off + 1, 0)
    return next((path for path in checkpoints(folder) if path.name < astray), None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint.

    Raises:
        ValueError: If a file is missing, truncated or changed.
    """
    if not (path / _MANIFEST).is_file():
        raise ValueError(f"{path} is not a checkpoint: one is a folder RUN/checkpoints/step-... with a {_MANIFEST}")
    contents = {name: _content(path / name) for name in (_TENSORS, _STATE)}
    if _content(path / _MANIFEST) != _manifest(contents):
        manifest, true = read_json(path / _MANIFEST), json.loads(_manifest(contents))
        for name in contents:
            if not isinstance(manifest, dict) or manifest.get(name) != true[name]:
                raise ValueError(f"{path / name} is damaged: it is not what {_MANIFEST} says")
        raise ValueError(f"{path / _MANIFEST} is damaged: it is not as it was written")
    tensors, _ = decode_tensors(contents[_TENSORS], str(path / _TENSORS))
    state = from_dict(RunState, json.loads(contents[_STATE]), str(path / _STATE))
    return state, tensors


def _manifest(files: dict[str, bytes]) -> bytes:
    """Size and SHA-256 of the files; the same files always give the same bytes."""
    lines = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    return json.dumps(lines, indent=2).encode()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


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
            warnings.warn(f"checkpoint passed over, going back to the one before it: {error}", stacklevel=2)
    if paths:
        raise ValueError(f"none of the {len(paths)} checkpoints in {folder} is intact; start anew in another folder")
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first; none if it is missing."""
    return sorted(folder.glob("step-[0-9]*"), reverse=True)
