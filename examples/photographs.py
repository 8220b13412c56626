"""Colour, end to end: learn patches of two photographs, draw new ones, and measure how probable held-out ones are.

    python examples/photographs.py [FOLDER] [--epochs 30]

The photographs are china.jpg and flower.jpg, which scikit-learn carries (`pip install scikit-learn`): 520 patches of
32 x 32, of which some 50 are held out. Everything is written into FOLDER, by default photographs/.
Photographs: danielbuechele (china.jpg) and, as scikit-learn has it, danielbuechele / vultilion (flower.jpg), CC BY 2.0.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import shutil
from importlib import resources
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import pixelcnn
from pixelcnn.config import PRESETS, DataConfig, PixelCNNPlusPlusConfig
from pixelcnn.datasets import open_training
from pixelcnn.images import grid, save_png, to_pil


def main(folder: Path, epochs: int) -> None:
    """Runs the example into a folder; an earlier one's training run there is gone on with."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for name in ("china.jpg", "flower.jpg"):
        with resources.as_file(resources.files("sklearn.datasets.images") / name) as path:
            shutil.copy(path, pictures / name)

    data = open_training(str(pictures), "clean", 256, DataConfig(size=32, crop="patches"))
    config = dataclasses.replace(
        PRESETS["fast"],
        model=PixelCNNPlusPlusConfig(image_shape=data.image_shape, filters=32, blocks=2, mixtures=5),
        minutes=None,
        epochs=epochs,
        learning_rate=2e-3,
        batch_size=8,
        finish="best",
        sample_images=16,
    )
    model = pixelcnn.train(config, data.training, data.validation, folder / "run", data=data.description)

    result = pixelcnn.evaluate(model, data.validation, progress=True)
    error = result.standard_error / result.nats_per_image * result.bits_per_dim
    drawn = model.sample(64, seed=0, progress=True)
    assert isinstance(data.training, torch.Tensor)
    shown = data.training[:: len(data.training) // 64][:64]
    rows = [images[k : k + 8] for k in range(0, 64, 8) for images in (shown, drawn)]
    save_png(grid(torch.cat(rows), 256, columns=16, side=32), folder / "photographs.png")
    print(f"""
{len(data.validation)} held-out patches of 32 x 32 x 3, bits a colour value
  the model   {result.bits_per_dim:.3f} +- {error:.3f}
  PNG         {_bits(data.validation, format="PNG", optimize=True):.3f}
  WebP        {_bits(data.validation, format="WEBP", lossless=True, quality=100, method=6):.3f}

Look at {folder / "photographs.png"}: 64 patches of the photographs on the left, 64 drawn ones on the right.""")


def _bits(images: Tensor, **options: object) -> float:
    """What a lossless format needs, a file an image, in bits a colour value."""
    size = 0
    for image in images:
        buffer = io.BytesIO()
        picture: Image.Image = to_pil(image, 256)
        picture.save(buffer, **options)  # type: ignore[arg-type]
        size += len(buffer.getvalue())
    return 8 * size / images.numel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("photographs"), metavar="FOLDER")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the patches (default: 30)")
    main(**vars(parser.parse_args()))
