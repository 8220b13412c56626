"""The configurations of training runs, on data and from an energy: model, recipe, length, device and what is saved; and
the presets.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import tyro

from pixelcnn.config.checks import Range, check_fields, check_rules
from pixelcnn.config.models import (
    FAMILIES,
    GatedPixelCNNConfig,
    ModelConfig,
    PhotoPixelCNNConfig,
    PixelCNNConfig,
    PixelCNNPlusPlusConfig,
)

__all__ = ["PRESETS", "EnergyConfig", "TrainConfig", "recipe"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training run computes, and how often it saves."""

    earlier_names: ClassVar[dict[str, str | None]] = {"unlabelled": "label_dropout"}

    model: tyro.conf.AvoidSubcommands[ModelConfig] = field(default_factory=PixelCNNConfig)
    """The architecture."""
    label_dropout: Annotated[float, Range(0, 1)] = 0.1
    """For a conditional model: probability that a training image is shown without its class, vector or map, drawn anew
    in each epoch. The model thereby also learns the unconditional distribution, which guidance needs."""
    protocol: Literal["clean", "seed"] = "clean"
    """The split of MNIST: `clean` is 55,000 training, 5,000 validation and 10,000 official test images; `seed` is the
    Keras example's: the last 7,000 of all 70,000 images validate (and 3,000 official test images are trained on)."""
    epochs: Annotated[int, Range(1)] = 50
    """Passes over the training images."""
    steps: Annotated[int | None, Range(1)] = None
    """Length of the run in steps instead of whole epochs; it may end within an epoch."""
    minutes: Annotated[float | None, Range(0, strict=True)] = None
    """Length of the run in minutes of training instead; validation and sampling come on top. The learning rate depends
    on the number of steps, so this is planned from the time per step, again and again during the run: it ends on time
    on a busy machine too, and no two such runs are identical bit for bit."""
    batch_size: Annotated[int, Range(1)] = 128
    """Images per step."""
    accumulate: Annotated[int, Range(1)] = 1
    """Number of parts in which the gradient of a step is computed and summed: less memory on a GPU, and the same step
    up to rounding. On a CPU, the batch is cut into slices that fit the caches anyway."""
    optimizer: Literal["adam", "muon"] = "adam"
    """`adam`: beta 0.9 and 0.999, epsilon 1e-7 as in Keras; `muon`: Muon for the weights of hidden convolutions, at
    the same learning rate, and Adam for the others."""
    learning_rate: Annotated[float, Range(0, strict=True)] = 5e-4
    """The peak learning rate."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """The learning rate over the run: `constant`; `cosine`, from the peak to zero at the last step; `one-cycle`, from
    1/25 of the peak up to it over the first 30 % of the run and down to nearly zero, along half cosines."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Steps over which the learning rate first rises linearly to the schedule's value."""
    clip_norm: Annotated[float | None, Range(0, strict=True)] = None
    """Largest Euclidean norm of a step's gradient (of the mean loss in nats per sub-pixel, over all weights); a longer
    gradient is scaled down to it. `None`: no clipping."""
    weight_decay: float = 0.0
    """Share of the weights, times the learning rate, that each step removes (decoupled, as in AdamW); biases are
    exempt."""
    frequency_bias: bool = False
    """Start the biases of a softmax's logits at the log-frequencies of the levels in the training images, not at 0;
    without effect where the first weights are another model's."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """Probability that a feature after a residual block's middle convolution is set to zero in training, in multiples
    of 2^-16; the others are scaled up. The training loss then includes the effect of dropout."""
    orders: Literal[1, 2, 4, 8] = 1
    """Number of scan orders that one network learns: each epoch shows every image flipped at random, for 8 orders also
    transposed, and the network is conditioned on the order, as a class. The finished model is their exact mixture, an
    `OrderEnsemble`. For a family that can be conditional; 8 for square images."""
    binarise: Annotated[bool, tyro.conf.Suppress] = False
    """The training images are grey values, 0..255, and each epoch draws every pixel anew, 1 with probability
    grey / 255; the validation images are binary. The command line takes it from the data: mnist-dynamic."""
    shift: Annotated[int, Range(0)] = 0
    """Largest shift of the training images in each direction, in pixels, drawn anew in each epoch; level 0 fills in."""
    flip: bool = False
    """Mirror each training image left to right with probability 1/2, anew in each epoch."""
    mutate: Annotated[float, Range(0, 1)] = 0.0
    """Probability that a sub-pixel of a training image is replaced by a uniformly drawn level, anew in each epoch: 0.1
    to 0.3 make the background model of a likelihood ratio (`pixelcnn score --score ratio`)."""
    ema: Annotated[float | None, Range(0, 1, strict=True)] = None
    """Decay of the exponential moving average of the weights, for example 0.999; the finished model then has the
    averaged weights. `None`: no average."""
    finish: Literal["last", "best"] = "last"
    """The weights of the finished model: those after the `last` epoch, or after the epoch with the `best` validation
    loss."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Decides all random numbers of the run: the initial weights, the order of the images and what is drawn anew in
    each epoch, dropout, and the samples drawn after each epoch."""
    device: str = "auto"
    """`auto` (CUDA where available), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Precision of products in training: `bf16` is PyTorch's autocast, with weights, sums over pixels and the
    likelihood in float32; `auto` is bf16 on CUDA, and on a CPU where a measurement at the start finds it faster.
    Held-out losses are always computed in float32."""
    compile: bool = True
    """On CUDA: compile the network with `torch.compile` (half a minute, once) and replay each step as a CUDA graph. For
    one process, if the images fit into half of the device's free memory."""
    checkpoint_seconds: Annotated[float, Range(0)] = 60.0
    """Seconds between checkpoints. One is also written at the end of each epoch, and at Ctrl-C or SIGTERM (after the
    current step; on CUDA after the steps already submitted, half a second)."""
    keep_last: Annotated[int, Range(2)] = 2  # a damaged one needs one before it
    """Number of newest checkpoints that are kept, besides the one with the best validation loss."""
    sample_images: Annotated[int, Range(0)] = 64
    """Images in the grid of samples drawn after each epoch; 0 draws none."""
    tensorboard: bool = False
    """Also write losses, learning rates, gradient norms and samples for TensorBoard, into the run's folder
    `tensorboard`; needs the extra of the same name."""

    def __post_init__(self) -> None:
        check_fields(self)
        height, width = self.model.image_shape[1:]
        rules = {
            "minutes": (self.minutes is None or self.steps is None, f"be None for a run of {self.steps} steps"),
            "accumulate": (self.accumulate <= self.batch_size, f"be at most the batch size of {self.batch_size}"),
            "weight_decay": _decay_rule(self.weight_decay, self.learning_rate),
            "shift": (self.shift < min(height, width), f"be less than the images' {height} rows and {width} columns"),
            "orders": (
                self.orders < 8 or height == width,
                f"be at most 4 for images of {height} rows and {width} columns, which are not square",
            ),
            "binarise": (not self.binarise or self.model.levels == 2, f"be False for {self.model.levels} levels"),
        }
        check_rules(self, rules)


@dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """Everything but model and energy that decides what a run of `pixelcnn.fit_energy` computes; see there."""

    beta: tuple[float, float]
    """Lowest and highest inverse temperature; equal for a run at one temperature."""
    steps: Annotated[int, Range(1)]
    """Length of the run."""
    batch_size: Annotated[int, Range(2)]
    """Images per step."""
    anneal: Annotated[float, Range(0, 1)] = 0.2
    """Share of the steps over which the inverse temperatures rise linearly from 0 to their values."""
    optimizer: Literal["adam", "muon"] = "adam"
    """As in `TrainConfig`, like the others of the recipe."""
    learning_rate: Annotated[float, Range(0, strict=True)] = 2e-3
    """The peak learning rate."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    """The learning rate over the run."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Steps over which the learning rate first rises linearly."""
    clip_norm: Annotated[float | None, Range(0, strict=True)] = 1.0
    """Largest Euclidean norm of a step's gradient, per sub-pixel."""
    weight_decay: float = 0.0
    """Share of the weights, times the learning rate, that each step removes."""
    ema: Annotated[float | None, Range(0, 1, strict=True)] = None
    """Decay of the moving average of the weights that the finished model gets."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the gradient's products, not of draws and their likelihoods: `bf16` is PyTorch's autocast."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Decides the images that are drawn."""
    report_steps: Annotated[int, Range(1)] = 100
    """Steps per line of metrics.jsonl."""
    checkpoint_seconds: Annotated[float, Range(0)] = 60.0
    """Time between checkpoints."""
    keep_last: Annotated[int, Range(2)] = 2
    """Number of newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        check_fields(self)
        pair = self.beta
        right = len(pair) == 2 and all(isinstance(b, int | float) for b in pair)
        rules = {
            "beta": (
                right and 0 <= pair[0] <= pair[1] < math.inf,
                "be a number of at least 0, finite, or a pair of them, the lower one first",
            ),
            "weight_decay": _decay_rule(self.weight_decay, self.learning_rate),
        }
        check_rules(self, rules)


def _decay_rule(decay: float, rate: float) -> tuple[bool, str]:
    """For `check_rules`, of weight decay at a learning rate: a step must leave something of the weights."""
    return 0 <= decay * rate < 1, f"be at least 0 and, times the learning rate of {rate:g}, less than 1"


_WHOLE_PICTURE = GatedPixelCNNConfig(
    filters=24, layers=5, first_kernel=11, kernel_size=(5, 5, 3, 3), places=True, context=(4, 2)
)  # 308,233 parameters for MNIST by class
_EMBEDDING = 12
_FAST = TrainConfig(
    model=_WHOLE_PICTURE,
    label_dropout=0.4,
    minutes=10,
    batch_size=16,
    optimizer="muon",
    learning_rate=4e-3,
    schedule="cosine",
    warmup_steps=200,
    clip_norm=1.0,
    frequency_bias=True,
    ema=0.998,
)

PRESETS: dict[str, TrainConfig] = {
    "seed": TrainConfig(protocol="seed", precision="float32"),
    "quick": dataclasses.replace(_FAST, minutes=1, batch_size=8, learning_rate=5e-3, warmup_steps=100, ema=0.99),
    "fast": _FAST,
    "best": dataclasses.replace(_FAST, minutes=180, weight_decay=0.05, ema=0.9995, finish="best"),
}
"""`seed`: exactly the Keras example's recipe. `quick`, `fast`, `best`: a network that sees the whole picture, trained
for one minute, ten minutes and three hours on two cores."""

_OTHERS: dict[str, tuple[ModelConfig, Literal["adam", "muon"], float]] = {
    "pixelcnn": (PixelCNNConfig(filters=16, blocks=8), "muon", 5e-3),
    "plusplus": (
        PixelCNNPlusPlusConfig(filters=24, blocks=1, mixtures=5, kernel_size=5, context=(4, 2), context_places=False),
        "muon",
        4e-3,
    ),
    "photo": (PhotoPixelCNNConfig(), "adam", 5e-3),
}  # fmt: skip
"""Networks of the other families for the same training times, with their optimisers and learning rates. PixelCNN++ and
PhotoPixelCNN are for pictures, which come in many sizes: they have no size of their own."""


def recipe(preset: str, family: str | None = None, levels: int = 2) -> TrainConfig:
    """The recipe of a preset; for another family than the preset's, with a network and a learning rate that suit it.

    Args:
        preset: A name of `PRESETS`.
        family: A name of `FAMILIES`; None for the preset's own.
        levels: Of the data; the gated network reads more than two by learned vectors.
    """
    config = PRESETS[preset]
    if family is None or isinstance(config.model, FAMILIES[family]):
        if levels > 2 and isinstance(config.model, GatedPixelCNNConfig):
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, embedding=_EMBEDDING))
        return config
    if preset == "seed":
        return dataclasses.replace(config, model=FAMILIES[family](image_shape=config.model.image_shape))
    model, optimizer, rate = _OTHERS.get(family, (FAMILIES[family](), config.optimizer, config.learning_rate))
    model = dataclasses.replace(model, image_shape=config.model.image_shape)
    return dataclasses.replace(config, model=model, optimizer=optimizer, learning_rate=rate)
