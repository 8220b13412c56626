"""What the tests of models on the Hub share."""

import os
import re

import torch

import pixelcnn

FILES = ["README.md", "config.json", "model.safetensors"]


def code_of(card):
    (code,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    return code


def made(seed=0):
    return pixelcnn.PixelCNN((1, 5, 6), levels=3, filters=8, blocks=1, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    assert a.config == b.config
    assert list(a.state_dict()) == list(b.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(a.sample(5, seed=3), b.sample(5, seed=3))


def snapshots(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("models--*/snapshots/*/*"))


def environment(hub, tmp_path, **changes):
    """Of a process that finds the server by HF_ENDPOINT."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    return kept | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN": "hf_writer", "HF_HUB_DISABLE_XET": "1", "COLUMNS": "200", **changes,
    }  # fmt: skip
