"""`pixelcnn train`: trains a model and writes a run's folder."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.config import FAMILIES, PRESETS, TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Train"]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model.

    The other options start from the preset: `quick` reaches recognisable digits in about 90 seconds on two cores,
    `seed` is the Keras example's recipe exactly (532,673 parameters, 50 epochs), `fast` the same network taught more
    quickly, `best` a deeper one of no more parameters, taught for the lowest loss. Ctrl-C (exit code 130) and SIGTERM
    (143) write a checkpoint after the next step, and the same command goes on from it, to the same bits as a run that
    was never stopped. A full disk, or a loss that diverges, ends the run with exit code 2; earlier checkpoints stay.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """What to train on: mnist."""
    preset: Literal["quick", "seed", "fast", "best"] = "quick"
    """Where the other options start from; with --help, shows that preset's values."""
    model: Literal["pixelcnn", "gated", "plusplus"] | None = None
    """The family, by default the preset's: `pixelcnn` is the example's network, `gated` has two stacks and no blind
    spot, `plusplus` a mixture of logistics for many levels; with --help, shows that family's options."""
    minutes: float | None = None
    """Train for about so many minutes instead of --epochs: some seconds of steps are timed, and --steps set
    accordingly. Validation and pictures come on top. A run that is gone on with keeps its number of steps."""
    out: Path | None = None
    """The run's folder, by default trained/DATA-PRESET. The finished model is in its sub-folder `model`."""
    resume: str = "auto"
    """`auto` goes on from the folder's newest checkpoint if there is one; `off` starts, in a new folder; a path starts
    from that checkpoint, in another folder perhaps with another learning rate, clip norm, weight decay or dropout."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    @classmethod
    def with_preset(cls, arguments: list[str]) -> Train:
        """The defaults under the preset and the family that the arguments name; the parser refuses unknown ones."""
        config = PRESETS.get(_given(arguments, "--preset"), PRESETS["quick"])
        family = FAMILIES.get(_given(arguments, "--model"))
        if family is not None and not isinstance(config.model, family):
            config = dataclasses.replace(config, model=family(image_shape=config.model.image_shape))
        return cls(data=tyro.MISSING, config=config)

    def run(self) -> None:
        """Trains."""
        from pixelcnn.datasets import open_training
        from pixelcnn.processes import job
        from pixelcnn.training import train

        if self.minutes is not None and self.config.steps is not None:
            raise ValueError("--minutes and --steps exclude each other: leave one out")
        training, validation = open_training(self.data, self.config.protocol, self.config.model.levels)
        out = self.out or Path("trained") / f"{self.data}-{self.preset}"
        config = self.config
        if self.minutes is not None:
            steps = self._steps(out, training)
            if job().first:
                print(f"{steps} steps in about {self.minutes:g} minutes", file=sys.stderr)
            config = dataclasses.replace(config, steps=steps)
        train(config, training, validation, out, data=self.data, resume=self.resume)
        print(f"the model is in {out / 'model'}; draw from it: pixelcnn sample {out}")

    def _steps(self, out: Path, training: Tensor) -> int:
        """Those of the run in the folder, or as many as --minutes has time for."""
        from pixelcnn.files import read_json
        from pixelcnn.processes import job
        from pixelcnn.training.record import RunRecord
        from pixelcnn.training.steppers import steps_within

        assert self.minutes is not None
        path = out / "config.json"
        earlier: int | None = job().from_first(
            lambda: RunRecord.from_json(read_json(path), str(path)).train.steps if path.exists() else None
        )
        return earlier or steps_within(self.minutes, self.config, training, processes=job())


def _given(arguments: list[str], option: str) -> str:
    """The value that the arguments give an option; nothing if they do not."""
    for k, argument in enumerate(arguments):
        if argument == option and k + 1 < len(arguments):
            return arguments[k + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return ""
