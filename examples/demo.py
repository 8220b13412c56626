"""From data to digits: train the `quick` preset on MNIST, see the held-out loss fall, draw from it and from `mnist`.

    python examples/demo.py [FOLDER]

Takes about two minutes on two cores. Everything is written into FOLDER, by default demo/.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import torch

import pixelcnn
from pixelcnn.config import PRESETS
from pixelcnn.images import grid, save_gif, save_png


def main(folder: Path) -> None:
    """Runs the demonstration into a folder; an earlier one's training run there is replaced."""
    started = time.monotonic()
    config = PRESETS["quick"]
    training, _ = pixelcnn.datasets.mnist("train")
    validation, _ = pixelcnn.datasets.mnist("validation")
    test, _ = pixelcnn.datasets.mnist("test")

    untrained = pixelcnn.PixelCNN.from_config(config.model, generator=torch.Generator().manual_seed(config.seed))
    before = pixelcnn.evaluate(untrained, test, progress=True)
    print(f"before training: {before.nats_per_image:.1f} nats an image on the {len(test):,} test images", flush=True)

    shutil.rmtree(folder / "run", ignore_errors=True)
    trained = pixelcnn.train(config, training, validation, folder / "run", data="mnist")
    after = pixelcnn.evaluate(trained, test, progress=True)

    shipped = pixelcnn.load("mnist")
    save_png(grid(trained.sample(64, seed=0, progress=True), trained.levels), folder / "quick.png")
    save_png(grid(shipped.sample(64, seed=0, progress=True), shipped.levels), folder / "mnist.png")
    steps = [canvas.clone() for canvas in shipped.sample_steps(16, seed=0)]
    save_gif([grid(canvas, shipped.levels) for canvas in steps[::2] + steps[-1:]], folder / "growing.gif")

    print(f"""
held-out loss, {len(test):,} test images
  before training {before.nats_per_image:8.1f} nats an image   {before.nats_per_subpixel:.4f} a pixel
  after training  {after.nats_per_image:8.1f} nats an image   {after.nats_per_subpixel:.4f} a pixel

{time.monotonic() - started:.0f} s. Look at
  {folder / "quick.png"}        64 digits drawn by the network trained just now
  {folder / "mnist.png"}        64 digits drawn by the model that comes with the package
  {folder / "growing.gif"}      16 of them being drawn
  {folder / "run"}/             the training run: curves.png, samples, checkpoints, the model
More of them: .venv/bin/pixelcnn sample {folder / "run"} -n 100 --seed 1""")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo"))
