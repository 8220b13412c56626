"""Memory that is not a mapped file does not grow with the number of files, neither in reading nor in training."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made import noise

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")

SCRIPT = """
    import json, re, sys, threading, time, warnings
    import torch
    import pixelcnn
    from pixelcnn.config import DataConfig, PixelCNNConfig, TrainConfig
    from pixelcnn.datasets import open_training

    def anonymous():
        return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

    peak, over = 0, False
    def watch():
        global peak
        while not over:
            peak = max(peak, anonymous())
            time.sleep(0.002)

    pixelcnn.train
    options, image_shape, train = json.loads(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
    before = anonymous()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    data = open_training(sys.argv[1], "clean", 8, DataConfig(**options), progress=False)
    if train:
        model = PixelCNNConfig(image_shape=tuple(image_shape), levels=8, filters=24, blocks=0)
        config = TrainConfig(model=model, epochs=1, batch_size=64, sample_images=0)
        pixelcnn.train(config, data.training, data.validation, sys.argv[1] + "-run", progress=False)
    elif not isinstance(data.training, torch.Tensor):  # an epoch of patches
        for indices in torch.arange(len(data.training)).split(64):
            data.training.drawn(indices, 0, 0)
    over = True
    thread.join()
    n = len(data.training) + len(data.validation)
    assert data.image_shape == tuple(image_shape)
    print(json.dumps({"n": n, "grown": peak - before}))
"""


def grown(folder, options, image_shape, train=False):
    """Bytes by which a process grew that read the images (and trained), and their number."""
    arguments = [str(folder), json.dumps(options), json.dumps(image_shape), json.dumps(train)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments], capture_output=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    return said["grown"], said["n"]


def files(folder, n, shape, classes=2):
    for k in range(n):
        path = Path(folder, f"class{k % classes}", f"{k:06d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(*shape, seed=k)).save(path, compress_level=0)


@pytest.mark.slow
def test_many_files():
    """Four times as many files of 12 KiB: 11 MB more of images, and at most 4 MB more of memory."""
    files("few", 300, (64, 64, 3))
    files("many", 1200, (64, 64, 3))
    few, many = (grown(name, {}, (3, 64, 64)) for name in ("few", "many"))
    assert (few[1], many[1]) == (300, 1200)
    assert many[0] < few[0] + 4e6


@pytest.mark.long
def test_many_patches():
    """19,200 patches of 60 pictures against 4,800 of 15: 17 MB more of images."""
    files("few", 15, (320, 416, 3))
    files("many", 60, (320, 416, 3))
    options = {"size": 20, "crop": "patches"}
    few, many = (grown(name, options, (3, 20, 20)) for name in ("few", "many"))
    assert (few[1], many[1]) == (15 * 320, 60 * 320)
    assert many[0] < few[0] + 6e6


@pytest.mark.slow
def test_patches_drawn_anew():
    """All patches of an epoch of 96 pictures against 24: 29 MB more of pixels, a fifth of them for validation."""
    files("few", 24, (320, 416, 3))
    files("many", 96, (320, 416, 3))
    few, many = (grown(name, {"patch": 64, "held_out": 0.2}, (3, 64, 64)) for name in ("few", "many"))
    assert many[0] < few[0] + 8e6


@pytest.mark.long
def test_a_long_array():
    """40 MB more, in an archive and not of bytes: read as a stream and copied."""
    for name, n in (("few", 2000), ("many", 12_000)):
        np.savez(f"{name}.npz", images=noise(n, 64, 64, top=2).astype(np.int8))
    few, many = (grown(f"{name}.npz", {}, (1, 64, 64)) for name in ("few", "many"))
    assert (few[1], many[1]) == (2000, 12_000)
    assert many[0] < few[0] + 6e6


@pytest.mark.long
def test_training_on_20_000_files():
    """Reading 20,000 photographs as patches, one a file, and an epoch on them, against 5,000: 46 MB more of images."""
    files("few", 5_000, (32, 32, 3), classes=10)
    files("many", 20_000, (32, 32, 3), classes=10)
    options = {"size": 32, "crop": "patches"}
    few, many = (grown(name, options, (3, 32, 32), train=True) for name in ("few", "many"))
    assert (few[1], many[1]) == (5_000, 20_000)
    assert many[0] < few[0] + 12e6
