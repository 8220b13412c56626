"""The record of a run, its configuration and its data or energy, by which only the same run is resumed.

The record is in the run's folder (config.json) and in each of its checkpoints.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from pixelcnn.config import EnergyConfig, TrainConfig, to_dict
from pixelcnn.files import values_digest
from pixelcnn.processes import Processes

__all__ = ["EnergyRecord", "Record", "RunRecord"]

_MAY_DIFFER = {  # when a run is resumed
    "epochs", "device", "compile", "finish", "checkpoint_seconds", "keep_last", "sample_images", "tensorboard",
}  # fmt: skip


class Record(Protocol):
    """The record of a run of any kind: a dataclass of JSON values."""

    def epochs(self, steps_per_epoch: int) -> int | None:
        """Number of epochs of the run, the last of which may not be whole; None if that is not known beforehand."""
        ...

    def check_continues(self, earlier: Any, where: str) -> None:
        """Checks that this run is the same as an earlier one, perhaps longer.

        Warns:
            UserWarning: If the last bits of the result will differ.

        Raises:
            ValueError: If it is another run.
        """
        ...


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

    def epochs(self, steps_per_epoch: int) -> int | None:
        """See `Record.epochs`."""
        config = self.train
        if config.minutes is not None:
            return None
        return -(-(config.steps or config.epochs * steps_per_epoch) // steps_per_epoch)

    def check_continues(self, earlier: RunRecord, where: str) -> None:
        """See `Record.check_continues`. The last bits depend on PyTorch, the numbers of threads and processes, and the
        precision.
        """
        decides = self.train.schedule != "constant" and self.train.steps is self.train.minutes is None
        may_differ = _MAY_DIFFER - ({"epochs"} if decides else set())
        names = [f.name for f in dataclasses.fields(TrainConfig) if f.name not in may_differ]
        pairs = [(name, getattr(earlier, name), getattr(self, name)) for name in ("data", "training", "validation")]
        pairs += [(name, getattr(earlier.train, name), getattr(self.train, name)) for name in names]
        _check_same(pairs, where)
        _warn_of_bits(
            [
                ("PyTorch", earlier.torch, self.torch),
                ("number of threads", earlier.threads, self.threads),
                ("number of processes", earlier.processes, self.processes),
                ("precision", earlier.precision, self.precision),
            ],
            where,
        )


@dataclass(frozen=True, kw_only=True)
class EnergyRecord:
    """The record of a run that trains a model from an energy."""

    model: dict[str, Any]
    """The model's class and configuration."""
    energy: str
    """SHA-256 of the energies of some images: a function has no other identity."""
    fit: EnergyConfig
    """The configuration."""
    torch: str
    """PyTorch's version."""
    threads: int
    """Number of threads on the CPU."""

    @classmethod
    def of(cls, config: EnergyConfig, model: dict[str, Any], energies: Tensor) -> EnergyRecord:
        """The record of a run that starts now, by the model's class and configuration and energies of some images."""
        digest = f"SHA-256 {values_digest(energies)} of {len(energies)} values"
        return cls(model=model, energy=digest, fit=config, torch=torch.__version__, threads=torch.get_num_threads())

    def epochs(self, steps_per_epoch: int) -> int:
        """See `Record.epochs`."""
        return -(-self.fit.steps // steps_per_epoch)

    def check_continues(self, earlier: EnergyRecord, where: str) -> None:
        """See `Record.check_continues`. The last bits depend on PyTorch and the number of threads."""
        names = [f.name for f in dataclasses.fields(EnergyConfig) if f.name not in _MAY_DIFFER]
        pairs = [(name, getattr(earlier, name), getattr(self, name)) for name in ("model", "energy")]
        pairs += [(name, getattr(earlier.fit, name), getattr(self.fit, name)) for name in names]
        _check_same(pairs, where)
        _warn_of_bits(
            [("PyTorch", earlier.torch, self.torch), ("number of threads", earlier.threads, self.threads)], where
        )


def _check_same(pairs: list[tuple[str, Any, Any]], where: str) -> None:
    """Checks what an earlier run had, by name, against what this one has."""
    for name, old, new in pairs:
        if old != new:
            raise ValueError(
                f"{where} holds a run with {name} = {old!r}, not {new!r}; resume it with the same options, or "
                "choose another folder for a new run"
            )


def _warn_of_bits(pairs: list[tuple[str, Any, Any]], where: str) -> None:
    for name, old, new in pairs:
        if old != new:
            warnings.warn(
                f"{where} was begun with {name} {old} and is resumed with {new}: the last bits will differ from "
                "those of an uninterrupted run",
                stacklevel=3,
            )


def _fingerprint(images: Tensor, labels: Tensor | None) -> str:
    kind = "images" if labels is None else "labelled images"
    return f"{len(images)} {kind}, SHA-256 {values_digest(images, *([] if labels is None else [labels]))}"
