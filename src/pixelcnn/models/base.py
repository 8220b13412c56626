"""The base of all trained models: a network that is saved, loaded and shared.

A subclass defines `network` and its `Config`; likelihood, sampling and completion follow from it (`pixelcnn.density`).

A model on disk is a folder with config.json, model.safetensors and a card (README.md). config.json names the model's
class and its configuration. The weights carry a checksum that covers the configuration too, so a folder is either
exactly what was saved or rejected, whether its files were truncated, corrupted or edited. Tensors are loaded strictly,
by name, shape and dtype. Nothing is unpickled. A model on the Hub consists of the same three files, downloaded into a
cache and read in the same way.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import tempfile
import warnings
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch

from pixelcnn.arithmetic.precision import default_factories
from pixelcnn.config import ORDERS, ModelConfig, TrainConfig, add_architecture, depth_of, from_dict, to_dict
from pixelcnn.files import checksum_of, decode_tensors, encode_tensors, new_folder, read_json, write_file
from pixelcnn.likelihoods import Likelihood
from pixelcnn.models.card import HERE, describe, with_license, with_name
from pixelcnn.models.checkpoints import newest, read_checkpoint
from pixelcnn.models.folder import (
    CARD,
    CHECKPOINTS,
    CONFIG,
    WEIGHTS,
    canonical,
    check_tensors,
    check_values,
    checked_class_names,
    local_folder,
    or_no_folder,
    shipped_models,
    stored_weights,
)
from pixelcnn.models.hub import HubError, HubName, download, upload
from pixelcnn.models.network import Network

__all__ = ["AutoregressiveModel", "checksum", "load", "model_of", "register"]

ModelT = TypeVar("ModelT", bound="AutoregressiveModel")

_NO_FIELDS = ("model", "module", "class_names")  # of config.json


class AutoregressiveModel(Network):
    """Base of all trained models. Images are uint8 (N, C, H, W), int32 for more than 256 levels, holding 0 .. levels-1;
    log-probabilities are in nats.

    A subclass of one's own is saved, loaded and trained once `pixelcnn.register` knows it.
    """

    classes: ClassVar[dict[str, type[AutoregressiveModel]]] = {}
    """The classes that can be saved, loaded and trained, by name: the shipped ones and those of `register`."""

    def __init__(
        self, config: ModelConfig, likelihood: Likelihood | None = None, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(config, likelihood, generator=generator)
        self.history: Any = None
        """The losses of the training run, see `pixelcnn.training.History`; None but after `pixelcnn.train`."""
        self.loaded_card: tuple[str, str] | None = None  # the card's text, and the checksum of the weights it describes

    @property
    def card(self) -> str:
        """The model's card in Markdown: the one it was loaded with, or a new one if the weights have changed since."""
        return _card_of(self)

    def save_pretrained(self, folder: str | Path, card: str | None = None, *, license: str | None = None) -> None:
        """Writes the model as a folder that `pixelcnn.load` reads: config.json, model.safetensors, README.md.

        The folder appears in a single rename, after any earlier model there has been renamed out of the way. Weights in
        float16 or bfloat16 are written, and loaded, as float32.

        Args:
            folder: The folder to write; missing parents are created.
            card: Text of README.md; by default `card`, with code that loads the folder it lies in.
            license: Licence of the weights, for the card, as the Hub names it: "apache-2.0", "cc-by-4.0". By default
                the one in the card, which for a new card is "unknown".

        Raises:
            OSError: If the folder cannot be written, or is the current one.
            ValueError: If the folder exists and holds anything other than a model, the model's class is not known by
                its name (see `pixelcnn.register`), `license` is malformed, a weight is not finite, the weights are not
                those of the configuration, as with `torch.nn.utils.parametrize`, or `class_names` are not different
                names, one for each class.
        """
        _save(self, Path(folder), card, license, HERE)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload a model of pixelcnn",
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        card: str | None = None,
        license: str | None = None,
    ) -> str:
        """Uploads the model to the Hugging Face Hub in one commit, for `pixelcnn.load(repo_id)`.

        The repository is created if it does not exist. Other files in it are left as they are.

        Args:
            repo_id: The repository, "user/name".
            commit_message: Message of the commit.
            private: Whether a new repository is private; None leaves that to the user's settings.
            token: Hub token with write access; by default HF_TOKEN or that of `hf auth login`.
            branch: An existing branch; `main` by default.
            create_pr: Open a pull request instead of changing the branch.
            card: Text of README.md, used verbatim; by default `card`, with code that loads the model by `repo_id`.
            license: As for `save_pretrained`.

        Returns:
            The URL of the commit or of the pull request.

        Raises:
            ValueError: If `repo_id` is malformed, the model cannot be saved, as for `save_pretrained`, the Hub refuses,
                or the repository is public although `private` was asked for. Nothing local is touched.
            ConnectionError: If no server answers.
        """
        found = HubName.of(repo_id)
        if found is None or found.revision is not None:
            raise ValueError(f"repo_id must be user/name, got {repo_id!r}")
        name = HubName(repo_id, branch)
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            _save(self, model, card, license, str(name))
            return upload(model, name, message=commit_message, private=private, token=token, create_pr=create_pr)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """`pixelcnn.load` for a model of this class, with the same arguments and warnings.

        Raises:
            ValueError: As for `pixelcnn.load`; or if the model is of another class.
            ConnectionError: As for `pixelcnn.load`.
        """
        model = load(
            pretrained_model_name_or_path,
            revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        if not isinstance(model, cls):
            raise ValueError(
                f"{pretrained_model_name_or_path} must be of class {cls.__name__}, got {type(model).__name__}"
            )
        return model


def register(cls: type[ModelT]) -> type[ModelT]:
    """Makes a model class of one's own known by its name: `save_pretrained`, `load`, `train` and the command line then
    work with it as with the shipped classes. Can be used as a decorator.

    Args:
        cls: A subclass of `AutoregressiveModel` with a `Config` of its own, a frozen dataclass that has the fields
            `image_shape` and `levels`. The class's constructor takes the configuration's fields, and `generator`. The
            class variable `family` of the configuration names it on the command line, by default its class's name.

    Returns:
        The class. One of the same name in the same module, as of a notebook's cell that is run again, is replaced.

    Raises:
        ValueError: If it is no such class, or another class has its name, its family or the name of its configuration.
    """
    if not (isinstance(cls, type) and issubclass(cls, AutoregressiveModel)):
        raise ValueError(f"register takes a subclass of pixelcnn.AutoregressiveModel, got {cls!r}")
    name, config = cls.__name__, vars(cls).get("Config")
    if config is None:
        raise ValueError(f"{name} must have a Config of its own, a frozen dataclass, by which it is told from others")
    same = AutoregressiveModel.classes.get(name)
    if same is not None and (same.__module__, same.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"the name {name} is that of {same.__module__}.{same.__qualname__}; rename the class")
    family, earlier = getattr(config, "__dict__", {}).get("family"), None if same is None else same.Config
    for other in AutoregressiveModel.classes.values():
        if other is not same and other.Config.__name__ == getattr(config, "__name__", None):
            raise ValueError(f"Config must be {name}'s own, {config.__name__} is the name of {other.__name__}'s")
        if other is not same and family is not None and vars(other.Config).get("family") == family:
            raise ValueError(f"family must be {name}'s own, {family!r} is that of {other.__name__}")
    arguments = inspect.signature(cls).parameters
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in arguments.values()):
        needed = ["generator", *(field.name for field in dataclasses.fields(config))] if is_dataclass(config) else []
        if missing := [each for each in needed if each not in arguments]:
            raise ValueError(f"{name}() must take the argument {missing[0]!r}: the fields of its Config, and generator")
    add_architecture(config, earlier)
    AutoregressiveModel.classes[name] = cls
    return cls


