"""Keras 3's .keras: a zip with config.json, metadata.json and model.weights.h5. Anything else inside is not opened."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

from pixelcnn.keras.hdf5 import read_hdf5
from pixelcnn.keras.layout import Weights
from pixelcnn.keras.structure import read_structure

__all__ = ["read_archive"]

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LARGEST = 2**31  # bytes of a part, unpacked


def read_archive(path: Path) -> Weights:
    """Reads a .keras file; the parts' checksums are verified.

    Raises:
        ValueError: If it is damaged or not the example's network, or h5py is not installed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config, content = (_part(archive, name, path) for name in (_CONFIG, _WEIGHTS))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return replace(read_hdf5(io.BytesIO(content), path, read_structure(config, path)), format="Keras archive")


def _part(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise ValueError(f"{path} is not a Keras file: it has no {name}") from None
    if size > _LARGEST:
        raise ValueError(f"{path} is not the example's network: its {name} has {size:,} bytes")
    return archive.read(name)
