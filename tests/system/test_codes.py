"""docs/jobs/codes.md with real codes: those of `vector-quantize-pytorch`, where it is installed (extra `vq`)."""

import re
from pathlib import Path

import pytest
import torch

import pixelcnn

PAGE = Path(__file__).parent.parent.parent / "docs" / "jobs" / "codes.md"


def test_codes_of_vector_quantize_pytorch():
    """The page's lines run, and their codes are those of a prior, there and back."""
    package = pytest.importorskip("vector_quantize_pytorch")
    (block,) = [
        b for b in re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL) if "quant" in b
    ]
    found = {"torch": torch}
    exec(block, found)
    codes, decoded = found["codes"], found["decoded"]
    assert codes.shape == (20, 1, 7, 7)
    assert torch.allclose(decoded.flatten(2).mT, found["quantizer"].codebook[codes.flatten(1)])
    prior = pixelcnn.GatedPixelCNN((1, 7, 7), levels=512, filters=4, layers=2, embedding=4)
    assert prior.log_prob(codes).shape == (20,)

    residual = package.ResidualVQ(dim=8, codebook_size=300, num_quantizers=3).eval()
    _, indices, _ = residual(torch.randn(4, 9, 8))
    levels = indices.mT.reshape(4, 3, 3, 3)
    prior = pixelcnn.PixelCNN((3, 3, 3), levels=300, filters=6, blocks=1, embedding=4)
    assert prior.log_prob(levels).shape == (4,)
    assert torch.equal(prior.sample(2, seed=0), prior.sample(2, engine="reference", seed=0))
