"""A VQ-VAE of two levels and its priors, as in VQ-VAE-2: digits from 7 x 7 codes, and from 14 x 14 codes given these.

    python examples/two_levels.py [FOLDER] [--minutes 1]

The top codes say what a digit looks like, the bottom codes, which are found given the top ones, its details. The prior
of the top codes knows the class; that of the bottom codes is given the class and, as a map of categories, the top codes
(`condition_levels`). The runs of both priors and digits.png are written into FOLDER, by default two_levels/; the VQ-VAE
is not kept.

References:
    | Generating Diverse High-Fidelity Images with VQ-VAE-2 (Razavi et al., 2019), https://arxiv.org/abs/1906.00446
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixelcnn
from pixelcnn.config import GatedPixelCNNConfig, TrainConfig
from pixelcnn.images import grid, save_png
from pixelcnn.training import Interrupted

TOP, BOTTOM, SIZE = 32, 8, 8  # entries of the codebooks, and their features
STEPS, BATCH, RATE = 1000, 32, 3e-3


class Codebook(nn.Module):
    """Entries that follow the mean of what is assigned to them.

    Args:
        size: Number of entries.
    """

    entries: Tensor
    counts: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(size, SIZE))
        self.register_buffer("counts", torch.zeros(size))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, SIZE, h, w) to codes (N, h, w), entries in their place, and the loss that ties both."""
        flat = z.permute(0, 2, 3, 1).flatten(0, 2)
        codes = torch.cdist(flat, self.entries).argmin(1)
        if self.training:
            self._follow(flat.detach(), codes)
        shape = z.shape[:1] + z.shape[2:]
        found = self.look_up(codes.view(shape))
        return codes.view(shape), z + (found - z).detach(), F.mse_loss(z, found)

    def look_up(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) to their entries, (N, SIZE, h, w)."""
        return self.entries[codes.long()].permute(0, 3, 1, 2)

    def _follow(self, flat: Tensor, codes: Tensor) -> None:
        one = F.one_hot(codes, len(self.entries)).float()
        self.counts.lerp_(one.sum(0), 0.05)
        means = one.t() @ flat / one.sum(0).clamp(min=1)[:, None]
        self.entries.lerp_(torch.where(one.sum(0)[:, None] > 0, means, self.entries), 0.2)
        dead = torch.where(self.counts < 0.5)[0]  # what stands for next to nothing begins anew
        self.entries[dead] = flat[torch.randint(len(flat), (len(dead),))]
        self.counts[dead] = 1.0


class TwoLevels(nn.Module):
    """Digits (N, 1, 28, 28) to codes (N, 7, 7) and (N, 14, 14), and back."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Sequential(nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU())
        self.above = nn.Sequential(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, SIZE, 3, 1, 1))
        self.enlarge = nn.ConvTranspose2d(SIZE, 32, 4, 2, 1)
        self.join = nn.Sequential(nn.ReLU(), nn.Conv2d(64, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, SIZE, 1))
        self.decoder = nn.Sequential(
            nn.Conv2d(SIZE + 32, 32, 3, 1, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 1, 3, 1, 1),
        )  # fmt: skip
        self.top, self.bottom = Codebook(TOP), Codebook(BOTTOM)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The codes of both levels, the logits of white pixels, and the codebooks' loss."""
        features = self.below(images.float() - 0.5)
        top, coarse, tied = self.top(self.above(features))
        bottom, fine, also = self.bottom(self.join(torch.cat([features, self.enlarge(coarse)], 1)))
        return top, bottom, self._decoded(coarse, fine), tied + also

    def decode(self, top: Tensor, bottom: Tensor) -> Tensor:
        """The logits of white pixels, (N, 1, 28, 28), from codes."""
        return self._decoded(self.top.look_up(top), self.bottom.look_up(bottom))

    def _decoded(self, coarse: Tensor, fine: Tensor) -> Tensor:
        logits: Tensor = self.decoder(torch.cat([self.enlarge(coarse), fine], 1))
        return logits


def nats(logits: Tensor, images: Tensor) -> Tensor:
    """-log p(image | codes), the mean over images."""
    return F.binary_cross_entropy_with_logits(logits, images.float(), reduction="none").flatten(1).sum(1).mean()


