"""Small models for the tests of the native engine, whose features do not fill its vectors."""

import pytest
import torch

import pixelcnn
from pixelcnn.sampling import why_not_native


def small(shape=(2, 6, 9), levels=3, dtype=torch.float32, **sizes):
    sizes = {"filters": 37, "blocks": 2} | sizes
    return pixelcnn.PixelCNN(shape, levels=levels, **sizes, generator=torch.Generator().manual_seed(3)).to(dtype)


def attentive(shape=(2, 6, 9), levels=3, dtype=torch.float32, **sizes):
    """Heads of more features than a vector has, and of one that is not full."""
    sizes = {"filters": 36, "layers": 3, "attention": 2, "attention_heads": 2, "attention_size": 19} | sizes
    generator = torch.Generator().manual_seed(3)
    model = pixelcnn.GatedPixelCNN(shape, levels=levels, **sizes, generator=generator)
    with torch.no_grad():
        for block in model.attention:
            block.query.weight.mul_(4)  # weights of attention far from equal
            block.output.weight.mul_(10)
    return model.to(dtype)


needs_compiler = pytest.mark.skipif(
    why_not_native(small()) is not None, reason=f"no native engine here: {why_not_native(small())}"
)