def model_of(config: ModelConfig, *, generator: torch.Generator | None = None) -> AutoregressiveModel:
    """Builds the model that a configuration describes, of any registered class, with initial weights from `generator`.

    Raises:
        ValueError: If no registered class has this configuration as its `Config`, or its models have another.
    """
    family = next((cls for cls in AutoregressiveModel.classes.values() if cls.Config is type(config)), None)
    if family is None:
        known = ", ".join(cls.Config.__name__ for cls in AutoregressiveModel.classes.values())
        raise ValueError(
            f"no model has the configuration {type(config).__name__}, known: {known}; a class of your own whose Config "
            "it is becomes known by pixelcnn.register"
        )
    model = family.from_config(config, generator=generator)
    _check_config(model)
    return model


def _check_config(model: AutoregressiveModel) -> None:
    """Checks that a model is as its configuration says, and can be told from those of other classes.

    Raises:
        ValueError: If not.
    """
    cls = type(model)
    if AutoregressiveModel.classes.get(cls.__name__) is not cls:
        raise ValueError(
            f"{cls.__name__} is not known by this name, so what is saved could not be loaded: call "
            f"pixelcnn.register({cls.__name__}) first"
        )
    if type(model.config) is not cls.Config:
        raise ValueError(
            f"config must be of class {cls.Config.__name__} for {cls.__name__}, got one of class "
            f"{type(model.config).__name__}"
        )


