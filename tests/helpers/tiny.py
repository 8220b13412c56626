"""A run of a second, for the tests of this folder, and what of it must not depend on interruptions."""

import json

import torch

import pixelcnn
from pixelcnn.config import PixelCNNConfig, TrainConfig
from pixelcnn.training.step import Stepper

TINY = TrainConfig(
    model=PixelCNNConfig(image_shape=(1, 6, 7), filters=6, blocks=1),
    **{"epochs": 2, "batch_size": 8, "ema": 0.9, "sample_images": 4, "precision": "float32"},  # on any processor
)


def tiny_model(seed=0):
    return pixelcnn.PixelCNN.from_config(TINY.model, generator=torch.Generator().manual_seed(seed))


def stepper_of(model, ema=None, bf16=False, **recipe):
    """A stepper whose recipe is plain but for these options."""
    return Stepper(model, TrainConfig(ema=ema, **recipe), bf16=bf16)


def stripes(n, seed=0):
    """Images whose rows are constant: much to learn from the left neighbour."""
    rows = torch.rand(n, 1, 6, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
    return rows.expand(n, 1, 6, 7).to(torch.uint8)


def run(out, config=TINY, n=60, **options):
    return pixelcnn.train(config, stripes(n), stripes(20, 1), out, progress=False, **options)


def metrics_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def result(out):
    """The bytes that must not depend on interruptions."""
    newest = max((out / "checkpoints").iterdir())
    return {
        "metrics": (out / "metrics.jsonl").read_bytes(),
        "tensors": (newest / "tensors.safetensors").read_bytes(),
        "state": (newest / "state.json").read_bytes(),
        "model": (out / "model" / "model.safetensors").read_bytes(),
    }
