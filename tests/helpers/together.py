"""What several processes do in the tests of `test_processes.py`: a program that `torchrun` starts.

    together.py equal FOLDER                   steps, runs, evaluations and shards that one process repeats; at last
                                               a training in FOLDER/full for which the disk is full
    together.py train FOLDER FAULT RANK STEP   the command line's training of `LONG`, with a fault

FAULT comes to one process at the beginning of a step: "kill" (SIGKILL), "term" (SIGTERM), "launcher" (SIGTERM to
torchrun), "full" (no more checkpoints can be written) or "none"; not again in processes that torchrun restarts.
"""

import dataclasses
import errno
import json
import os
import signal
import sys
from pathlib import Path

import torch

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.cli.train import Train
from pixelcnn.config import GatedPixelCNNConfig, PixelCNNPlusPlusConfig
from pixelcnn.models import model_of
from pixelcnn.processes import ALONE, joined, leave
from pixelcnn.shards import write_shards
from pixelcnn.training import run as loop
from pixelcnn.training.batches import Batches
from pixelcnn.training.step import Stepper
from pixelcnn.training.steppers import stepper_for
from tiny import TINY, metrics_of, run, stripes

PLAIN = dataclasses.replace(TINY, ema=None)
RICH = dataclasses.replace(
    TINY,
    **{"batch_size": 7, "accumulate": 2, "clip_norm": 0.05, "weight_decay": 0.1, "schedule": "cosine"},
    **{"dropout": 0.3, "shift": 1, "mutate": 0.1},
)
FAMILIES = {
    "gated": GatedPixelCNNConfig(image_shape=(1, 6, 7), filters=4, layers=2, num_classes=3),
    "plusplus": PixelCNNPlusPlusConfig(image_shape=(1, 6, 7), levels=2, filters=4, blocks=1),
}
CASES = {
    "plain": PLAIN,
    "rich": RICH,
    "single images": dataclasses.replace(PLAIN, batch_size=1),
    **{name: dataclasses.replace(RICH, model=model, label_dropout=0.2) for name, model in FAMILIES.items()},
}
"""Of 29 images: the last batch of the first two has 5 and 1."""
LONG = dataclasses.replace(TINY, epochs=3, checkpoint_seconds=0, sample_images=0)
"""Of `MANY` images, 20 steps an epoch; a checkpoint after each."""
MANY = 160


def steps_of_two_epochs(config, processes=ALONE):
    """Losses and gradient norms in float64, of whole batches."""
    model = model_of(config.model, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(29) % 3 if getattr(config.model, "num_classes", None) else None
    batches = Batches(config, model, stripes(29), labels, processes=processes)
    stepper = stepper_for(model, config, batches, processes)
    results = [result for epoch in range(2) for result in stepper.run(batches.epoch(epoch), lambda _: 1e-2)]
    return [[*processes.sum([result.nats]), result.gradient_norm] for result in results]


def evaluations(processes=ALONE):
    model = pixelcnn.PixelCNN.from_config(TINY.model, generator=torch.Generator().manual_seed(1))
    found = [pixelcnn.evaluate(model, stripes(n), processes=processes) for n in (5, 300)]
    return [dataclasses.asdict(each) | {"interval": list(each.interval), "images_per_second": 0} for each in found]


def shards(folder, processes=ALONE):
    model = pixelcnn.PixelCNN.from_config(TINY.model, generator=torch.Generator().manual_seed(1))
    return write_shards(model, 50, folder, seed=3, shard_size=8, processes=processes)


def equal(folder):
    with joined() as processes:
        told = {name: steps_of_two_epochs(config, processes) for name, config in CASES.items()}
        told["evaluations"] = evaluations(processes)
        told["drawn"] = shards(folder / "shards", processes)
        told["again"] = shards(folder / "shards", processes)
        run(folder / "minutes", dataclasses.replace(PLAIN, epochs=1, minutes=0.02))
        told["steps"] = metrics_of(folder / "minutes")[-1]["step"] if processes.first else 0
        model = run(folder / "two", RICH)
        told["weights"] = processes.gather(model.output.weight.detach().flatten()[:1]).tolist()
        run(folder / "one-then-two", dataclasses.replace(PLAIN, epochs=2))
        best = dataclasses.replace(PLAIN, epochs=3, learning_rate=0.05, finish="best")
        weights = torch.cat([p.detach().flatten() for p in run(folder / "best", best).parameters()])
        told["best"] = processes.gather(weights[None]).tolist()
        if processes.first:
            (folder / "told.json").write_text(json.dumps(told))


def faulty(function, fault, rank, step):
    """`Stepper.step` with a fault before one step."""

    def wrapped(self, *args):
        if self.steps == step and os.environ["RANK"] == rank and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            if fault == "full":
                loop.save_checkpoint = full
            elif fault != "none":
                os.kill(
                    os.getppid() if fault == "launcher" else os.getpid(),
                    signal.SIGKILL if fault == "kill" else signal.SIGTERM,
                )
        return function(self, *args)

    return wrapped


def full(folder, state, *args, **options):
    raise OSError(errno.ENOSPC, "No space left on device", str(folder / state.name))


if __name__ == "__main__":
    mode, out, *rest = sys.argv[1:]
    if mode == "equal":
        equal(Path(out))
        out, rest = f"{out}/full", ["full", "0", "30"]
    Stepper.step = faulty(Stepper.step, rest[0], rest[1], int(rest[2]))
    Train.run = lambda self: run(Path(out), LONG, n=MANY, data="stripes")
    leave(main(["train", "mnist"]))
