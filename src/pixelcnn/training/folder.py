"""The folder of a training run: the run that it holds, and the checkpoint from which the run is resumed.

The folder holds:

    config.json           the run's configuration and data
    metrics.jsonl         one line per epoch: losses, gradients
    timing.jsonl          one line per epoch: speed, memory
    curves.png            the metrics as curves
    samples/              one grid of samples per epoch
    checkpoints/          the newest two and the best
    model/                the finished model, for `pixelcnn.load`
    tensorboard/          for TensorBoard, if asked for
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from pixelcnn.config import from_dict, to_dict
from pixelcnn.files import only_user_of, read_json, recover, writable_folder, write_file
from pixelcnn.training.checkpoint import (
    Checkpoint,
    RunState,
    checkpoints,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from pixelcnn.training.record import Record
from pixelcnn.training.report import write_metrics

__all__ = ["RunFolder"]


class RunFolder:
    """A run's folder, for the one process that writes to it.

    Args:
        path: The folder.
        record: The record of the run.
        steps_per_epoch: Number of steps in a whole epoch of the run.
    """

    def __init__(self, path: Path, record: Record, steps_per_epoch: int) -> None:
        self.path = path
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self._record, self._steps_per_epoch = record, steps_per_epoch
        self._source = self.checkpoints  # of the checkpoint from which the run is resumed

    @contextlib.contextmanager
    def opened(self, resume: str) -> Iterator[Checkpoint | None]:
        """The folder, made and locked, with the checkpoint from which to resume, before anything of it is written.

        Args:
            resume: "auto", "off" or a checkpoint's path, see `pixelcnn.train`.

        Raises:
            ValueError: If the checkpoint or the folder is another run's, or another process is using the folder.
        """
        given = None if resume in ("auto", "off") else self._given(Path(resume))
        writable_folder(self.path)
        with only_user_of(self.path):
            if (self.path / "config.json").exists():
                if resume == "off":
                    raise ValueError(
                        f"{self.path} already holds a run; --resume auto resumes it, or choose another folder"
                    )
                self._check(read_json(self.path / "config.json"), self.path / "config.json", self.path)
                for folder in (self.path, self.samples, self.checkpoints):
                    if folder.is_dir():
                        recover(folder)
            checkpoint = load_newest(self.checkpoints) if resume == "auto" else given
            if checkpoint is not None and given is None:
                self._check(checkpoint[0].record, self.checkpoints, self.checkpoints)
                self._check_epochs(checkpoint[0], self.checkpoints)
            yield checkpoint

    def begin(self, state: RunState, tensors: dict[str, Tensor]) -> None:
        """Writes what the run begins with: its record, and the checkpoint from which it is resumed if that is new."""
        for folder in (self.samples, self.checkpoints):
            folder.mkdir(exist_ok=True)
        if self._source.resolve() != self.checkpoints.resolve():
            self._copy_best(state)
            save_checkpoint(self.checkpoints, state, tensors)
        write_file(self.path / "config.json", json.dumps(to_dict(self._record), indent=2) + "\n")
        if state.metrics:
            write_metrics(self.path / "metrics.jsonl", state.metrics)

    def _given(self, path: Path) -> Checkpoint:
        """The checkpoint with a path that the user gives."""
        checkpoint = load_checkpoint(path)
        self._check(checkpoint[0].record, path, path)
        self._check_epochs(checkpoint[0], path)
        self._source = path.parent
        if any(later.name > checkpoint[0].name for later in checkpoints(self.checkpoints)):
            raise ValueError(
                f"{self.path} holds later checkpoints than {path}; resume it in another folder, or the newest one here "
                "with --resume auto"
            )
        return checkpoint

    def _copy_best(self, state: RunState) -> None:
        """Makes the best checkpoint so far, from another folder, a checkpoint of this run."""
        best = state.best_name
        if best is not None and best != state.name and (self._source / best).is_dir():
            try:
                earlier, tensors = load_checkpoint(self._source / best)
                earlier.record = state.record
                save_checkpoint(self.checkpoints, earlier, tensors)
            except ValueError as error:
                warnings.warn(f"the best checkpoint so far is left behind: {error}", stacklevel=2)

    def _check(self, record: object, source: Path, where: Path) -> None:
        self._record.check_continues(from_dict(type(self._record), record, str(source)), str(where))

    def _check_epochs(self, state: RunState, where: Path) -> None:
        epochs, finished = self._record.epochs(self._steps_per_epoch), len(state.metrics)
        if epochs is not None and finished >= epochs and state.step > finished * self._steps_per_epoch:
            raise ValueError(
                f"epochs must be at least {finished + 1}, got {epochs}: {where} is in the middle of "
                f"epoch {finished + 1}"
            )
