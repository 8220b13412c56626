"""From data to digits: train the `quick` preset on MNIST by class for a minute, measure it, draw digits of each class.

    python examples/demo.py [FOLDER]

Takes less than two minutes on two cores. Everything is written into FOLDER, by default demo/.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from pathlib import Path

import torch

import pixelcnn
from pixelcnn.config import PRESETS, GatedPixelCNNConfig
from pixelcnn.images import grid, save_gif, save_png
from pixelcnn.training import Interrupted

IMAGES = 2_000  # of the test set, that the loss is measured on
GUIDANCE = {"quick": 2.0, "mnist": 1.5}  # exaggerates what is typical of a class, see docs/families.md


def main(folder: Path) -> None:
    """Runs the demonstration into a folder; an earlier one's training run there is replaced."""
    started = time.monotonic()
    quick = PRESETS["quick"]
    assert isinstance(quick.model, GatedPixelCNNConfig)
    config = dataclasses.replace(quick, model=dataclasses.replace(quick.model, num_classes=10))
    training, training_labels = pixelcnn.datasets.mnist("train")
    validation, validation_labels = (tensor[:IMAGES] for tensor in pixelcnn.datasets.mnist("validation"))
    test, labels = (tensor[:IMAGES] for tensor in pixelcnn.datasets.mnist("test"))

    shutil.rmtree(folder / "run", ignore_errors=True)
    trained = pixelcnn.train(
        config, training, validation, folder / "run",
        training_labels=training_labels, validation_labels=validation_labels, data="mnist",
    )  # fmt: skip
    given = pixelcnn.evaluate(trained, test, labels, progress=True).nats_per_image
    without = pixelcnn.evaluate(trained, test, progress=True).nats_per_image

    shipped = pixelcnn.load("mnist")
    classes = torch.arange(80) % 10  # a column for each
    for name, model in (("quick", trained), ("mnist", shipped)):
        images = model.sample(80, classes, seed=0, guidance=GUIDANCE[name], progress=True)
        save_png(grid(images, model.levels, columns=10), folder / f"{name}.png")
    steps = [canvas.clone() for canvas in shipped.sample_steps(10, classes[:10], seed=0, guidance=GUIDANCE["mnist"])]
    save_gif([grid(canvas, shipped.levels, columns=5) for canvas in steps[::16] + steps[-1:]], folder / "growing.gif")

    command = Path(sys.executable).with_name("pixelcnn")
    print(f"""
held-out loss, {len(test):,} test images
  before training   543.4 nats per image, a coin for each pixel
  after training    {without:5.1f} nats per image, {given:5.1f} given the class

{time.monotonic() - started:.0f} s. Look at
  {folder / "quick.png"}        80 digits by class drawn by the network trained just now
  {folder / "mnist.png"}        80 digits by class drawn by the model that comes with the package
  {folder / "growing.gif"}      10 of them being drawn
  {folder / "run"}/             the training run: curves.png, samples, checkpoints, the model
More of them: {command} sample {folder / "run"} -n 80 --label all --guidance {GUIDANCE["quick"]:g} --seed 1""")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo"))
    except Interrupted as stop:  # by Ctrl-C or SIGTERM
        print("stopped; the same command begins anew", file=sys.stderr)
        sys.exit(stop.exit_code)
