"""A small classifier of black and white digits, independent of the package's models: it judges what they draw by class.

python tests/helpers/classifier.py    trains it on MNIST's training images, a minute, and writes
classifier.safetensors
"""

from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelcnn.datasets import mnist

WEIGHTS = Path(__file__).with_suffix(".safetensors")


class Classifier(nn.Sequential):
    """Three convolutions and a linear layer: uint8 levels 0..1 (N, 1, 28, 28) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
        )  # fmt: skip

    @classmethod
    def trained(cls) -> "Classifier":
        """The one in the file, whose weights are stored in float16."""
        model = cls()
        model.load_state_dict(safetensors.torch.load_file(WEIGHTS))
        return model.eval()

    @torch.no_grad()
    def classes(self, images: Tensor) -> Tensor:
        """int64 (N,)."""
        return torch.cat([self(part.float()).argmax(1) for part in images.split(500)])


def train(epochs: int = 4, batch: int = 100) -> Classifier:
    """Adam, the learning rate falling to zero."""
    torch.manual_seed(0)
    model, (images, labels) = Classifier(), mnist("train")
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    steps = epochs * len(images) // batch
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(batch):
            optimiser.zero_grad()
            F.cross_entropy(model(images[part].float()), labels[part]).backward()
            optimiser.step()
            decay.step()
    return model.eval()


if __name__ == "__main__":
    state = {name: tensor.half() for name, tensor in train().state_dict().items()}
    safetensors.torch.save_file(state, WEIGHTS)
    test, digits = mnist("test")
    print(f"{(Classifier.trained().classes(test) == digits).float().mean():.2%} of the test images")
