"""Reads the weights of the Keras example from whatever Keras has written, told by content and not by name."""

from __future__ import annotations

from pathlib import Path

from pixelcnn.files import check_no_pointer
from pixelcnn.keras.archive import read_archive
from pixelcnn.keras.hdf5 import read_hdf5
from pixelcnn.keras.layout import Weights
from pixelcnn.keras.savedmodel import read_saved_model

__all__ = ["read_weights"]

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


def read_weights(path: Path) -> Weights:
    """Reads a .weights.h5, .keras or legacy .h5 file, or a SavedModel folder.

    Raises:
        ValueError: If there is no such file, or it is damaged or not the example's network, or h5py, which all but
            SavedModel folders need, is not installed.
        OSError: If it cannot be read.
    """
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path} is not a SavedModel: it has no saved_model.pb")
        return read_saved_model(path)
    if not path.exists():
        raise ValueError(f"{path} is missing")
    with path.open("rb") as file:
        begins = file.read(64)
    check_no_pointer(begins, path)
    if begins.startswith(_HDF5):
        return read_hdf5(path, path)
    if begins.startswith(_ZIP):
        return read_archive(path)
    raise ValueError(f"{path} is not a Keras file: neither HDF5 (.h5), nor a zip (.keras), nor a SavedModel folder")
