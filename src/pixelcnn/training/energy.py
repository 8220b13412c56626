"""Training from an energy instead of data: the variational free energy of a model's own draws is minimised.

With R(x) = beta E(x) + log q(x), a step draws n images and follows the score-function gradient

    grad <R> = < (R(x_i) - b_i) grad log q(x_i) >,        b_i = mean of R over the other images of the step,

which has no bias, and no variance either once q is right, since R is then -ln Z for every image. The loss is <R> per
sub-pixel. A model that is conditional on beta draws images at several temperatures in each step, stratified over the
range, in groups whose baselines are their own.

A run is a function of its configuration, the model's first weights and the energy; it stops and resumes as those of
`pixelcnn.training.run`, in the same kind of folder, by one process. What the watch sees is the loss above that of
uniform images at the same temperatures, so that it may fall as these do, and how far the draw of these can move it.

References:
    | Simple statistical gradient-following algorithms for connectionist reinforcement learning (Williams, 1992).
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang, Zhang, 2019),
      https://arxiv.org/abs/1809.10606
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import torch
from torch import Tensor

from pixelcnn.arguments import number
from pixelcnn.arithmetic.precision import default_factories
from pixelcnn.config import EnergyConfig, to_dict
from pixelcnn.density import checked_model
from pixelcnn.energies import Energy, energies_of, uniform_images
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.card import describe
from pixelcnn.operations import FullView
from pixelcnn.processes import ALONE
from pixelcnn.progress import progress_bar, say
from pixelcnn.randomness import decision_uniforms
from pixelcnn.reweighting import EnergyEstimate, beta_labels, checked_draws, reweight
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.threads import alone
from pixelcnn.training.checkpoint import RunState, last_sound, save_checkpoint
from pixelcnn.training.folder import RunFolder
from pixelcnn.training.gradient import Gradient, parts_of
from pixelcnn.training.history import draw_curves
from pixelcnn.training.optimizer import Optimizer
from pixelcnn.training.record import EnergyRecord
from pixelcnn.training.report import CURVES_SECONDS, write_metrics
from pixelcnn.training.schedule import learning_rate
from pixelcnn.training.signals import StopSignals

__all__ = ["EnergyStepper", "fit_energy"]

_FIRST = 2**61  # index of the first image of a run: no one else draws these of the seed
_GROUP = 16  # images per temperature, about
_PROBES = 256  # uniform images: their mean energy, and the first ones' by which a run is recognised


def fit_energy(
    model: AutoregressiveModel,
    energy: Energy,
    *,
    beta: float | tuple[float, float],
    steps: int,
    batch_size: int,
    seed: int = 0,
    anneal: float = 0.2,
    optimizer: Literal["adam", "muon"] = "adam",
    learning_rate: float = 2e-3,
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine",
    warmup_steps: int = 0,
    clip_norm: float | None = 1.0,
    weight_decay: float = 0.0,
    ema: float | None = None,
    precision: Literal["float32", "bf16"] = "float32",
    n: int = 10_000,
    observables: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    out: str | Path | None = None,
    resume: str | Path = "auto",
    report_steps: int = 100,
    checkpoint_seconds: float = 60.0,
    keep_last: int = 2,
    progress: bool = True,
) -> EnergyEstimate:
    """Trains a model to draw from exp(-beta E(x)) / Z, from its energy alone, and estimates the free energy.

    Args:
        model: Trained in place. A model without conditions learns one temperature; one with `condition_dim=1` learns
            a range, with beta as its condition; others are refused.
        energy: A function of images, uint8 levels (N, C, H, W) on the model's device, to (N,), finite:
            `pixelcnn.energies` has some.
        beta: Inverse temperature, at least 0 and finite; for a model with a condition also a pair, the lowest and the
            highest.
        steps: Length of the run, at least 1.
        batch_size: Images per step, at least 2.
        seed: 0..2**63-1: decides the images that are drawn.
        anneal: Share of the steps, 0..1, over which beta rises linearly from 0 to its value.
        optimizer: "adam" or "muon", as for `TrainConfig`, like the following.
        learning_rate: The peak learning rate.
        schedule: "constant", "cosine" or "one-cycle".
        warmup_steps: Steps over which the learning rate first rises linearly.
        clip_norm: Largest Euclidean norm of a step's gradient of the loss per sub-pixel; None for no limit.
        weight_decay: Share of the weights, times the learning rate, that each step removes.
        ema: Decay, between 0 and 1, of an average of the weights, which the finished model then gets; None for none.
        precision: Of the products of the gradient: "bf16" is PyTorch's autocast, for processors that have it. Draws and
            their likelihoods, and so all estimates, are in the model's own type.
        n: Number of draws for the estimate that is returned, at least 2.
        observables: Further averages for it, as for `pixelcnn.reweight`.
        out: Folder of the run, as of `pixelcnn.train`, without samples and timing; None keeps nothing.
        resume: "auto" resumes from the folder's newest intact checkpoint, or starts; "off" starts, in a folder that
            holds no run; a path resumes from that checkpoint, perhaps in another folder.
        report_steps: Steps per line of metrics.jsonl: means of the loss, of energy and entropy per sub-pixel, and of
            the standard deviation of R in nats, which is 0 for a model that is exactly right.
        checkpoint_seconds: Seconds between checkpoints; one is also written at the end and when the run is stopped.
        keep_last: Number of newest checkpoints that are kept, at least 2.
        progress: Show bars and messages on standard error.

    Returns:
        The result of `pixelcnn.reweight` for the finished model, at the highest beta, for the images of `seed`.

    Raises:
        ValueError: If an argument is out of range, the energy is not as it must be, the folder is another run's, or the
            loss is no longer finite or has diverged.
        OSError: If the folder cannot be written; earlier checkpoints stay intact.
        pixelcnn.training.Interrupted: After Ctrl-C or SIGTERM in a run with a folder, with a checkpoint written.

    Examples:
        >>> import pixelcnn
        >>> model = pixelcnn.PixelCNN((1, 3, 3), filters=8, blocks=1)
        >>> options = {"beta": 0.3, "steps": 150, "batch_size": 64, "learning_rate": 0.02, "progress": False}
        >>> estimate = pixelcnn.fit_energy(model, pixelcnn.energies.Ising(), **options)
        >>> exact = pixelcnn.energies.kaufman_log_z(3, 3, 0.3)
        >>> abs(estimate.log_z - exact) < 5 * estimate.log_z_error
        True
    """
    model = checked_model(model)
    config = EnergyConfig(
        beta=_pair(beta, model),
        steps=steps,
        batch_size=batch_size,
        anneal=anneal,
        optimizer=optimizer,
        learning_rate=learning_rate,
        schedule=schedule,
        warmup_steps=warmup_steps,
        clip_norm=clip_norm,
        weight_decay=weight_decay,
        ema=ema,
        precision=precision,
        seed=seed,
        report_steps=report_steps,
        checkpoint_seconds=checkpoint_seconds,
        keep_last=keep_last,
    )
    n = checked_draws(n, observables)  # before the work
    if out is None and str(resume) not in ("auto", "off"):
        raise ValueError(f"resume must be left out without a folder, out, got {str(resume)!r}")
    folder = None if out is None else Path(out)
    with torch.inference_mode(False), torch.enable_grad(), default_factories():
        _EnergyRun(model, energy, config, folder, str(resume), progress=progress).run()
        return reweight(model, energy, config.beta[1], n, seed=seed, observables=observables, progress=progress)


def _pair(beta: float | tuple[float, float], model: AutoregressiveModel) -> tuple[float, float]:
    """Lowest and highest inverse temperature; `EnergyConfig` checks their values."""
    if isinstance(beta, tuple | list) and len(beta) == 2:
        if model.condition_dim is None and beta[0] != beta[1]:
            raise ValueError(f"beta must be one number for a model without condition_dim=1, got {beta!r}")
        return number("beta", beta[0]), number("beta", beta[1])
    return (number("beta", beta),) * 2


class EnergyStep(NamedTuple):
    """Result of a step: means over its images."""

    loss: float
    """R per sub-pixel, in nats."""
    energy: float
    """Energy per sub-pixel."""
    entropy: float
    """-log q per sub-pixel, in nats."""
    deviation: float
    """Standard deviation of R within a temperature, in nats."""
    excess: float
    """The loss minus that of uniform images."""
    spread: float
    """How far other temperatures, drawn from the same range, would move `excess`; 0 at a single one."""
    gradient_norm: float
    """Euclidean norm of the loss's gradient, before clipping."""


