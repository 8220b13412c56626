"""Reads the weights of the Keras example from whatever Keras wrote, recognised by content and not by name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pixelcnn.files import check_no_pointer
from pixelcnn.keras.configuration import read_configuration
from pixelcnn.keras.hdf5 import h5py_module, read_hdf5
from pixelcnn.keras.network import KerasFileError, Weights, check_network
from pixelcnn.keras.savedmodel import read_saved_model

__all__ = ["read_weights"]

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_MAX_BYTES = 2**31  # of a part of a zip, unpacked


def read_weights(path: Path) -> Weights:
    """Reads a .weights.h5, .keras or legacy .h5 file, or a SavedModel folder.

    Raises:
        ValueError: If there is no such file, or it is damaged or not of the example's network, or h5py, which all but
            SavedModel folders need, is not installed.
        OSError: If it cannot be opened.
    """
    read = _reader_for(path)
    try:
        weights = read(path)
        check_network(weights.convolutions)
    except KerasFileError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # damage makes h5py and zipfile raise almost anything
        if isinstance(error, OSError) and error.filename is not None:  # of opening a file
            raise
        raise ValueError(f"{path}: the file is damaged: {error!r}") from None
    return weights


def _reader_for(path: Path) -> Callable[[Path], Weights]:
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path} is not a SavedModel: it has no saved_model.pb")
        return read_saved_model
    if not path.exists():
        raise ValueError(f"{path} is missing")
    with path.open("rb") as file:
        start = file.read(64)
    check_no_pointer(start, path)
    if not start.startswith((_HDF5, _ZIP)):
        raise ValueError(f"{path} is not a Keras file: neither HDF5 (.h5), nor a zip (.keras), nor a SavedModel folder")
    h5py_module()
    return read_hdf5 if start.startswith(_HDF5) else _read_archive


def _read_archive(path: Path) -> Weights:
    """Reads a .keras file, a zip whose checksums are verified: its configuration and its weights, and no other part."""
    with zipfile.ZipFile(path) as archive:
        config, content = (_part(archive, name) for name in ("config.json", "model.weights.h5"))
    weights = read_hdf5(io.BytesIO(content), read_configuration(config))
    return replace(weights, format="Keras archive", verified=True)


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise KerasFileError(f"not a Keras file: it has no {name}")
    if (size := archive.getinfo(name).file_size) > _MAX_BYTES:
        raise KerasFileError(f"not the example's network: its {name} has {size:,} bytes")
    return archive.read(name)