def load(
    name: str | Path,
    revision: str | None = None,
    *,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> AutoregressiveModel:
    """Loads a model, on the CPU and in evaluation mode, whatever the default device is.

    Args:
        name: A shipped model's name ("mnist"); a folder that `save_pretrained` wrote, or a training run's folder, whose
            finished model is in its sub-folder `model`; of a run that was stopped, the newest checkpoint is taken,
            with averaged weights if it has some; or a model on the Hugging Face Hub, "user/name" or
            "user/name@revision". A folder of that name takes precedence, unless a revision is given. From the Hub, only
            config.json, model.safetensors and README.md are downloaded, once, into the Hub's cache.
        revision: A branch, a tag or a commit of a model on the Hub; `main` by default.
        token: Hub token; by default HF_TOKEN or that of `hf auth login`; False sends none.
        cache_dir: Folder for downloads; by default as set by HF_HOME or HF_HUB_CACHE.
        force_download: Download even if the cache has the model.
        local_files_only: Contact no server, like HF_HUB_OFFLINE=1.

    Warns:
        UserWarning: If the run of the folder has not finished.

    Raises:
        ValueError: If there is no such model, one of its files is missing, damaged or does not fit the others, or a
            weight is not finite.
        ConnectionError: If it must be downloaded and no server answers.
    """
    if revision is None and (folder := local_folder(name)) is not None:
        return _read_unfinished(folder) if (folder / CHECKPOINTS).is_dir() else _read(folder)
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
        if revision is not None:  # no folder was looked for
            raise
        raise type(error)(or_no_folder(str(error), Path(name))) from error


def checksum(model: AutoregressiveModel) -> str:
    """SHA-256 of a model's class, configuration and weights, as stored in its model.safetensors."""
    return checksum_of(stored_weights(model), {"config": canonical(_config(model))})


def _save(model: AutoregressiveModel, folder: Path, card: str | None, license: str | None, name: str) -> None:
    """See `AutoregressiveModel.save_pretrained`. `name` is the name that the card's code loads."""
    if folder.exists() and not _is_replaceable(folder):
        raise ValueError(f"{folder} exists and is not just a model's folder; it is not replaced")
    weights, config = stored_weights(model), _config(model)
    check_tensors(model.outline(model.config).state_dict(), weights, "model, which could not be loaded again")
    check_values(weights)
    text = _card_of(model, name) if card is None else card
    if license is not None:
        text = with_license(text, license)
    with new_folder(folder) as new:
        write_file(new / CONFIG, json.dumps(config, indent=2) + "\n")
        write_file(new / WEIGHTS, encode_tensors(weights, {"config": canonical(config)}))
        write_file(new / CARD, text)


def _card_of(model: AutoregressiveModel, name: str = HERE) -> str:
    """The card that a model was loaded with if its weights are still the same, otherwise a new one."""
    text, signature = model.loaded_card or ("", "")
    return with_name(text if text and signature == checksum(model) else describe(model), name)


def _load_from_hub(name: HubName, force: bool, options: dict[str, Any]) -> AutoregressiveModel:
    """Downloads a model and reads it; a cached copy that cannot be read is downloaded once more."""
    folder = download(name, [CONFIG], force_download=force, **options)
    try:
        _class_in(read_json(folder / CONFIG), str(folder / CONFIG))  # before anything large is downloaded
        commit = dataclasses.replace(name, commit=folder.name)  # all files come from the same commit
        folder = download(commit, [CONFIG, WEIGHTS], [CARD], progress=True, force_download=force, **options)
        return _read(folder)
    except HubError:
        raise
    except ValueError as error:
        if not force:
            return _load_from_hub(name, True, options)
        raise ValueError(str(error).replace(f"{folder}/", f"{name}/")) from None


def _read(folder: Path) -> AutoregressiveModel:
    """The model in a folder."""
    config = read_json(folder / CONFIG)
    cls, fields = _class_in(config, str(folder / CONFIG))
    assert isinstance(config, dict)
    model_config = from_dict(cls.Config, fields, str(folder / CONFIG))

    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    tensors, metadata = decode_tensors(path.read_bytes(), str(path))
    if metadata.get("config") != canonical(config):
        raise ValueError(f"{folder / CONFIG} is not the configuration that {path} was saved with")
    if (depth := depth_of(model_config)) > len(tensors):  # before so many layers are outlined
        raise ValueError(f"{path} has {len(tensors)} tensors, and {folder / CONFIG} asks for {depth} blocks or layers")
    check_tensors(cls.outline(model_config).state_dict(), tensors, str(path))  # before anything is allocated
    check_values(tensors, f"{path}: ")
    with default_factories():
        model = cls.from_config(model_config).to(next(iter(tensors.values())).dtype)
    model.load_state_dict(tensors)
    if "class_names" in config:
        model.class_names = checked_class_names(config["class_names"], model.num_classes, str(folder / CONFIG))
    if (folder / CARD).is_file():
        model.loaded_card = ((folder / CARD).read_text(encoding="utf-8", errors="replace"), checksum(model))
    return model.eval()


def _read_unfinished(run: Path) -> AutoregressiveModel:
    """The model in the newest intact checkpoint of a run, with averaged weights if it has some."""
    found = newest(run / CHECKPOINTS, lambda path: (str(path), *read_checkpoint(path)))
    if found is None:
        raise ValueError(f"the training run in {run} has neither a finished model nor an intact checkpoint")
    where, state, tensors = found
    record = state["record"]
    with default_factories():
        if "train" in record:
            train = from_dict(TrainConfig, record["train"], where)
            model, orders = model_of(train.model), ORDERS[: train.orders]
        else:  # of `fit_energy`
            cls, fields = _class_in(record["model"], where)
            model, orders = cls.from_config(from_dict(cls.Config, fields, where)), ORDERS[:1]
    kind = "ema." if any(name.startswith("ema.") for name in tensors) else "model."
    weights = {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
    check_tensors(dict(model.named_parameters()), weights, where)
    model.load_state_dict(weights, strict=False)  # without buffers, which do not change in training
    steps = f"step {state['step']}"
    warnings.warn(f"the run in {run} has not finished: the model is that of {steps}", stacklevel=3)
    if len(orders) > 1:
        mixture: Any = AutoregressiveModel.classes["OrderEnsemble"]
        model = mixture([model] * len(orders), orders, order_conditioned=True)
    text = f"The weights after {steps} of a run that had not finished."
    model.loaded_card = (describe(model, training=text), checksum(model))
    return model.eval()


def _class_in(config: object, where: str) -> tuple[type[AutoregressiveModel], dict[str, Any]]:
    """The class that JSON values name, and the fields of its configuration."""
    fields = config if isinstance(config, dict) else {}
    kind, module, known = fields.get("model"), fields.get("module"), AutoregressiveModel.classes
    if not isinstance(kind, str) or kind not in known:
        if isinstance(kind, str) and isinstance(module, str) and (kind + module).isprintable():
            raise ValueError(
                f"{where} needs the class {kind} of the module {module}: import the module, which calls "
                f"pixelcnn.register({kind}); on the command line, --import {module}"
            )
        raise ValueError(f"{where}: field 'model' must be one of {', '.join(known)}, got {kind!r}")
    return known[kind], {name: value for name, value in fields.items() if name not in _NO_FIELDS}


def _is_replaceable(folder: Path) -> bool:
    """Whether it is empty, or a model and nothing else: other folders may well have a config.json."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    if not names <= {CONFIG, WEIGHTS, CARD} or CONFIG not in names:
        return False
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and ("module" in config or config.get("model") in list(AutoregressiveModel.classes))


def _config(model: AutoregressiveModel) -> dict[str, Any]:
    _check_config(model)
    cls = type(model)
    module = {} if cls.__module__.startswith("pixelcnn.") else {"module": cls.__module__}
    names: dict[str, Any] = {}
    if model.class_names is not None:
        names = {"class_names": list(checked_class_names(model.class_names, model.num_classes))}
    return {"model": cls.__name__, **module, **names, **to_dict(model.config)}
