"""The record of a run, its configuration and its data or energy, by which only the same run is resumed.

The record is in the run's folder (config.json) and in each of its checkpoints.
"""

from __future__ import annotations

import dataclasses
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from torch import Tensor, get_num_threads
from torch import __version__ as torch_version

from pixelcnn.config import EnergyConfig, TrainConfig, to_dict
from pixelcnn.datasets import Patches
from pixelcnn.files import values_digest
from pixelcnn.processes import Processes

__all__ = ["EnergyRecord", "Record", "RunRecord"]

_MAY_DIFFER = {  # when a run is resumed
    "epochs", "device", "compile", "finish", "checkpoint_seconds", "keep_last", "sample_images", "tensorboard",
}  # fmt: skip
_RECORDED = 16  # energies
_ROUNDED = 1e-5  # by how much of the largest one they may differ: a sum's bits depend on the machine


@dataclass(frozen=True, kw_only=True)
class Record(ABC):
    """The record of a run of any kind: JSON values."""

    sources: ClassVar[tuple[str, ...]]
    """The fields of what the model is trained on."""
    surroundings: ClassVar[dict[str, str]] = {"torch": "PyTorch", "threads": "number of threads"}
    """The fields on which only the last bits depend, and what they are."""

    torch: str = torch_version
    """PyTorch's version."""
    threads: int = field(default_factory=get_num_threads)
    """Number of threads on the CPU."""

    @property
    @abstractmethod
    def config(self) -> TrainConfig | EnergyConfig:
        """The configuration."""

    @abstractmethod
    def epochs(self, steps_per_epoch: int) -> int | None:
        """Number of epochs of the run, the last of which may not be whole; None if that is not known beforehand."""

    def may_differ(self) -> set[str]:
        """The options that may be other ones when the run is resumed."""
        return _MAY_DIFFER

    def check_continues(self, earlier: Self, where: str) -> None:
        """Checks that this run is the same as an earlier one, perhaps longer.

        Warns:
            UserWarning: If the last bits of the result will differ.

        Raises:
            ValueError: If it is another run.
        """
        names = [f.name for f in dataclasses.fields(self.config) if f.name not in self.may_differ()]
        for one, other, compared in ((earlier, self, self.sources), (earlier.config, self.config, names)):
            for name in compared:
                if (old := getattr(one, name)) != (new := getattr(other, name)):
                    raise ValueError(
                        f"{where} holds a run with {name} = {old!r}, not {new!r}; resume it with the same options, or "
                        "choose another folder (out) for a new run"
                    )
        for name, what in self.surroundings.items():
            if (old := getattr(earlier, name)) != (new := getattr(self, name)):
                warnings.warn(
                    f"{where} was begun with {what} {old} and is resumed with {new}: the last bits will differ from "
                    "those of an uninterrupted run",
                    stacklevel=2,
                )


@dataclass(frozen=True, kw_only=True)
class RunRecord(Record):
    """A run's configuration, its data, and what else its last bits depend on."""

    earlier_names: ClassVar[dict[str, str | None]] = {"origin": None}  # of runs that changed their configuration
    sources = ("data", "training", "validation", "init")
    surroundings = Record.surroundings | {"processes": "number of processes", "precision": "precision"}

    data: str
    """The source of the images, in words."""
    training: str
    """Number and SHA-256 of the training images, with their labels if they are used."""
    validation: str
    """Number and SHA-256 of the validation images."""
    train: TrainConfig
    """The configuration."""
    precision: str = "float32"
    """Precision of products: "float32" or "bf16"."""
    processes: int = 1
    """Number of processes that train together."""
    init: str = ""
    """SHA-256 of the model whose weights were the first ones; empty for random ones."""

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        training: tuple[Tensor | Patches, Tensor | None, Tensor | None],
        validation: tuple[Tensor | Patches, Tensor | None, Tensor | None],
        data: str,
        processes: int = 1,
        init: str = "",
    ) -> RunRecord:
        """The record of a run that starts now, on images and, for a conditional model, their labels and condition."""
        return cls(
            data=data,
            training=_fingerprint(*training),
            validation=_fingerprint(*validation),
            train=config,
            processes=processes,
            init=init,
        )

    def check_alike(self, processes: Processes) -> None:
        """Checks that all processes were given the same run: one may read another copy of the images.

        Raises:
            ValueError: If not.
        """
        mine = [self.data, self.training, self.validation, self.init, to_dict(self.train)]
        if any(processes.sum([mine != processes.from_first(lambda: mine)])):
            raise ValueError("the processes were given different images or options; give all the same")

    @property
    def config(self) -> TrainConfig:
        """See `Record.config`."""
        return self.train

    def epochs(self, steps_per_epoch: int) -> int | None:
        """See `Record.epochs`."""
        config = self.train
        if config.minutes is not None:
            return None
        return -(-(config.steps or config.epochs * steps_per_epoch) // steps_per_epoch)

    def may_differ(self) -> set[str]:
        """See `Record.may_differ`. The number of epochs decides the rates of a schedule."""
        decides = self.train.schedule != "constant" and self.train.steps is self.train.minutes is None
        return _MAY_DIFFER - ({"epochs"} if decides else set())


@dataclass(frozen=True, kw_only=True)
class EnergyRecord(Record):
    """The record of a run that trains a model from an energy."""

    sources = ("model",)

    model: dict[str, Any]
    """The model's class and configuration."""
    energies: tuple[float, ...]
    """The energies of some images: a function has no other identity."""
    fit: EnergyConfig
    """The configuration."""

    @classmethod
    def of(cls, config: EnergyConfig, model: dict[str, Any], energies: Tensor) -> EnergyRecord:
        """The record of a run that starts now, by the model's class and configuration and energies of some images."""
        return cls(model=model, energies=tuple(energies[:_RECORDED].tolist()), fit=config)

    def check_continues(self, earlier: Self, where: str) -> None:
        """See `Record.check_continues`. The energies may be rounded otherwise."""
        super().check_continues(earlier, where)
        most = _ROUNDED * max(map(abs, earlier.energies))
        if any(abs(new - old) > most for old, new in zip(earlier.energies, self.energies, strict=True)):
            raise ValueError(
                f"{where} holds a run with another energy; resume it with the same one, or choose another folder (out) "
                "for a new run"
            )

    @property
    def config(self) -> EnergyConfig:
        """See `Record.config`."""
        return self.fit

    def epochs(self, steps_per_epoch: int) -> int:
        """See `Record.epochs`."""
        return -(-self.fit.steps // steps_per_epoch)


def _fingerprint(images: Tensor | Patches, labels: Tensor | None, condition: Tensor | None) -> str:
    given = [each for each in (labels, condition) if each is not None]
    if isinstance(images, Patches):
        what, digest = "patches", images.digest + (f" and {values_digest(*given)}" if given else "")
    else:
        what, digest = "images", values_digest(images, *given)
    kind = ("" if labels is None else "labelled ") + what + ("" if condition is None else " with conditions")
    return f"{len(images)} {kind}, SHA-256 {digest}"
