"""What a training run is: its configuration and its data, so that only the same run is gone on with.

The record stands in the run's folder (config.json) and in each of its checkpoints.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pixelcnn.config import TrainConfig, from_dict, to_dict

__all__ = ["RunRecord"]

_MAY_DIFFER = {  # between a run and its continuation
    "epochs", "device", "compile", "finish", "checkpoint_seconds", "keep_last", "sample_images", "tensorboard",
}  # fmt: skip
_MAY_BRANCH = {"learning_rate", "clip_norm", "weight_decay", "dropout"}  # in a new folder, from a given checkpoint


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run's configuration, its data, and what its last bits depend on besides."""

    data: str
    """What the images are, in words."""
    training: str
    """Number and SHA-256 of the training images, with their labels if they are used."""
    validation: str
    """Number and SHA-256 of the validation images."""
    train: TrainConfig
    """The configuration."""
    torch: str
    """PyTorch's version."""
    threads: int
    """Threads that one operation uses on the CPU."""
    precision: str = "float32"
    """What is multiplied in: "float32" or "bf16"."""
    processes: int = 1
    """Processes that train together."""
    origin: str = ""
    """Where a run that went on from another run's checkpoint under other options began; nothing for a whole run."""

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        training: tuple[Tensor, Tensor | None],
        validation: tuple[Tensor, Tensor | None],
        data: str,
        precision: str = "float32",
        processes: int = 1,
    ) -> RunRecord:
        """The record of a run that starts now, on images and, for a conditional model, their labels."""
        return cls(
            data=data,
            training=_fingerprint(*training),
            validation=_fingerprint(*validation),
            train=config,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            precision=precision,
            processes=processes,
        )

    @classmethod
    def from_json(cls, values: object, where: str) -> RunRecord:
        """The record from `to_json`'s parsed values.

        Raises:
            ValueError: If it is not a run's record.
        """
        return from_dict(cls, values, where)

    def to_json(self) -> str:
        """The record as an indented JSON object."""
        return json.dumps(to_dict(self), indent=2) + "\n"

    def check_continues(self, earlier: RunRecord, where: str) -> None:
        """Whether this run is the same as an earlier one, perhaps longer.

        Warns:
            UserWarning: If the result will differ in its last bits: another PyTorch, number of threads or processes,
                or precision.

        Raises:
            ValueError: If it is another run.
        """
        for name, old, new in self._differences(earlier):
            raise ValueError(f"{where} holds a run with {name} = {old!r}, not {new!r}; choose another folder")
        self._warn_of_other_bits(earlier, where)

    def branch_of(self, earlier: RunRecord, where: str) -> RunRecord:
        """This run's record if it goes on from the checkpoint `where` of an earlier one.

        The learning rate, clip_norm, weight decay and dropout may differ then; the new record says so.

        Warns:
            UserWarning: If they differ, or the last bits will.

        Raises:
            ValueError: If anything else differs.
        """
        changed = []
        for name, old, new in self._differences(earlier):
            if name not in _MAY_BRANCH:
                raise ValueError(f"{where} holds a run with {name} = {old!r}, not {new!r}; choose another folder")
            changed.append(f"{name} = {old!r}")
            warnings.warn(f"going on from {where} with {name} = {new!r}, which was {old!r} before", stacklevel=2)
        self._warn_of_other_bits(earlier, where)
        begun = f"{Path(where).name} of a run with {', '.join(changed)}" if changed else ""
        return dataclasses.replace(self, origin="; before that, ".join(filter(None, [begun, earlier.origin])))

    def _differences(self, earlier: RunRecord) -> list[tuple[str, object, object]]:
        """Name, earlier and present value of what makes it another run."""
        decides = self.train.schedule != "constant" and self.train.steps is self.train.minutes is None
        may_differ = _MAY_DIFFER - ({"epochs"} if decides else set())
        pairs = [(name, getattr(earlier, name), getattr(self, name)) for name in ("data", "training", "validation")]
        pairs += [
            (f.name, getattr(earlier.train, f.name), getattr(self.train, f.name))
            for f in dataclasses.fields(TrainConfig)
            if f.name not in may_differ
        ]
        return [pair for pair in pairs if pair[1] != pair[2]]

    def _warn_of_other_bits(self, earlier: RunRecord, where: str) -> None:
        for name, old, new in (
            ("PyTorch", earlier.torch, self.torch),
            ("a number of threads", earlier.threads, self.threads),
            ("a number of processes", earlier.processes, self.processes),
            ("a precision", earlier.precision, self.precision),
        ):
            if old != new:
                warnings.warn(
                    f"{where} was begun with {name} of {old}, and goes on with {new}: the last bits will differ from "
                    "an uninterrupted run's",
                    stacklevel=3,
                )


def _fingerprint(images: Tensor, labels: Tensor | None) -> str:
    digest = hashlib.sha256(images.cpu().contiguous().numpy().data)
    if labels is not None:
        digest.update(labels.cpu().contiguous().numpy().data)
    return f"{len(images)} {'images' if labels is None else 'labelled images'}, SHA-256 {digest.hexdigest()}"
