"""Models on disk: a folder with config.json, model.safetensors and a card (README.md).

config.json names the model's class and its configuration. The weights carry a checksum that covers the configuration
too, so a folder is either what was saved or refused: truncated, flipped and edited files alike. Tensors are loaded
strictly, by name, shape and type. Nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelcnn.config import from_dict, to_dict
from pixelcnn.files import checksum_of, decode_tensors, encode_tensors, new_folder, read_json, write_file
from pixelcnn.models import MODELS, OrderEnsemble
from pixelcnn.models.base import AutoregressiveModel

__all__ = ["checksum", "describe", "folder_of", "load", "save_model", "shipped_models"]

_SHIPPED = Path(__file__).parent.parent / "pretrained"
_STORED: dict[str, type[AutoregressiveModel]] = MODELS | {"OrderEnsemble": OrderEnsemble}
_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(folder.parent.name for folder in _SHIPPED.glob(f"*/{_CONFIG}"))


def load(name: str | Path) -> AutoregressiveModel:
    """Loads a model, on the CPU and in evaluation mode.

    Args:
        name: A shipped model's name ("mnist"), a folder that `save_pretrained` wrote, or a training run's folder,
            whose finished model is in its sub-folder `model`.

    Raises:
        ValueError: If there is no such model, or a file of it is missing, damaged or does not fit the others.
    """
    folder = _find(name)
    config = read_json(folder / _CONFIG)
    kind = config.get("model") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in _STORED:
        raise ValueError(f"{folder / _CONFIG}: field 'model' must be one of {', '.join(_STORED)}, got {kind!r}")
    assert isinstance(config, dict)
    fields = {key: value for key, value in config.items() if key != "model"}
    cls = _STORED[kind]
    model_config = from_dict(cls.Config, fields, str(folder / _CONFIG))

    path = folder / _WEIGHTS
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    tensors, metadata = decode_tensors(path.read_bytes(), str(path))
    if metadata.get("config") != _canonical(config):
        raise ValueError(f"{folder / _CONFIG} is not the configuration that {path} was saved with")
    with torch.device("meta"):  # nothing is allocated before the sizes are known to fit
        _check_tensors(cls.from_config(model_config).state_dict(), tensors, str(path))
    model = cls.from_config(model_config).to(next(iter(tensors.values())).dtype)
    model.load_state_dict(tensors)
    return model.eval()


def folder_of(name: str | Path) -> Path:
    """The folder that `load` reads for the same name.

    Raises:
        ValueError: If there is no such model.
    """
    return _find(name)


def save_model(model: AutoregressiveModel, folder: Path, card: str | None = None) -> None:
    """Writes a model; see `AutoregressiveModel.save_pretrained`."""
    if folder.exists() and not _is_replaceable(folder):
        raise ValueError(f"{folder} exists and is not just a model's folder; it is not replaced")
    config = _config(model)
    with new_folder(folder) as new:
        write_file(new / _CONFIG, json.dumps(config, indent=2) + "\n")
        write_file(new / _WEIGHTS, encode_tensors(model.state_dict(), {"config": _canonical(config)}))
        write_file(new / _CARD, describe(model) if card is None else card)


def checksum(model: AutoregressiveModel) -> str:
    """SHA-256 of a model's class, configuration and weights: the one that its model.safetensors carries."""
    return checksum_of(model.state_dict(), {"config": _canonical(_config(model))})


def describe(model: AutoregressiveModel, training: str = "", results: str = "") -> str:
    """A model card in Markdown: what the model is, how it was trained and how to use it."""
    c, h, w = model.image_shape
    parameters = sum(p.numel() for p in model.parameters())
    sections = [
        "---\nlibrary_name: pixelcnn\ntags: [pixelcnn, autoregressive, density-estimation]\n---\n",
        f"# {type(model).__name__}, {c}x{h}x{w} images of {model.levels} levels\n",
        f"An exact-likelihood autoregressive model with {parameters:,} parameters (masked weights counted).\n",
        f"## Training\n\n{training}\n" if training else "",
        f"## Results\n\n{results}\n" if results else "",
        '## Use\n\n```python\nimport pixelcnn\n\nmodel = pixelcnn.load("path/to/this/folder")\n'
        "images = model.sample(16, seed=0)        # uint8 (16, C, H, W)\n"
        "nats = model.log_prob(images)            # exact, (16,)\n```\n",
    ]
    return "\n".join(section for section in sections if section)


def _is_replaceable(folder: Path) -> bool:
    """Empty, or a model and nothing else: a folder of other things may well have a config.json."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    if not names <= {_CONFIG, _WEIGHTS, _CARD} or _CONFIG not in names:
        return False
    config = read_json(folder / _CONFIG)
    return isinstance(config, dict) and config.get("model") in _STORED


def _find(name: str | Path) -> Path:
    if isinstance(name, str) and name in shipped_models():
        return _SHIPPED / name
    folder = Path(name)
    for candidate in (folder, folder / "model"):
        if (candidate / _CONFIG).is_file() and (candidate / _WEIGHTS).is_file():
            return candidate
    shipped = ", ".join(shipped_models())
    if (folder / "checkpoints").is_dir():
        raise ValueError(f"the training run in {folder} has no finished model yet; go on with it by --resume auto")
    if folder.is_dir():
        missing = _WEIGHTS if (folder / _CONFIG).is_file() else _CONFIG
        raise ValueError(f"{folder} is not a model's folder: it has no {missing}")
    raise ValueError(f"no model {str(name)!r}: neither a shipped model ({shipped}) nor a folder")


def _check_tensors(expected: dict[str, Tensor], found: dict[str, Tensor], where: str) -> None:
    if unknown := sorted(set(found) - set(expected)):
        raise ValueError(f"{where}: unknown tensor {unknown[0]!r}")
    if missing := sorted(set(expected) - set(found)):
        raise ValueError(f"{where}: tensor {missing[0]!r} is missing")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise ValueError(
                f"{where}: tensor {name!r} must have shape {tuple(tensor.shape)}, got {tuple(found[name].shape)}"
            )
    types = {tensor.dtype for tensor in found.values()}
    if len(types) != 1 or not types <= {torch.float32, torch.float64}:
        raise ValueError(f"{where}: tensors must all be float32 or all float64, got {sorted(map(str, types))}")


def _config(model: AutoregressiveModel) -> dict[str, Any]:
    return {"model": type(model).__name__, **to_dict(model.config)}


def _canonical(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, separators=(",", ":"))
