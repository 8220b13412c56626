"""`pixelcnn train`: trains a model and writes a run's folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelcnn.config import PRESETS, TrainConfig

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
    """What to train on: mnist; a folder of pictures, in which sub-folders are classes; a .npy or .npz file of integers;
    CIFAR-10's binary version; or hf:NAME, of the datasets library."""
    preset: Literal["quick", "seed", "fast", "best"] = "quick"
    """Where the other options start from; with --help, shows that preset's values."""
    out: Path | None = None
    """The run's folder, by default trained/DATA-PRESET. The finished model is in its sub-folder `model`."""
    resume: str = "auto"
    """`auto` goes on from the folder's newest checkpoint if there is one; `off` starts, in a new folder; a path starts
    from that checkpoint, in another folder perhaps with another learning rate, clip norm, weight decay or dropout."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    @classmethod
    def with_preset(cls, arguments: list[str]) -> Train:
        """The defaults under the preset that the arguments name; an unknown one is left for the parser to refuse."""
        name = "quick"
        for k, argument in enumerate(arguments):
            if argument == "--preset" and k + 1 < len(arguments):
                name = arguments[k + 1]
            elif argument.startswith("--preset="):
                name = argument.removeprefix("--preset=")
        return cls(data=tyro.MISSING, config=PRESETS.get(name, PRESETS["quick"]))

    def run(self) -> None:
        """Trains."""
        from pixelcnn.datasets import name_of, open_training
        from pixelcnn.training import train

        data = open_training(self.data, self.config.protocol, self.config.model.levels)
        out = self.out or Path("trained") / f"{name_of(self.data)}-{self.preset}"
        train(self.config, data.training, data.validation, out, data=data.description, resume=self.resume)
        print(f"the model is in {out / 'model'}; draw from it: pixelcnn sample {out}")
