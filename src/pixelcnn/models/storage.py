"""Models on disk: a folder with config.json, model.safetensors and a card (README.md).

config.json names the model's class and its configuration. The weights carry a checksum that covers the configuration
too, so a folder is either what was saved or refused: truncated, flipped and edited files alike. Tensors are loaded
strictly, by name, shape and type. Nothing is unpickled. A model on the Hub is the same three files, downloaded into a
cache and read in the same way.
"""

from __future__ import annotations

import difflib
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelcnn.config import from_dict, to_dict
from pixelcnn.files import checksum_of, decode_tensors, encode_tensors, new_folder, read_json, write_file
from pixelcnn.models import MODELS, OrderEnsemble
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.card import HERE, describe, with_license, with_name
from pixelcnn.models.hub import HubError, HubName, download, upload
from pixelcnn.sampling.autoregressive import check_weights

__all__ = ["card_of", "checksum", "load", "local_folder", "push_model", "save_model", "shipped_models"]

_SHIPPED = Path(__file__).parent.parent / "pretrained"
_STORED: dict[str, type[AutoregressiveModel]] = MODELS | {"OrderEnsemble": OrderEnsemble}
_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(folder.parent.name for folder in _SHIPPED.glob(f"*/{_CONFIG}"))


def load(
    name: str | Path,
    revision: str | None = None,
    *,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> AutoregressiveModel:
    """Loads a model, on the CPU and in evaluation mode.

    Args:
        name: A shipped model's name ("mnist"); a folder that `save_pretrained` wrote, or a training run's folder, whose
            finished model is in its sub-folder `model`; or a model on the Hugging Face Hub, "user/name" or
            "user/name@revision". A folder of that name wins, unless a revision is given. Of the Hub only config.json,
            model.safetensors and README.md are downloaded, into its cache, and once.
        revision: A branch, a tag or a commit of a model on the Hub; `main` by default.
        token: Of the Hub; by default HF_TOKEN or that of `hf auth login`; False sends none.
        cache_dir: Where downloads are kept; by default as HF_HOME or HF_HUB_CACHE say.
        force_download: Download although the cache has the model.
        local_files_only: Ask no server, as HF_HUB_OFFLINE=1 does.

    Raises:
        ValueError: If there is no such model, a file of it is missing, damaged or does not fit the others, or a weight
            is not finite.
        ConnectionError: If it is to be downloaded and no server answers.
    """
    if revision is None and (folder := local_folder(name)) is not None:
        return _read(folder)
    found = HubName.of(name) if isinstance(name, str) else None
    if found is None:
        if revision is not None:
            raise ValueError(f"revision must be left out but for models on the Hub, user/name, got {revision!r}")
        shipped = ", ".join(shipped_models())
        raise ValueError(
            f"no model {str(name)!r}: neither a shipped model ({shipped}) nor a folder; one on the Hub is user/name"
        )
    if revision is not None and found.revision is not None:
        raise ValueError(f"revision must be left out where the name has one, got {name!r} and {revision!r}")
    options: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    try:
        return _load_from_hub(HubName(found.repo, revision or found.revision), force_download, options)
    except (HubError, ConnectionError) as error:
        if revision is not None:  # a folder was not looked for
            raise
        raise type(error)(_also_no_folder(str(error), Path(name))) from error


def save_model(
    model: AutoregressiveModel, folder: Path, card: str | None = None, license: str | None = None, name: str = HERE
) -> None:
    """Writes a model; see `AutoregressiveModel.save_pretrained`. `name` is what its card's code loads."""
    if folder.exists() and not _is_replaceable(folder):
        raise ValueError(f"{folder} exists and is not just a model's folder; it is not replaced")
    weights = _weights(model)
    _check_values(weights)
    text = card_of(model, name) if card is None else card
    if license is not None:
        text = with_license(text, license)
    config = _config(model)
    with new_folder(folder) as new:
        write_file(new / _CONFIG, json.dumps(config, indent=2) + "\n")
        write_file(new / _WEIGHTS, encode_tensors(weights, {"config": _canonical(config)}))
        write_file(new / _CARD, text)


def push_model(
    model: AutoregressiveModel,
    repo_id: str,
    *,
    commit_message: str,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    card: str | None = None,
    license: str | None = None,
) -> str:
    """Uploads a model; see `AutoregressiveModel.push_to_hub`."""
    found = HubName.of(repo_id)
    if found is None or found.revision is not None:
        raise ValueError(f"repo_id must be user/name, got {repo_id!r}")
    name = HubName(repo_id, branch)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model", card, license, str(name))
        return upload(
            Path(folder) / "model", name, message=commit_message, private=private, token=token, create_pr=create_pr
        )


def card_of(model: AutoregressiveModel, name: str = HERE) -> str:
    """The card that a model was loaded with, if its weights are still the same, or else a new one.

    Args:
        model: The model.
        name: What the card's code loads.
    """
    text, signature = model.loaded_card or ("", "")
    return with_name(text if text and signature == checksum(model) else describe(model), name)


def checksum(model: AutoregressiveModel) -> str:
    """SHA-256 of a model's class, configuration and weights: the one that its model.safetensors carries."""
    return checksum_of(_weights(model), {"config": _canonical(_config(model))})


def _load_from_hub(name: HubName, force: bool, options: dict[str, Any]) -> AutoregressiveModel:
    """Downloads a model and reads it; a copy in the cache that cannot be read is downloaded once more."""
    folder = download(name, [_CONFIG], force_download=force, **options)
    try:
        _class_of(folder)  # before anything large is downloaded
        commit = replace(name, commit=folder.name)  # all files are of one and the same
        folder = download(commit, [_CONFIG, _WEIGHTS], [_CARD], progress=True, force_download=force, **options)
        return _read(folder)
    except HubError:
        raise
    except ValueError as error:
        if not force:
            return _load_from_hub(name, True, options)
        raise ValueError(str(error).replace(f"{folder}/", f"{name}/")) from None


def _read(folder: Path) -> AutoregressiveModel:
    """The model in a folder."""
    cls, config = _class_of(folder)
    fields = {key: value for key, value in config.items() if key != "model"}
    model_config = from_dict(cls.Config, fields, str(folder / _CONFIG))

    path = folder / _WEIGHTS
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    tensors, metadata = decode_tensors(path.read_bytes(), str(path))
    if metadata.get("config") != _canonical(config):
        raise ValueError(f"{folder / _CONFIG} is not the configuration that {path} was saved with")
    with torch.device("meta"):  # nothing is allocated before the sizes are known to fit
        _check_tensors(cls.from_config(model_config).state_dict(), tensors, str(path))
    _check_values(tensors, f"{path}: ")
    model = cls.from_config(model_config).to(next(iter(tensors.values())).dtype)
    model.load_state_dict(tensors)
    if (folder / _CARD).is_file():
        model.loaded_card = ((folder / _CARD).read_text(encoding="utf-8", errors="replace"), checksum(model))
    return model.eval()


def _class_of(folder: Path) -> tuple[type[AutoregressiveModel], dict[str, Any]]:
    """The class that a folder's configuration names, and the configuration."""
    config = read_json(folder / _CONFIG)
    kind = config.get("model") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in _STORED:
        raise ValueError(f"{folder / _CONFIG}: field 'model' must be one of {', '.join(_STORED)}, got {kind!r}")
    assert isinstance(config, dict)
    return _STORED[kind], config


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


def local_folder(name: str | Path) -> Path | None:
    """The folder of a model that is on this machine; None if there is nothing of the name.

    Raises:
        ValueError: If there is something of the name that is no model.
    """
    if isinstance(name, str) and name in shipped_models():
        return _SHIPPED / name
    if name == "":  # would be the folder that one is in
        return None
    folder = Path(name)
    for candidate in (folder, folder / "model"):
        if (candidate / _CONFIG).is_file() and (candidate / _WEIGHTS).is_file():
            return candidate
    if (folder / "checkpoints").is_dir():
        raise ValueError(f"the training run in {folder} has no finished model yet; go on with it by --resume auto")
    if folder.is_dir():
        missing = _WEIGHTS if (folder / _CONFIG).is_file() else _CONFIG
        raise ValueError(f"{folder} is not a model's folder: it has no {missing}")
    return None


def _also_no_folder(said: str, folder: Path) -> str:
    """What is wrong with a name on the Hub, which may be a folder's, misspelt."""
    if "folder here" not in said:
        said += f"; nor is there a folder {folder} here"
    names = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    alike = difflib.get_close_matches(folder.name, names, n=1)
    return f"{said}; did you mean {folder.parent / alike[0]}?" if alike else said


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


def _check_values(weights: dict[str, Tensor], where: str = "") -> None:
    types = {tensor.dtype for tensor in weights.values()}
    if len(types) != 1 or not types <= {torch.float32, torch.float64}:
        raise ValueError(f"{where}tensors must all be float32 or all float64, got {sorted(map(str, types))}")
    check_weights(weights.items(), where)


def _weights(model: AutoregressiveModel) -> dict[str, Tensor]:
    """As they are stored: those of less than float32 widened to it."""
    return {
        name: tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for name, tensor in model.state_dict().items()
    }


def _config(model: AutoregressiveModel) -> dict[str, Any]:
    return {"model": type(model).__name__, **to_dict(model.config)}


def _canonical(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, separators=(",", ":"))
