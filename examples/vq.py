"""A VQ-VAE of digits and its prior: 512 codes, 7 x 7 per digit, learned by class, drawn and decoded to pictures.

    python examples/vq.py [FOLDER]

First the VQ-VAE, in plain PyTorch, and then the prior, for two minutes: 3.3 minutes in all on two cores. The run of the
prior and digits.png are written into FOLDER, by default vq/; the VQ-VAE is not kept. The five statements that concern
this library follow the comment "The prior".
"""

from __future__ import annotations

import math
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

CODES, SIZE = 512, 16  # entries of the codebook, and their features
STEPS, BATCH, RATE = 1_200, 128, 2e-3
PRIOR_MINUTES = 2.0


class VQVAE(nn.Module):
    """Digits (N, 1, 28, 28) to codes (N, 7, 7) and back; the codebook follows what is assigned to its entries."""

    codebook: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, SIZE, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(SIZE, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1),
        )  # fmt: skip
        self.register_buffer("codebook", torch.zeros(CODES, SIZE))
        self.register_buffer("counts", torch.zeros(CODES))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's features (N, 7, 7, SIZE) and the codes of the nearest entries, (N, 7, 7)."""
        z = self.encoder(images.float() - 0.5).permute(0, 2, 3, 1)
        lengths = self.codebook.square().sum(1)  # the nearest entry has the least |entry|^2 - 2 entry z
        return z, torch.addmm(lengths, z.flatten(0, 2), self.codebook.t(), alpha=-2).argmin(1).view(z.shape[:3])

    def decode(self, features: Tensor) -> Tensor:
        """Entries (N, 7, 7, SIZE) to the logits of white pixels, (N, 1, 28, 28)."""
        logits: Tensor = self.decoder(features.permute(0, 3, 1, 2))
        return logits

    def nats(self, images: Tensor, features: Tensor) -> Tensor:
        """-log p(image | codes) of each image."""
        logits = self.decode(features)
        return F.binary_cross_entropy_with_logits(logits, images.float(), reduction="none").flatten(1).sum(1)

    def loss(self, images: Tensor) -> Tensor:
        """The loss of a step, which also moves the codebook: each entry to the mean of what it stands for, and entries
        that stand for next to nothing to features of this batch, so that none is lost.
        """
        z, codes = self.encode(images)
        with torch.no_grad():
            flat = z.detach().flatten(0, 2)
            counts = torch.bincount(codes.flatten(), minlength=CODES).float()
            self.counts.lerp_(counts, 0.02)
            sums = torch.zeros_like(self.codebook).index_add_(0, codes.flatten(), flat)
            means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], self.codebook)
            self.codebook.lerp_(means, 0.1)
            dead = torch.where(self.counts < 0.2)[0]
            self.codebook[dead] = flat[torch.randint(len(flat), (len(dead),))]
            self.counts[dead] = 1.0
        entries = self.codebook[codes]
        straight = z + (entries - z).detach()  # the gradient of the entry goes to the encoder
        return self.nats(images, straight).mean() / 10 + F.mse_loss(z, entries)


def trained_vqvae(images: Tensor) -> VQVAE:
    """A VQ-VAE after STEPS steps on images, uint8 (N, 1, 28, 28)."""
    torch.manual_seed(0)
    model = VQVAE()
    model.codebook.normal_()
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    for step in range(STEPS):
        loss = model.loss(images[torch.randint(len(images), (BATCH,))])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if (step + 1) % 400 == 0:
            print(f"VQ-VAE, step {step + 1}: loss {loss.item():.2f}", file=sys.stderr)
    return model.eval()


@torch.no_grad()
def codes_of(model: VQVAE, images: Tensor) -> Tensor:
    """The codes of images as grids for a prior: int32 (N, 1, 7, 7)."""
    parts = [model.encode(part)[1] for part in torch.split(images, 1000)]
    return torch.cat(parts).unsqueeze(1).int()


def main(folder: Path) -> None:
    """Runs both stages into a folder; an earlier run there is replaced."""
    started = time.monotonic()
    training, labels = pixelcnn.datasets.mnist("train")
    held_out, held_out_labels = pixelcnn.datasets.mnist("validation")
    vqvae = trained_vqvae(training)
    codes, held_out_codes = codes_of(vqvae, training), codes_of(vqvae, held_out)
    shutil.rmtree(folder / "prior", ignore_errors=True)

    # The prior: a network of codes by class, trained, measured and drawn from as one of images.
    model = GatedPixelCNNConfig(
        image_shape=(1, 7, 7), levels=CODES, embedding=32, num_classes=10, filters=64, layers=5, first_kernel=5,
        kernel_size=5, places=True,
    )  # fmt: skip
    config = TrainConfig(
        model=model, minutes=PRIOR_MINUTES, batch_size=64, learning_rate=3e-3, schedule="cosine", warmup_steps=100,
        clip_norm=1.0, ema=0.99, dropout=0.1, optimizer="muon", sample_images=0,
    )  # fmt: skip
    prior = pixelcnn.train(
        config, codes, held_out_codes, folder / "prior", training_labels=labels, validation_labels=held_out_labels
    )
    nats = pixelcnn.evaluate(prior, held_out_codes, held_out_labels).nats_per_image
    drawn = prior.sample(80, torch.arange(80) % 10, seed=0)

    with torch.no_grad():
        pictures = (vqvae.decode(vqvae.codebook[drawn[:, 0].long()]) > 0).to(torch.uint8)
        given_codes = vqvae.nats(held_out, vqvae.codebook[held_out_codes[:, 0].long()]).mean().item()
    save_png(grid(pictures, 2, columns=10), folder / "digits.png")
    counts = torch.bincount(codes.flatten(), minlength=CODES)
    shares = (counts + 1) / (codes.numel() + CODES)  # never 0: a code may occur in held-out digits alone
    entropy = -(shares * shares.log()).sum().item()
    by_frequency = -49 * shares[held_out_codes.long()].log().mean().item()
    print(f"""
{int((counts > 0).sum())} of {CODES} codes are used, as often as {math.exp(entropy):.0f} equally frequent ones
held-out digits, nats per digit
  codes, each by its own frequency      {by_frequency:6.1f}
  codes, by the prior, given the class  {nats:6.1f}
  digits, given their codes             {given_codes:6.1f}
  both stages, given the class          {nats + given_codes:6.1f}

{time.monotonic() - started:.0f} s. Look at {folder / "digits.png"}: 80 digits by class, drawn by the prior and decoded
""")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "vq"))
    except Interrupted as stop:  # by Ctrl-C or SIGTERM
        print("stopped; the same command begins anew", file=sys.stderr)
        sys.exit(stop.exit_code)
