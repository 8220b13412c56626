"""What a training run is: its configuration and its data, so that only the same run is gone on with.

The record stands in the run's folder (config.json) and in each of its checkpoints.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelcnn.config import TrainConfig, from_dict, to_dict

__all__ = ["RunRecord"]

_MAY_DIFFER = {"epochs", "device", "checkpoint_seconds", "sample_images"}  # between a run and its continuation


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run's configuration, its data, and what its last bits depend on besides."""

    data: str
    """What the images are, in words."""
    training: str
    """Number and SHA-256 of the training images."""
    validation: str
    """Number and SHA-256 of the validation images."""
    train: TrainConfig
    """The configuration."""
    torch: str
    """PyTorch's version."""
    threads: int
    """Threads that one operation uses on the CPU."""

    @classmethod
    def of(cls, config: TrainConfig, training: Tensor, validation: Tensor, data: str) -> RunRecord:
        """The record of a run that starts now."""
        return cls(
            data=data,
            training=_fingerprint(training),
            validation=_fingerprint(validation),
            train=config,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
        )

    @classmethod
    def from_json(cls, values: object, where: str) -> RunRecord:
        """The record from `to_json`'s text or its parsed values.

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
            UserWarning: If the result will differ in its last bits: another PyTorch or number of threads.

        Raises:
            ValueError: If it is another run.
        """
        may_differ = _MAY_DIFFER - ({"epochs"} if self.train.schedule == "cosine" else set())
        pairs = [(name, getattr(earlier, name), getattr(self, name)) for name in ("data", "training", "validation")]
        pairs += [
            (f.name, getattr(earlier.train, f.name), getattr(self.train, f.name))
            for f in dataclasses.fields(TrainConfig)
            if f.name not in may_differ
        ]
        for name, old, new in pairs:
            if old != new:
                raise ValueError(f"{where} holds a run with {name} = {old!r}, not {new!r}; choose another folder")
        for name, old, new in (
            ("PyTorch", earlier.torch, self.torch),
            ("a number of threads", earlier.threads, self.threads),
        ):
            if old != new:
                warnings.warn(
                    f"{where} was begun with {name} of {old}, and goes on with {new}: the last bits will differ from "
                    "an uninterrupted run's",
                    stacklevel=2,
                )


def _fingerprint(images: Tensor) -> str:
    digest = hashlib.sha256(images.cpu().contiguous().numpy().data).hexdigest()
    return f"{len(images)} images, SHA-256 {digest}"
