"""`pixelcnn.train`: its arguments, and the data of both sides. The loop is in `pixelcnn.training.run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.config import DataConfig, TrainConfig
from pixelcnn.datasets import Patches
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.base import load
from pixelcnn.processes import joined
from pixelcnn.training.given import Images, held_out, tensors_of
from pixelcnn.training.run import Labelled, OnEpoch, OnStep, Run

__all__ = ["train"]


def train(
    config: TrainConfig,
    training: Images,
    validation: Images | None = None,
    out: str | Path | None = None,
    *,
    training_labels: ArrayLike | None = None,
    validation_labels: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    init: AutoregressiveModel | str | Path | None = None,
    training_condition: ArrayLike | None = None,
    validation_condition: ArrayLike | None = None,
    data: str = "images",
    summary: str = "",
    resume: str | Path = "auto",
    progress: bool = True,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> AutoregressiveModel:
    """Trains a model and writes the run's folder.

    If every process that `torchrun` started calls it with the same arguments, all of them train one model together.

    Args:
        config: The configuration of the run.
        training: uint8 levels (N, C, H, W) as config.model says; grey values, 0..255, with config.binarise. Or a
            `torch.utils.data.Dataset` or `DataLoader` of such images, as integers or Pillow's pictures, perhaps with
            labels, whose items are read once. Or `pixelcnn.datasets.Patches`, drawn anew in each epoch.
        validation: Images of the same kind that are not trained on, but levels even with config.binarise; by default
            a tenth of the training images, chosen by the content of each. Needed beside patches and with
            config.binarise.
        out: The run's folder; made if it is missing; by default trained/ and `data`.
        training_labels: For a conditional model, as for `AutoregressiveModel.log_prob`; None for another model, and
            with config.orders, where the condition is the order.
        validation_labels: Labels of the validation images; their loss is that given the labels.
        class_names: Names of the classes, which the model then knows.
        init: A model, or what `pixelcnn.load` takes, whose weights are the first ones instead of random ones; its
            configuration must be config.model. Or an `OrderEnsemble` with a single network, whose weights are taken.
        training_condition: For a model that is conditional on a vector or a map, as for
            `AutoregressiveModel.log_prob`; its parts are dropped at random like labels. Not for config.shift.
        validation_condition: The same for the validation images; their loss is given it, too.
        data: The source of the images, for the records.
        summary: A line about the images, shown before the first step.
        resume: "auto" resumes from the folder's newest intact checkpoint, or starts; "off" starts, in a folder that
            holds no run; a path resumes from that checkpoint, perhaps in another folder. The configuration must be that
            of the checkpoint, apart from a larger number of epochs and what only concerns the device, the reports
            and the choice of the finished model.
        progress: Show bars and messages on standard error.
        on_step: Called after each step with its number, from 1, and a dictionary of "training_loss" (nats per
            sub-pixel), "learning_rate" and "gradient_norm". Of several processes, the first calls it.
        on_epoch: Called, likewise, after each epoch with its line of metrics.jsonl, see `pixelcnn.training.History`,
            and the model in training, without averaged weights.

    Returns:
        The finished model, an `OrderEnsemble` if config.orders is more than 1, with the averaged weights if
        `config.ema` is set, after the last or the best epoch as `config.finish` says; `out`/model holds the same. Its
        `history` is that of the run, see `pixelcnn.training.History`.

    Raises:
        ValueError: If the images, labels or conditions do not fit the model or the configuration, or differ between
            processes; `init` cannot be loaded or is another architecture; the folder or checkpoint is that of a run
            with another configuration or other data, or is damaged; another process is using the folder; the loss is
            no longer finite or has diverged; or TensorBoard is asked for and not installed.
        OSError: If the folder cannot be written; earlier checkpoints stay intact.
        pixelcnn.training.Interrupted: After Ctrl-C or SIGTERM, when a checkpoint has been written.
        pixelcnn.processes.ProcessLostError: If another process of the job is gone.
        SystemExit: On all processes of a job except the one that raises the error that ended it.
    """
    if not isinstance(config, TrainConfig):
        raise ValueError(f"config must be a pixelcnn.TrainConfig, got {type(config).__name__}")
    training_data = *tensors_of("training", training, training_labels), training_condition
    if validation is None:
        if isinstance(training_data[0], Patches) or config.binarise:
            what = "grey values (config.binarise)" if config.binarise else "patches"
            raise ValueError(f"validation must be given beside {what}, got None")
        images = tensor("training images", training_data[0])
        labels = None if training_data[1] is None else tensor("training_labels", training_data[1])
        condition = None if training_condition is None else tensor("training_condition", training_condition)
        sides: tuple[Labelled, Labelled] = held_out(images, labels, condition, DataConfig().held_out)
    else:
        sides = training_data, (*tensors_of("validation", validation, validation_labels), validation_condition)
    first = load(init) if isinstance(init, str | Path) else init
    if not (first is None or isinstance(first, AutoregressiveModel)):
        raise ValueError(f"init must be a model, a name or a folder, got {type(first).__name__}")
    path = Path("trained") / data if out is None else Path(out)
    with joined() as processes, torch.inference_mode(False), torch.enable_grad():
        run = Run(config, *sides, path, data, progress, processes, first, class_names)
        run.on_step, run.on_epoch = on_step, on_epoch
        return run.run(str(resume), summary)
