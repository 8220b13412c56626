"""Training runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from pixelcnn.config.checks import is_int, make_plain
from pixelcnn.config.models import ModelConfig, PixelCNNConfig

__all__ = ["TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training run computes, and how often it saves."""

    model: tyro.conf.AvoidSubcommands[ModelConfig] = field(default_factory=PixelCNNConfig)
    """The architecture."""
    unlabelled: float = 0.1
    """For a conditional model: share of the training images that are shown without their class or vector, drawn anew
    each epoch, so that it learns the unconditional distribution as well (and guidance has something to go by)."""
    protocol: Literal["clean", "seed"] = "clean"
    """The split of MNIST: `clean` is train 55,000 / validation 5,000 / official test 10,000; `seed` is the Keras
    example's: the last 7,000 of all 70,000 images validate (and most of the test set is trained on)."""
    epochs: int = 50
    """Passes over the training images."""
    steps: int | None = None
    """Length of the run in steps instead of whole epochs; it may end within an epoch."""
    minutes: float | None = None
    """Length of the run in minutes of training instead; validation and pictures come on top. How many steps that is
    decides the learning rate, so it is planned by what a step takes, and again as the run goes on: it ends in time on a
    busy machine too, and no two such runs are the same to the bit."""
    batch_size: int = 128
    """Images a step."""
    accumulate: int = 1
    """Parts in which the gradient of a step is computed and summed: less memory on a GPU, the same step up to rounding.
    On a CPU, slices that fit its caches do that anyway."""
    optimizer: Literal["adam", "muon"] = "adam"
    """`adam`: beta 0.9 and 0.999, epsilon 1e-7 as in Keras; `muon`: Muon for the weights of hidden convolutions, at
    the same rate, and Adam for the others."""
    learning_rate: float = 5e-4
    """At its peak."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """How the learning rate moves: `constant`; `cosine`, from its peak to zero at the last step; `one-cycle`, from a
    25th of the peak up to it over the first 30 % of the run and down to nearly zero, by half cosines."""
    warmup_steps: int = 0
    """Steps over which the learning rate first rises linearly to what the schedule says."""
    clip_norm: float | None = None
    """Largest Euclidean norm of a step's gradient (of the mean loss in nats a sub-pixel, by all weights together); a
    longer one is scaled down to it. `None`: not limited."""
    weight_decay: float = 0.0
    """Share of the weights, times the learning rate, that each step takes away (decoupled, as in AdamW); biases are
    left alone."""
    dropout: float = 0.0
    """Probability that a feature behind a residual block's middle convolution is zero in training, in multiples of
    2^-16; the others are scaled up. The training loss is then the one with features missing."""
    orders: Literal[1, 2, 4, 8] = 1
    """Scan orders that one network learns: each epoch shows every image flipped at random, for 8 also transposed, and
    the network is told how, as a class. The finished model is their exact mixture, an `OrderEnsemble`. For a family
    that can be conditional; 8 for square images."""
    binarise: Annotated[bool, tyro.conf.Suppress] = False
    """The training images are grey values, 0..255, and each epoch draws every pixel anew, 1 with probability
    grey / 255; the validation images are binary. The command line takes it from the data: mnist-dynamic."""
    shift: int = 0
    """Training images are moved by up to so many pixels in each direction, drawn anew each epoch; level 0 fills in."""
    mutate: float = 0.0
    """Probability that a sub-pixel of a training image is replaced by a level drawn uniformly, anew each epoch: 0.1 to
    0.3 make the background model of a likelihood ratio (`pixelcnn score --score ratio`)."""
    ema: float | None = None
    """Decay of the exponential moving average of the weights, for example 0.999; the finished model then holds the
    averaged weights. `None`: no average."""
    finish: Literal["last", "best"] = "last"
    """Which weights the finished model holds: those after the `last` epoch, or those of the epoch with the `best`
    validation loss."""
    seed: int = 0
    """Decides the initial weights, the order and shifts of the images, dropout, and the pictures drawn at each epoch's
    end."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What training multiplies in: `bf16` is PyTorch's autocast, with weights, sums over pixels and the likelihood in
    float32; `auto` is that on CUDA, and on a CPU if a measurement at the start finds it faster. Held-out losses are
    always measured in float32."""
    compile: bool = True
    """On CUDA: compile the network by `torch.compile` (half a minute, once) and replay each step as a CUDA graph. For
    one process, if the images fit into half of the device's free memory."""
    checkpoint_seconds: float = 60.0
    """A checkpoint is written whenever this many seconds have passed, at each epoch's end, and at Ctrl-C or SIGTERM
    (after the step; on CUDA after those on their way, half a second)."""
    keep_last: int = 2
    """How many of the newest checkpoints are kept, besides the one with the best validation loss."""
    sample_images: int = 64
    """Images in the grid that is drawn at each epoch's end; 0 draws none."""
    tensorboard: bool = False
    """Write losses, rates, gradient norms and sample grids for TensorBoard as well, into the run's folder
    `tensorboard`; needs the extra of the same name."""

    def __post_init__(self) -> None:
        make_plain(self)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                listed = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
                raise ValueError(f"{name} must be {listed}, got {getattr(self, name)!r}")
        for name, least in _LEAST.items():
            if not (is_int(getattr(self, name)) and getattr(self, name) >= least):
                raise ValueError(f"{name} must be an integer of at least {least}, got {getattr(self, name)!r}")
        height, width = self.model.image_shape[1:]
        checks = {
            "steps": (
                self.steps is None or (is_int(self.steps) and self.steps >= 1),
                "be an integer of at least 1",
            ),
            "minutes": (
                self.minutes is None or (0 < self.minutes < float("inf") and self.steps is None),
                "be positive" if self.steps is None else f"be None for a run of {self.steps} steps",
            ),
            "unlabelled": (0 <= self.unlabelled <= 1, "be in 0..1"),
            "accumulate": (self.accumulate <= self.batch_size, f"be at most the batch size of {self.batch_size}"),
            "learning_rate": (0 < self.learning_rate < float("inf"), "be positive"),
            "clip_norm": (self.clip_norm is None or 0 < self.clip_norm < float("inf"), "be positive"),
            "weight_decay": (
                0 <= self.weight_decay * self.learning_rate < 1,
                f"be at least 0 and, times the learning rate of {self.learning_rate:g}, less than 1",
            ),
            "dropout": (0 <= self.dropout <= 0.99, "be in 0..0.99"),
            "shift": (
                self.shift < min(height, width),
                f"be less than the images' {height} rows and {width} columns",
            ),
            "orders": (
                self.orders < 8 or height == width,
                f"be at most 4 for images of {height} rows and {width} columns, which are not square",
            ),
            "binarise": (
                isinstance(self.binarise, bool) and (not self.binarise or self.model.levels == 2),
                f"be False for {self.model.levels} levels" if self.binarise is True else "be True or False",
            ),
            "mutate": (0 <= self.mutate <= 1, "be in 0..1"),
            "ema": (self.ema is None or 0 < self.ema < 1, "lie strictly between 0 and 1"),
            "seed": (is_int(self.seed) and 0 <= self.seed < 2**63, "be in 0..2**63-1"),
            "checkpoint_seconds": (self.checkpoint_seconds >= 0, "be at least 0"),
            "compile": (isinstance(self.compile, bool), "be True or False"),
            "tensorboard": (isinstance(self.tensorboard, bool), "be True or False"),
        }
        for name, (right, rule) in checks.items():
            if not right:
                raise ValueError(f"{name} must {rule}, got {getattr(self, name)!r}")


_CHOICES = {
    "protocol": ("clean", "seed"),
    "optimizer": ("adam", "muon"),
    "schedule": ("constant", "cosine", "one-cycle"),
    "finish": ("last", "best"),
    "orders": (1, 2, 4, 8),
    "precision": ("auto", "float32", "bf16"),
}
_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "accumulate": 1,
    "warmup_steps": 0,
    "shift": 0,
    "keep_last": 2,  # a damaged one needs one before it
    "sample_images": 0,
}
