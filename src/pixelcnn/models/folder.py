"""A model's folder, whatever its class: its files, where it is found, and what its weights and names must be.

config.json, model.safetensors and a card, README.md. How a model is saved and loaded: `pixelcnn.models.base`.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelcnn.sampling.autoregressive import check_weights

__all__ = [
    "CARD",
    "CHECKPOINTS",
    "CONFIG",
    "WEIGHTS",
    "canonical",
    "check_tensors",
    "check_values",
    "checked_class_names",
    "local_folder",
    "or_no_folder",
    "shipped_models",
    "stored_weights",
]

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
CHECKPOINTS = "checkpoints"
"""Of a training run."""

_SHIPPED = Path(__file__).parent.parent / "pretrained"
_MAX_NAME = 256  # characters of a class's name


def shipped_models() -> list[str]:
    """Names of the models shipped with the package."""
    return sorted(folder.parent.name for folder in _SHIPPED.glob(f"*/{CONFIG}"))


def local_folder(name: str | Path) -> Path | None:
    """The folder of a model, or of a training run without a finished one, on this machine; None if there is none.

    Raises:
        ValueError: If something has this name but is not a model.
    """
    if isinstance(name, str) and name in shipped_models():
        return _SHIPPED / name
    if name == "":  # would be the current folder
        return None
    folder = Path(name)
    for candidate in (folder, folder / "model"):
        if (candidate / CONFIG).is_file() and (candidate / WEIGHTS).is_file():
            return candidate
    if (folder / CHECKPOINTS).is_dir():
        return folder
    if folder.is_dir():
        missing = WEIGHTS if (folder / CONFIG).is_file() else CONFIG
        raise ValueError(f"{folder} is not a model's folder: it has no {missing}")
    return None


def or_no_folder(said: str, folder: Path) -> str:
    """The error about a name on the Hub, extended in case a folder was meant and misspelt."""
    if "folder here" not in said:
        said += f"; nor is there a folder {folder} here"
    names = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    alike = difflib.get_close_matches(folder.name, names, n=1)
    return f"{said}; did you mean {folder.parent / alike[0]}?" if alike else said


def check_tensors(expected: dict[str, Tensor], found: dict[str, Tensor], where: str) -> None:
    """Raises ValueError if tensors are not those that a model has, by name and shape."""
    if unknown := sorted(set(found) - set(expected)):
        raise ValueError(f"{where}: unknown tensor {unknown[0]!r}")
    if missing := sorted(set(expected) - set(found)):
        raise ValueError(f"{where}: tensor {missing[0]!r} is missing")
    for name, weight in expected.items():
        if found[name].shape != weight.shape:
            raise ValueError(
                f"{where}: tensor {name!r} must have shape {tuple(weight.shape)}, got {tuple(found[name].shape)}"
            )


def check_values(weights: dict[str, Tensor], where: str = "") -> None:
    """Raises ValueError if weights are of another type than float32 and float64, of several, or not finite."""
    types = {tensor.dtype for tensor in weights.values()}
    if len(types) != 1 or not types <= {torch.float32, torch.float64}:
        raise ValueError(f"{where}tensors must all be float32 or all float64, got {sorted(map(str, types))}")
    check_weights(weights.items(), where)


def stored_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are stored: dtypes narrower than float32 are widened to it, and constants that are integers
    are of the weights' type.

    Raises:
        ValueError: If a constant is an integer that this type does not hold.
    """
    state = model.state_dict()
    weights = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), torch.float32)
    stored = {}
    for name, tensor in state.items():
        inexact = tensor.is_floating_point() or tensor.is_complex()
        stored[name] = tensor.to(torch.promote_types(tensor.dtype if inexact else weights, torch.float32))
        if not inexact and not torch.equal(stored[name].to(tensor.dtype), tensor):
            raise ValueError(f"{name} must hold integers that {stored[name].dtype} holds, to be stored")
    return stored


def canonical(config: dict[str, Any]) -> str:
    """A configuration as the one text that its checksum is of."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"))


def checked_class_names(names: object, classes: int | None, where: str = "") -> tuple[str, ...]:
    """Names of a model's classes, one each and all different, of at most 256 characters.

    Raises:
        ValueError: If they are not.
    """
    found = tuple(names) if isinstance(names, list | tuple) else ()
    right = all(isinstance(name, str) and 0 < len(name) <= _MAX_NAME for name in found)
    if not right or len(found) != classes or len(set(found)) < len(found):
        begin = f"{where}: " if where else ""
        raise ValueError(
            f"{begin}class_names must be different names, one for each of the {classes} classes, got {names!r}"
        )
    return found