def trained(images: Tensor) -> TwoLevels:
    """The autoencoder after STEPS steps."""
    torch.manual_seed(0)
    model = TwoLevels()
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    for step in range(STEPS):
        batch = images[torch.randint(len(images), (BATCH,))]
        *_, logits, tied = model(batch)
        optimizer.zero_grad()
        torch.autograd.backward(nats(logits, batch) / 10 + tied)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"VQ-VAE, step {step + 1}: {nats(logits, batch).item():.1f} nats given the codes", file=sys.stderr)
    return model.eval()


@torch.no_grad()
def codes_of(model: TwoLevels, images: Tensor) -> tuple[Tensor, Tensor]:
    """Top and bottom codes as grids for the priors: uint8 (N, 1, 7, 7) and (N, 1, 14, 14)."""
    tops, bottoms = zip(*(model(part)[:2] for part in torch.split(images, 500)), strict=True)
    return torch.cat(tops)[:, None].to(torch.uint8), torch.cat(bottoms)[:, None].to(torch.uint8)


def main(folder: Path, minutes: float) -> None:
    """Runs all stages into a folder; earlier runs there are replaced."""
    started = time.monotonic()
    training, labels = pixelcnn.datasets.mnist("train")
    held_out, held_out_labels = (part[:1000] for part in pixelcnn.datasets.mnist("validation"))
    vqvae = trained(training)
    (top, bottom), (held_top, held_bottom) = codes_of(vqvae, training), codes_of(vqvae, held_out)

    priors, held_out_nats = {}, {}
    for name, levels, codes, held, given, held_given in (
        ("top", TOP, top, held_top, None, None),
        ("bottom", BOTTOM, bottom, held_bottom, top.int(), held_top.int()),
    ):
        model = GatedPixelCNNConfig(
            image_shape=(1, *codes.shape[2:]), levels=levels, embedding=8, num_classes=10, filters=32, layers=4,
            first_kernel=7, kernel_size=3, places=True, condition_levels=0 if given is None else TOP,
        )  # fmt: skip
        config = TrainConfig(
            model=model, minutes=minutes, batch_size=32, learning_rate=3e-3, schedule="cosine", warmup_steps=50,
            clip_norm=1.0, frequency_bias=True, ema=0.99, optimizer="muon", sample_images=0,
        )  # fmt: skip
        shutil.rmtree(folder / name, ignore_errors=True)
        priors[name] = pixelcnn.train(
            config, codes, held, folder / name, training_labels=labels, validation_labels=held_out_labels,
            training_condition=given, validation_condition=held_given,
        )  # fmt: skip
        found = pixelcnn.evaluate(priors[name], held, held_out_labels, condition=held_given)
        held_out_nats[name] = found.nats_per_image
    without = pixelcnn.evaluate(priors["bottom"], held_bottom, held_out_labels).nats_per_image

    classes = torch.arange(40) % 10
    drawn = priors["top"].sample(40, classes, seed=0)
    details = [priors["bottom"].sample(40, classes, seed=seed, condition=drawn.int()) for seed in (0, 1)]
    with torch.no_grad():
        pictures = [(vqvae.decode(drawn[:, 0], each[:, 0]) > 0).to(torch.uint8) for each in details]
        given_codes = nats(vqvae.decode(held_top[:, 0], held_bottom[:, 0]), held_out).item()
    save_png(grid(torch.cat(pictures), 2, columns=10), folder / "digits.png")
    print(f"""
held-out digits, nats per digit, given the class
  top codes                                    {held_out_nats["top"]:6.1f}
  bottom codes, given the top codes            {held_out_nats["bottom"]:6.1f}   without them {without:.1f}
  digits, given all codes                      {given_codes:6.1f}

{time.monotonic() - started:.0f} s. Look at {folder / "digits.png"}: 40 digits drawn by both priors, and below, from the
same top codes, 40 with other bottom codes""")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("two_levels"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=1, help="of training each prior (default: 1)")
    try:
        main(**vars(parser.parse_args()))
    except Interrupted as stop:  # by Ctrl-C or SIGTERM
        print("stopped; the same command begins anew", file=sys.stderr)
        sys.exit(stop.exit_code)
