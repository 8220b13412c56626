"""Checkpoints: folders `step-NNNNNNNN-epochs-NNNN` with a run's tensors and state, written by one rename.

The name holds the steps taken and the epochs finished, so none is ever replaced by another.

    tensors.safetensors   weights, the optimiser's moments and averaged weights, with a checksum
    state.json            the run's numbers so far
    manifest.json         sizes and SHA-256 of the two, written last

The newest ones are kept, the one with the best validation loss and, while the loss is off (`LossWatch`), the newest one
from before. A damaged checkpoint is passed over with a warning in favour of the one before it: every byte of the three
files counts, including the manifest's, which must be exactly as `save_checkpoint` writes it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelcnn.config import from_dict
from pixelcnn.files import encode_tensors, new_folder, write_file
from pixelcnn.models.checkpoints import MANIFEST, STATE, TENSORS, checkpoints, manifest_of, newest, read_checkpoint
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


@dataclass(kw_only=True)
class RunState:
    """The numbers of a run; its tensors are the optimiser's."""

    step: int = 0
    """Number of steps taken."""
    seconds: float = 0.0
    """Time that the steps took, in a run of some minutes."""
    planned_steps: int = 0
    """Number of steps of such a run by the last plan; 0 before there is one."""
    epoch_nats: float = 0.0
    """Sum of the negative log-likelihoods in the current epoch so far, each before its step."""
    epoch_gradient_norm: float = 0.0
    """Sum of the gradient norms in the current epoch so far."""
    epoch_gradient_norm_max: float = 0.0
    """The largest of these gradient norms."""
    epoch_sums: dict[str, float] = field(default_factory=dict)
    """Sums of other numbers over the steps of the current epoch, by name."""
    watch: LossWatch = field(default_factory=LossWatch)
    """Whether the loss has diverged."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """One dictionary per finished epoch: the lines of metrics.jsonl."""
    record: dict[str, Any] = field(default_factory=dict)
    """The run's record as JSON values, see `pixelcnn.training.record`."""

    def add_step(self, nats: float, gradient_norm: float, loss: float, levels: int, spread: float = 0.0) -> None:
        """Adds a step: the sum of its negative log-likelihoods, and what the watch sees, see `LossWatch.see`."""
        self.step += 1
        self.epoch_nats += nats
        self.epoch_gradient_norm += gradient_norm
        self.epoch_gradient_norm_max = max(self.epoch_gradient_norm_max, gradient_norm)
        self.watch.see(loss, levels, spread)

    def end_epoch(self, line: dict[str, Any]) -> None:
        """Adds a finished epoch, by its line of metrics.jsonl."""
        self.metrics.append(line)
        self.epoch_nats = self.epoch_gradient_norm = self.epoch_gradient_norm_max = 0.0
        self.epoch_sums = {}

    @property
    def name(self) -> str:
        """Name of the state's checkpoint; the names of later states sort after it."""
        return _name(self.step, len(self.metrics))

    @property
    def best(self) -> dict[str, Any] | None:
        """The line of the epoch with the lowest validation loss, the first of equals; None before the first epoch."""
        return min(self.metrics, key=held_out_loss, default=None)

    @property
    def best_name(self) -> str | None:
        """Name of the checkpoint after that epoch."""
        return None if self.best is None else _name(self.best["step"], self.best["epoch"])


def held_out_loss(line: dict[str, Any]) -> float:
    """The validation loss in a line of metrics.jsonl, with the averaged weights if there are any; without data, the
    loss.
    """
    return float(next(line[name] for name in ("validation_loss_ema", "validation_loss", "loss") if name in line))


def _name(step: int, epochs: int) -> str:
    return f"step-{step:08d}-epochs-{epochs:04d}"


Checkpoint = tuple[RunState, dict[str, Tensor]]
"""The content of a checkpoint: the numbers, and the tensors by name."""


def save_checkpoint(folder: Path, state: RunState, tensors: dict[str, Tensor], keep_last: int = 2) -> Path:
    """Writes a checkpoint into `folder`, and deletes those that need not be kept.

    Raises:
        OSError: If it cannot be written; earlier checkpoints stay intact.
    """
    path = folder / state.name
    files = {
        TENSORS: encode_tensors(tensors, {"step": str(state.step)}),
        STATE: json.dumps(dataclasses.asdict(state), indent=2).encode(),
    }
    with new_folder(path) as new:
        for name, data in files.items():
            write_file(new / name, data)
        write_file(new / MANIFEST, manifest_of(files))
    earlier = [old for old in checkpoints(folder) if old.name <= state.name]  # later ones are damaged
    for old in earlier[keep_last:]:
        if old.name != state.best_name and old != last_sound(folder, state):
            shutil.rmtree(old, ignore_errors=True)
    return path


def last_sound(folder: Path, state: RunState) -> Path | None:
    """The newest checkpoint in a folder from before the loss was off; None if there is none."""
    off = _name(state.step - state.watch.steps_off + 1, 0)
    return next((path for path in checkpoints(folder) if path.name < off), None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint.

    Raises:
        ValueError: If a file is missing, truncated or changed.
    """
    values, tensors = read_checkpoint(path)
    return from_dict(RunState, values, str(path / STATE)), tensors


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint, or None if there is no checkpoint at all.

    Raises:
        ValueError: If there are checkpoints and none is intact.
    """
    found = newest(folder, load_checkpoint)
    if found is None and (paths := checkpoints(folder)):
        raise ValueError(f"none of the {len(paths)} checkpoints in {folder} is intact; start a run in another folder")
    return found
