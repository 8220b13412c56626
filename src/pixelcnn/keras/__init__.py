"""Weights of the Keras example "PixelCNN", read from and written to Keras's files without Keras.

`read_weights` reads every format that Keras has had, recognised by content and not by name; `network.from_keras` makes
a `pixelcnn.PixelCNN` of the weights and `network.to_keras` goes back, and `hdf5.write_weights` writes. Nothing that a
file says is run: no layer is built and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pixelcnn.files import check_no_pointer
from pixelcnn.keras.hdf5 import h5py_module, read_archive, read_hdf5
from pixelcnn.keras.network import KerasFileError, Weights, check_network
from pixelcnn.keras.savedmodel import read_saved_model

__all__ = ["read_weights"]

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


def read_weights(path: str | Path) -> Weights:
    """Reads a .weights.h5, .keras or legacy .h5 file, or a SavedModel folder.

    Returns:
        The convolutions' kernels and biases, in the network's order, for `pixelcnn.keras.network.from_keras`; and,
        where the file states it, the images' `size`, height and width.

    Raises:
        ValueError: If there is no such file, or it is damaged or not of the example's network, or h5py, which all but
            SavedModel folders need, is not installed.
        OSError: If it cannot be opened.
    """
    path = Path(path)
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
    return read_hdf5 if start.startswith(_HDF5) else read_archive
