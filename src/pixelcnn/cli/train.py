"""`pixelcnn train`: trains a model and writes a run's folder."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.cli import options
from pixelcnn.config import FAMILIES, PRESETS, DataConfig, GatedPixelCNNConfig, TrainConfig, map_of, recipe
from pixelcnn.levels import GREY_LEVELS

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.config import ModelConfig
    from pixelcnn.datasets import TrainingData
    from pixelcnn.models import AutoregressiveModel

    Family = str
else:
    Family = Literal[tuple(FAMILIES)]  # the choices that tyro offers


_LENGTHS = ("--steps", "--minutes")  # of a run, instead of epochs
_PATHS = ("--out", "--condition", "--init", "--resume")  # whose values are no data
_MANY_LEVELS = 64  # from which on neighbouring levels of a picture are alike enough for a mixture of logistics


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model.

    The defaults of the other options come from the preset. `quick`, `fast` and `best` train a network that sees the
    whole picture, for one minute, ten minutes and three hours; `seed` is exactly the Keras example's recipe (532,673
    parameters, 50 epochs). Ctrl-C (exit code 130) and SIGTERM (143) write a checkpoint after the current step, and the
    same command resumes from it, to the same bits as a run that was never stopped. A full disk or a diverging loss ends
    the run with exit code 2; earlier checkpoints stay.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """The training data: mnist; mnist-dynamic, of which each epoch draws every pixel anew, white with probability
    grey / 255; a folder of pictures, whose sub-folders are classes; a .npy or .npz file of integers; the binary version
    of CIFAR-10; or hf:NAME, from the datasets library."""
    preset: Literal["quick", "seed", "fast", "best"] = "quick"
    """The preset, from which the defaults come; with --help, its values are shown."""
    model: Family | None = None
    """The family, by default the preset's, but for pictures in many levels `plusplus`, and for patches of them `photo`:
    `pixelcnn` is the Keras example's network, `gated` has two stacks and no blind spot, `plusplus` has a mixture of
    logistics for many levels, `photo` corrects a linear prediction; with --help, its options are shown."""
    conditional: bool = False
    """Condition the model on the data's classes; for the families gated and plusplus."""
    condition: str | None = None
    """Condition the model on maps or vectors as well: `shrink:S`, the images themselves, each S x S pixels averaged
    (super-resolution); a folder of pictures with the same names as the images, or a .npy file in their order;
    `labels:PATH`, the same with categories. For the families gated and plusplus; `photo` takes maps alone."""
    levels: int | None = None
    """Number of values of a sub-pixel, 2..65,536; by default 256 for pictures, and 2 for mnist (`plusplus`: 256)."""
    out: Path | None = None
    """The run's folder, by default trained/DATA-PRESET; the finished model is in its sub-folder `model`."""
    init: str | None = None
    """Fine-tune: start from the weights of this model, given as for `pixelcnn sample`, instead of random ones. The
    network and the levels are its own, so leave out --model and the network's options; with --orders, its classes are
    dropped. Of a training run that was stopped, the newest checkpoint is taken."""
    threads: options.Threads = None
    resume: str = "auto"
    """`auto` resumes from the folder's newest checkpoint, if there is one; `off` starts, in a new folder; a path
    resumes from that checkpoint, perhaps in another folder. The options must be those of the run."""
    images: Annotated[DataConfig, tyro.conf.arg(name="")] = field(default_factory=DataConfig)
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    @classmethod
    def with_preset(cls, arguments: list[str]) -> Train:
        """The defaults for the preset and the family in the arguments; the parser refuses unknown ones.

        Raises:
            ValueError: If the arguments give the length of a run twice.
        """
        preset, family = _given(arguments, "--preset"), _given(arguments, "--model")
        cls.__annotations__["model"] = Literal[tuple(FAMILIES)] | None  # with those that were registered meanwhile
        preset, (usual, levels) = preset if preset in PRESETS else "quick", _suited(arguments)
        config = recipe(preset, family if family in FAMILIES else None if preset == "seed" else usual, levels)
        if isinstance(config.model, GatedPixelCNNConfig) and _given(arguments, "--layers"):
            config = dataclasses.replace(config, model=_of_any_depth(config.model))
        epochs, *others = (_given(arguments, option) not in ("", "None") for option in ("--epochs", *_LENGTHS))
        if arguments[:1] == ["train"] and epochs and any(others):
            raise ValueError(f"--epochs must be left out beside {' and '.join(_LENGTHS)}, which set the run's length")
        if (epochs or others[0]) and not _given(arguments, "--minutes"):
            config = dataclasses.replace(config, minutes=None)
        return cls(data=tyro.MISSING, config=config)

    def run(self) -> None:
        """Trains."""
        from pixelcnn.datasets import name_of, open_training
        from pixelcnn.processes import job
        from pixelcnn.training import train

        out = self.out or Path("trained") / f"{name_of(self.data)}-{self.preset}"
        options.check_outside("--out", out, self.data)
        init = None if self.init is None else self._initial()
        architecture = self.config.model if init is None else init.config
        mnist = self.levels is None and (self.data == "mnist" or init is not None)
        levels = architecture.levels if mnist else self.levels

        def opened() -> TrainingData:
            return open_training(self.data, self.config.protocol, levels, self.images)

        if job().count > 1:
            job().from_first(lambda: opened().levels)  # the first process decodes for all
        data = opened()
        data, condition = self._condition(data, architecture)
        model = self._model_for(data, condition) if init is None else self._same_model(init, data)
        config = dataclasses.replace(self.config, model=model, binarise=data.binarise)
        labels = (data.training_labels, data.validation_labels) if self.conditional else (None, None)
        train(
            config,
            data.training,
            data.validation,
            out,
            training_labels=labels[0],
            validation_labels=labels[1],
            class_names=data.classes if self.conditional else None,
            init=init,
            training_condition=condition[0],
            validation_condition=condition[1],
            data=data.description,
            summary=data.summary,
            resume=self.resume,
        )
        print(f"the model is in {out / 'model'}; draw from it: pixelcnn sample {out}")

    def _initial(self) -> AutoregressiveModel:
        """The model of --init, for which the network's options must have been left out."""
        from pixelcnn.models import MixtureModel
        from pixelcnn.models.base import load
        from pixelcnn.models.ensemble import network_of_orders

        assert self.init is not None
        several = (None, 2), (None, GREY_LEVELS), ("plusplus", GREY_LEVELS), ("photo", GREY_LEVELS)
        defaults = [recipe(self.preset, family, levels).model for family, levels in several]
        if self.model is not None or self.config.model not in defaults:
            raise ValueError("--init decides the network: leave out --model and the network's options")
        found = load(self.init)
        orders = self.config.orders
        if orders == 1 and isinstance(found, MixtureModel):
            raise ValueError(f"--init must have one scan order, {self.init} is of class {type(found).__name__}")
        if self.condition is not None:
            options.check_conditional(found, self.init, self.condition)
        elif found.conditions.size is not None or found.conditions.channels:
            raise ValueError(f"--init {self.init} is conditional on a vector or a map; give --condition")
        if orders > 1:
            if self.conditional:
                raise ValueError(f"--orders {orders} are the classes of the network: leave out --conditional")
            try:
                return network_of_orders(found, orders)
            except ValueError as error:
                raise ValueError(f"--init {self.init} beside --orders {orders}: {error}") from None
        return found

    def _same_model(self, init: AutoregressiveModel, data: TrainingData) -> ModelConfig:
        """The architecture of --init, if it fits the data's images, levels and classes."""
        orders = self.config.orders
        classes = orders if orders > 1 else len(data.classes or ()) if self.conditional else None
        for what, own, given in (
            ("images (channels, height, width)", init.image_shape, data.image_shape),
            ("levels", init.levels, data.levels),
            ("classes", init.num_classes, classes),
        ):
            if own != given:
                wanted = "; give --conditional" if what == "classes" and not self.conditional else ""
                raise ValueError(f"--init {self.init} has {what} {own}, and {self.data} {given}{wanted}")
        return init.config

    def _condition(
        self, data: TrainingData, architecture: ModelConfig
    ) -> tuple[TrainingData, tuple[Tensor | None, Tensor | None]]:
        """The data, and what the training and the validation images are conditioned on; patches make their own maps."""
        if self.condition is None:
            return data, (None, None)
        from pixelcnn.datasets import Patches, read_given, read_shrunk

        if not hasattr(architecture, "condition_channels"):
            raise ValueError("--condition needs a family that can have one: --model gated, plusplus or photo")
        if data.binarise:
            raise ValueError(
                f"--condition needs images that are the same in each epoch, and {self.data} are drawn anew"
            )
        if isinstance(data.training, Patches):
            if not self.condition.startswith("shrink:"):
                raise ValueError(f"--condition beside --patch must be shrink:S, got {self.condition}")
            maps = read_shrunk(self.condition, data.validation, data.levels)
            patches = data.training.shrunk_by(data.validation.shape[-1] // maps.shape[-1])
            return dataclasses.replace(data, training=patches), (None, maps)
        if self.condition.startswith("shrink:"):
            sides = [read_shrunk(self.condition, images, data.levels) for images in (data.training, data.validation)]
        else:  # together, since one map in colour decides for all
            names = data.training_names(), data.validation_names()
            colour = map_of(architecture)[0] == 3
            maps = read_given(self.condition, [*names[0], *names[1]], data.total, colour=colour)
            sides = [maps[: len(names[0])], maps[len(names[0]) :]]
        return data, (sides[0], sides[1])

    def _model_for(self, data: TrainingData, condition: tuple[Tensor | None, Tensor | None]) -> ModelConfig:
        """The architecture for the data's images, levels and classes."""
        changes: dict[str, object] = {"image_shape": data.image_shape, "levels": data.levels}
        channels = data.image_shape[0]
        if isinstance(self.config.model, GatedPixelCNNConfig) and self.config.model.filters % channels:
            filters = changes["filters"] = -(-self.config.model.filters // channels) * channels
            print(f"{filters} filters: a multiple of the {channels} channels", file=sys.stderr)
        if self.conditional:
            if not hasattr(self.config.model, "num_classes"):
                raise ValueError("--conditional needs a family with classes: --model gated or --model plusplus")
            if data.classes is None:
                raise ValueError(f"--conditional needs classes, and {self.data} has none: sub-folders, or labels")
            changes["num_classes"] = len(data.classes)
        if self.condition is not None:
            from pixelcnn.datasets import condition_fields

            fields = condition_fields(self.condition, *condition)
            if not hasattr(self.config.model, next(iter(fields))):
                raise ValueError(f"--condition {self.condition} holds vectors, for --model gated or --model plusplus")
            changes |= fields
        if (orders := self.config.orders) > 1:
            if self.conditional or not hasattr(self.config.model, "num_classes"):
                raise ValueError(
                    f"--orders {orders} needs a family with classes, which are then the orders: --model gated or "
                    "--model plusplus, without --conditional"
                )
            changes["num_classes"] = orders
        return dataclasses.replace(self.config.model, **changes)  # type: ignore[arg-type]


def _of_any_depth(model: GatedPixelCNNConfig) -> GatedPixelCNNConfig:
    """The network with the first of its kernel sizes in all later layers, however many there are."""
    sizes = model.kernel_size
    return dataclasses.replace(model, kernel_size=sizes if isinstance(sizes, int) else sizes[0])


def _suited(arguments: list[str]) -> tuple[str | None, int]:
    """The family that suits the data, None for the preset's, and their levels, as far as the arguments tell."""
    following = itertools.pairwise(["", *arguments])
    others = [each for before, each in following if before not in _PATHS and not each.startswith("--")]
    named = any(each in ("mnist", "mnist-dynamic") or each.endswith((".npy", ".npz")) for each in others)
    archives = (".tar.gz", ".tgz", ".tar")
    sources = (each for each in others if each.startswith("hf:") or each.endswith(archives) or Path(each).is_dir())
    pictures = not named and any(sources)
    given = _given(arguments, "--levels")
    levels = int(given) if given.isdecimal() else GREY_LEVELS if pictures else 2
    if not pictures or levels < _MANY_LEVELS:
        return None, levels
    return "photo" if _given(arguments, "--patch") and "--conditional" not in arguments else "plusplus", levels


def _given(arguments: list[str], option: str) -> str:
    """The value of an option in the arguments, its last one as for the parser; "" if they do not hold it."""
    found = ""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument == option:
            found = following
        elif argument.startswith(f"{option}="):
            found = argument.partition("=")[2]
    return found


COMMANDS = {"train": Train}
