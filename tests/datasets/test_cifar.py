"""CIFAR-10's binary version, in small: the folder, the archive, its splits."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from made import noise, opened
from pixelcnn.codec.archive import picture_files
from pixelcnn.datasets import open_data

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FILES = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]


@pytest.fixture
def batches():
    """The folder, with 8 images a file; returns labels (48,) and images (48, 3, 32, 32)."""
    images, labels = noise(48, 3, 32, 32), noise(48, seed=1, top=10)
    folder = Path("cifar-10-batches-bin")
    folder.mkdir()
    for k, name in enumerate(FILES):
        part = slice(8 * k, 8 * k + 8)
        (folder / name).write_bytes(np.concatenate([labels[part, None], images[part].reshape(8, -1)], 1).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return labels, images


def archive():
    with tarfile.open("cifar-10-binary.tar.gz", "w:gz") as file:
        for name in [*reversed(FILES), "batches.meta.txt"]:
            file.add(f"cifar-10-batches-bin/{name}")
    return "cifar-10-binary.tar.gz"


@pytest.mark.parametrize("packed", [False, True])
def test_splits(batches, packed):
    labels, images = batches
    path = archive() if packed else "cifar-10-batches-bin"
    data = opened(path)
    assert np.array_equal(data.training, images[:36])
    assert np.array_equal(data.validation, images[36:40])
    assert data.training_labels.tolist() == labels[:36].tolist()
    assert data.classes == tuple(NAMES)
    assert data.description == "cifar10 (36 images for training and 4 for validation)"
    test = open_data(path, 256, progress=False)
    assert np.array_equal(test.images, images[40:])
    assert test.labels.tolist() == labels[40:].tolist()
    assert np.array_equal(open_data(f"{path}:validation", 256, progress=False).images, images[36:40])


def test_quantised(batches):
    assert np.array_equal(opened("cifar-10-batches-bin", 8).training, batches[1][:36] // 32)


def damage(name, content):
    def action():
        path = Path("cifar-10-batches-bin", name)
        path.unlink() if content is None else path.write_bytes(content)
        return "cifar-10-batches-bin"

    return action


def cut_archive():
    content = Path(archive()).read_bytes()
    Path("cifar-10-binary.tar.gz").write_bytes(content[: len(content) // 2])
    return "cifar-10-binary.tar.gz"


def flipped_archive():
    """One bit of noise, which gzip hardly shrinks: every file in it can still be read."""
    content = bytearray(Path(archive()).read_bytes())
    content[len(content) // 2] ^= 1
    Path("cifar-10-binary.tar.gz").write_bytes(content)
    return "cifar-10-binary.tar.gz"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"


def pointer_to_archive():
    Path("cifar-10-binary.tar.gz").write_bytes(POINTER)
    return "cifar-10-binary.tar.gz"


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (damage("data_batch_3.bin", None), r"data_batch_3\.bin is missing"),
        (
            damage("data_batch_3.bin", bytes(5000)),
            r"data_batch_3\.bin is damaged: 5000 bytes are not a multiple of 3073",
        ),
        (damage("test_batch.bin", b"\x0b" * 3073), r"test_batch\.bin is damaged: it holds a class 11"),
        (damage("batches.meta.txt", b"cat\ndog\n"), r"batches\.meta\.txt must name 10 classes, got 2"),
        (cut_archive, r"cifar-10-binary\.tar\.gz is damaged: "),
        (flipped_archive, r"cifar-10-binary\.tar\.gz is damaged: CRC check failed"),
        (damage("test_batch.bin", POINTER), r"test_batch\.bin is a pointer of Git LFS"),
        (pointer_to_archive, r"cifar-10-binary\.tar\.gz is a pointer of Git LFS"),
    ],
)
def test_damage_is_named(batches, action, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        opened(action())
    assert not list((tmp_path / "cache" / "pixelcnn" / "data").iterdir())


@pytest.mark.usefixtures("batches")
def test_its_archive_is_no_picture_to_be_compressed():
    assert picture_files([archive(), "cifar-10-batches-bin"]) == [[], []]


def test_it_is_taken_as_it_is(batches):
    with pytest.raises(ValueError, match="size must be left out for cifar10, which is taken as it is, got 16"):
        opened("cifar-10-batches-bin", size=16)
