"""One way to train the seed network with PyTorch, in a process of its own, on one batch again and again.

    echo 3 | python benchmarks/training_worker.py ours --batch 128

Once it is warm it prints a line of JSON about itself. Then it answers each line of standard input, a number of steps,
by the time they took and its peak memory. `benchmarks/keras/train.py` does the same for the baseline.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

import pixelcnn
from machine import peak_bytes, synchronize
from pixelcnn.config import PRESETS
from pixelcnn.devices import device_of
from pixelcnn.training.batches import Batches
from pixelcnn.training.steppers import precision_of, stepper_for, steps_of


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train with."""

    name: Annotated[Literal["pytorch", "ours"], tyro.conf.Positional]
    """The competitor."""
    batch: int = 128
    """Images per step."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""


class Masked(nn.Conv2d):
    """A masked convolution as PyTorch users write it."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, mask_type: str) -> None:
        super().__init__(inputs, outputs, kernel, padding="same")
        mask = torch.ones(kernel, kernel)
        mask[kernel // 2, kernel // 2 + (mask_type == "B") :] = 0
        mask[kernel // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution with masked weights."""
        output: Tensor = self._conv_forward(input, self.weight * self.mask, self.bias)
        return output


class Network(nn.Module):
    """The seed network as a PyTorch user would write it down: (N, 1, 28, 28) to logits of the same shape."""

    def __init__(self, filters: int = 128, blocks: int = 5) -> None:
        super().__init__()
        self.first = Masked(1, filters, 7, "A")
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(filters, filters, 1),
                nn.ReLU(),
                Masked(filters, filters // 2, 3, "B"),
                nn.ReLU(),
                nn.Conv2d(filters // 2, filters, 1),
                nn.ReLU(),
            )
            for _ in range(blocks)
        )
        self.head = nn.Sequential(
            Masked(filters, filters, 1, "B"), nn.ReLU(), Masked(filters, filters, 1, "B"), nn.ReLU()
        )
        self.output = nn.Conv2d(filters, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = F.relu(self.first(x))
        for block in self.blocks:
            x = x + block(x)
        logits: Tensor = self.output(self.head(x))
        return logits


def pytorch(images: Tensor) -> tuple[str, int, Callable[[int], None]]:
    network = Network().to(images.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    target = images.float()

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(network(target), target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()

    return (
        f"PyTorch {torch.__version__}, as its users write it, float32",
        sum(p.numel() for p in network.parameters()),
        run,
    )


def ours(images: Tensor) -> tuple[str, int, Callable[[int], None]]:
    config = dataclasses.replace(PRESETS["seed"], batch_size=len(images))
    model = pixelcnn.PixelCNN.from_config(config.model).to(images.device)
    batches = Batches(config, model, images)
    stepper = stepper_for(model, config, batches)
    epoch = itertools.count()

    def run(steps: int) -> None:
        for _ in range(steps):  # an epoch of one batch each
            for _ in steps_of(stepper, batches, next(epoch), 0, 1, lambda _: 5e-4):
                pass

    about = f"`pixelcnn train`, {precision_of(config, images.device)}"
    return about, sum(p.numel() for p in model.parameters()), run


def main(options: Options) -> None:
    device = device_of(options.device)
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(options.batch, 1, 28, 28, generator=generator) < 0.13).to(device, torch.uint8)
    about, parameters, run = (ours if options.name == "ours" else pytorch)(images)

    def seconds(steps: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        run(steps)
        synchronize(device)
        return time.perf_counter() - start

    prepared = seconds(2)
    facts = {"about": about, "parameters": parameters, "step_seconds": seconds(2) / 2, "prepare_seconds": prepared}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": seconds(int(line)), "peak_bytes": peak_bytes(device)}), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