class EnergyStepper(Optimizer):
    """A model in training from an energy, step by step.

    Args:
        model: Trained in place.
        energy: As for `fit_energy`.
        config: The recipe.

    Raises:
        ValueError: If the model is conditional on something else than beta, or the energy is not as it must be.
    """

    def __init__(self, model: AutoregressiveModel, energy: Energy, config: EnergyConfig) -> None:
        super().__init__(model, config)
        self.config, self._energy = config, energy
        self._gradient = Gradient(model, bf16=config.precision == "bf16")
        conditional = beta_labels(model, torch.zeros(1)) is not None
        size = config.batch_size
        self._groups = torch.arange(size) * (max(1, size // _GROUP) if conditional else 1) // size
        probes = uniform_images(_PROBES, model.image_shape, model.levels).to(model.device)
        self.probed = energies_of(energy, probes)
        """Energies of some uniform images, float64."""

    def betas(self, step: int) -> Tensor:
        """The inverse temperature of each image of a step, float64 (n,): the same within a group."""
        low, high = self.config.beta
        count = len(self._sizes())
        at = (torch.arange(count) + decision_uniforms(self.config.seed, step, count)) / count
        return self._risen(step) * (low + (high - low) * at)[self._groups]

    def _risen(self, step: int) -> float:
        """The share of their values to which the inverse temperatures have risen."""
        rising = self.config.anneal * self.config.steps
        return min(1.0, (step + 1) / rising) if rising else 1.0

    def step(self, rate: float) -> EnergyStep:
        """One step at a learning rate."""
        model, n, betas = self.model, self.config.batch_size, self.betas(self.steps)
        low, high = self.config.beta
        width = self._risen(self.steps) * (high - low) / len(self._sizes()) ** 1.5  # 3.5 deviations of the mean beta
        labels = beta_labels(model, betas)
        first = _FIRST + self.steps * n
        images, log_q = model.sample(n, labels, self.config.seed, first=first, with_log_prob=True)
        log_q = log_q.double().cpu()
        energies = energies_of(self._energy, images).cpu()
        reduced = betas * energies + log_q
        centred = self._centred(reduced)
        size = self._sizes()[self._groups]
        for parameter in self._parameters.values():
            parameter.grad = None
        weights = (centred * size / (size - 1)).to(model.device, model.dtype)
        self._add_gradient(images, labels, -weights)
        norm = self.update(self.rates(rate, self.steps)).item()
        self.steps += 1
        sites = model.subpixels
        mean, probed = energies.mean().item(), self.probed.mean().item()
        uniform = betas.mean().item() * probed - sites * math.log(model.levels)
        return EnergyStep(
            loss=reduced.mean().item() / sites,
            energy=mean / sites,
            entropy=-log_q.mean().item() / sites,
            deviation=math.sqrt((centred.square() * size / (size - 1)).mean().item()),
            excess=(reduced.mean().item() - uniform) / sites,
            spread=width * max(0.0, probed - mean) / sites,  # the slope of `excess` for a model that is right
            gradient_norm=norm,
        )

    def _sizes(self) -> Tensor:
        return torch.bincount(self._groups).double()

    def _centred(self, values: Tensor) -> Tensor:
        """The values, float64 (n,), minus the mean of their group."""
        sums = torch.zeros_like(self._sizes()).index_add(0, self._groups, values)
        return values - (sums / self._sizes())[self._groups]

    def _add_gradient(self, images: Tensor, labels: Tensor | None, weights: Tensor) -> None:
        model, n = self.model, len(images)
        condition = model.condition_of(labels, n)
        with alone() if model.device.type == "cpu" else contextlib.nullcontext(1) as threads:
            parts = parts_of(model, n, threads)
            self._gradient.add(
                images, condition, lambda _: FullView, parts, n * model.subpixels, threads, weights=weights
            )


class _EnergyRun:
    def __init__(
        self,
        model: AutoregressiveModel,
        energy: Energy,
        config: EnergyConfig,
        out: Path | None,
        resume: str,
        *,
        progress: bool,
    ) -> None:
        self.model, self.config, self.resume, self.progress = model, config, resume, progress
        check_weights(model.named_parameters())
        self.stepper = EnergyStepper(model, energy, config)
        self.state = RunState()
        self.signals = StopSignals(self._say, ALONE)
        self.folder: RunFolder | None = None
        if out is not None:
            architecture = {"model": type(model).__name__, **to_dict(model.config)}
            self.record = EnergyRecord.of(config, architecture, self.stepper.probed.cpu())
            self.folder = RunFolder(out, self.record, config.report_steps)

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            if self.folder is not None:
                self._open(self.folder, stack)
                stack.enter_context(self.signals.deferred())
            self._last_checkpoint = self._last_curves = time.monotonic()
            with progress_bar("steps", self.config.steps, "step", show=self.progress, initial=self.state.step) as bar:
                while self.state.step < self.config.steps:
                    rate = learning_rate(self.config, self.state.step, self.config.steps)
                    result = self.stepper.step(rate)
                    self._add_step(result)
                    bar.set_postfix_str(
                        f"loss {result.loss:.5f}, deviation {result.deviation:.3f}, rate {rate:.1e}", refresh=False
                    )
                    bar.update()
                    if self.state.step % self.config.report_steps == 0 or self.state.step == self.config.steps:
                        self._report(rate)
                    due = time.monotonic() - self._last_checkpoint >= self.config.checkpoint_seconds
                    if self.state.step == self.config.steps or due or self.signals.asked is not None:
                        self._save()
            self.stepper.take_average()
            self.model.eval()
            if self.folder is not None:
                self.model.save_pretrained(self.folder.model, self._card())

    def _open(self, folder: RunFolder, stack: contextlib.ExitStack) -> None:
        """Takes the folder, and the state of the checkpoint from which the run is resumed."""
        checkpoint = stack.enter_context(folder.opened(self.resume))
        if checkpoint is not None:
            self.state, tensors = checkpoint
            self.stepper.restore(tensors, self.state.step)
            self._say(f"resuming from step {self.state.step}")
        self.state.record = to_dict(self.record)
        folder.begin(self.state, self.stepper.tensors())

    def _add_step(self, result: EnergyStep) -> None:
        """Adds a step's result to the state, or ends the run if it is lost."""
        state = self.state
        if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
            what = "loss" if not math.isfinite(result.loss) else "gradient"
            self._give_up(f"the {what} is no longer finite at step {state.step}")
        sums = state.epoch_sums
        state.epoch_sums = {k: sums.get(k, 0.0) + getattr(result, k) for k in ("energy", "entropy", "deviation")}
        state.add_step(result.loss, result.gradient_norm, result.excess, self.model.levels, result.spread)
        if state.watch.diverged:
            self._give_up(
                f"the loss has diverged by step {state.step}: {state.watch.average:.4f} nats per sub-pixel above that "
                f"of uniform images on average, after {state.watch.lowest:.4f}"
            )

    def _give_up(self, reason: str) -> NoReturn:
        sound = None if self.folder is None else last_sound(self.folder.checkpoints, self.state)
        kept = f"; the last good checkpoint is {sound}" if sound else ""
        raise ValueError(
            f"{reason}; start a new run with a learning rate under {self.config.learning_rate:g}, a larger batch or a "
            f"longer annealing{kept}"
        )

    def _report(self, rate: float) -> None:
        """Ends an epoch: a line of metrics, the curves."""
        state = self.state
        steps = state.step - len(state.metrics) * self.config.report_steps
        line = {
            "epoch": len(state.metrics) + 1,
            "step": state.step,
            "beta": self.stepper.betas(state.step - 1).mean().item(),
            "learning_rate": rate,
            "loss": state.epoch_nats / steps,
            **{name: total / steps for name, total in state.epoch_sums.items()},
            "gradient_norm": state.epoch_gradient_norm / steps,
            "gradient_norm_max": state.epoch_gradient_norm_max,
        }
        state.end_epoch(line)
        if self.folder is not None:
            write_metrics(self.folder.path / "metrics.jsonl", state.metrics)

    def _save(self) -> None:
        """Writes a checkpoint and the curves, if there is a folder, and stops if asked to."""
        if self.folder is None:
            return
        try:
            check_weights(self.model.named_parameters())
        except ValueError as error:
            self._give_up(f"{error} after step {self.state.step}")
        save_checkpoint(self.folder.checkpoints, self.state, self.stepper.tensors(), keep_last=self.config.keep_last)
        finished, now = self.state.step == self.config.steps, time.monotonic()
        if self.state.metrics and (finished or now - self._last_curves >= CURVES_SECONDS):
            self._last_curves = now
            draw_curves(self.folder.path / "curves.png", self.state.metrics)
        self._last_checkpoint = time.monotonic()
        self.signals.check(f"stopped at step {self.state.step}; the same call resumes it")

    def _card(self) -> str:
        low, high = self.config.beta
        last = self.state.metrics[-1]
        at = f"beta = {high:g}" if low == high else f"beta = {low:g} to {high:g}"
        training = (
            f"From an energy, without data, at {at}: {self.config.steps} steps of {self.config.batch_size} images, "
            f"{self.config.optimizer.capitalize()}, learning rate {self.config.learning_rate:g} "
            f"({self.config.schedule}), seed {self.config.seed}; PyTorch {torch.__version__}."
        )
        results = (
            f"Mean over the last steps, per sub-pixel: beta E + log q = {last['loss']:.6f}, energy "
            f"{last['energy']:.6f}, entropy {last['entropy']:.6f} nats."
        )
        return describe(self.model, training=training, results=results)

    def _say(self, message: str) -> None:
        if self.progress:
            say(message)
