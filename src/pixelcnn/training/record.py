"""The record of a run, its configuration and its data, by which only the same run is resumed.

The record is in the run's folder (config.json) and in each of its checkpoints.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pixelcnn.config import TrainConfig, to_dict
from pixelcnn.files import values_digest
from pixelcnn.processes import Processes

__all__ = ["RunRecord"]

_MAY_DIFFER = {  # when a run is resumed
    "epochs", "device", "compile", "finish", "checkpoint_seconds", "keep_last", "sample_images", "tensorboard",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run's configuration, its data, and what else its last bits depend on."""

    earlier_names: ClassVar[dict[str, str | None]] = {"origin": None}  # of runs that changed their configuration

    data: str
    """The source of the images, in words."""
    training: str
    """Number and SHA-256 of the training images, with their labels if they are used."""
    validation: str
    """Number and SHA-256 of the validation images."""
    train: TrainConfig
    """The configuration."""
    torch: str
    """PyTorch's version."""
    threads: int
    """Number of threads on the CPU."""
    precision: str = "float32"
    """Precision of products: "float32" or "bf16"."""
    processes: int = 1
    """Number of processes that train together."""

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

    def check_alike(self, processes: Processes) -> None:
        """Checks that all processes were given the same run: one may read another copy of the images.

        Raises:
            ValueError: If not.
        """
        mine = [self.data, self.training, self.validation, to_dict(self.train)]
        if any(processes.sum([mine != processes.from_first(lambda: mine)])):
            raise ValueError("the processes were given different images or options; give all the same")

    def check_continues(self, earlier: RunRecord, where: str) -> None:
        """Checks that this run is the same as an earlier one, perhaps longer.

        Warns:
            UserWarning: If the last bits of the result will differ: another PyTorch, number of threads or processes,
                or precision.

        Raises:
            ValueError: If it is another run.
        """
        decides = self.train.schedule != "constant" and self.train.steps is self.train.minutes is None
        may_differ = _MAY_DIFFER - ({"epochs"} if decides else set())
        names = [f.name for f in dataclasses.fields(TrainConfig) if f.name not in may_differ]
        pairs = [(name, getattr(earlier, name), getattr(self, name)) for name in ("data", "training", "validation")]
        pairs += [(name, getattr(earlier.train, name), getattr(self.train, name)) for name in names]
        for name, old, new in pairs:
            if old != new:
                raise ValueError(
                    f"{where} holds a run with {name} = {old!r}, not {new!r}; resume it with the same options, or "
                    "choose another folder for a new run"
                )
        for name, old, new in (
            ("PyTorch", earlier.torch, self.torch),
            ("number of threads", earlier.threads, self.threads),
            ("number of processes", earlier.processes, self.processes),
            ("precision", earlier.precision, self.precision),
        ):
            if old != new:
                warnings.warn(
                    f"{where} was begun with {name} {old} and is resumed with {new}: the last bits will differ from "
                    "those of an uninterrupted run",
                    stacklevel=2,
                )


def _fingerprint(images: Tensor, labels: Tensor | None) -> str:
    kind = "images" if labels is None else "labelled images"
    return f"{len(images)} {kind}, SHA-256 {values_digest(images, *([] if labels is None else [labels]))}"
