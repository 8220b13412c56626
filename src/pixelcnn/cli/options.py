"""Arguments that several commands share, each with its help text, and the checks that go with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pixelcnn import config
from pixelcnn.arguments import integer

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.datasets import Data
    from pixelcnn.models import AutoregressiveModel

__all__ = [
    "ENGINES", "MODEL", "BitDepth", "Condition", "Device", "HeldOut", "Layout", "ModelName", "TestShare", "Threads",
    "check_conditional", "check_limit", "check_other_file", "check_outside", "check_suffix", "checked_classes",
    "class_posteriors", "condition_of", "labels_of", "loaded", "picture_name", "resized", "use_threads",
]  # fmt: skip

_MAX_NAMES = 20  # of classes, in an error
_MAX_SIDE = 2**16  # of images, in pixels
_MAX_THREADS = 1024  # a million of them end PyTorch
MODEL = (
    "A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub, "
    "user/name or user/name@revision."
)
ENGINES = (
    "`fast` is `native` (compiled for this processor) if there is a C compiler, `graph` on CUDA, and "
    "otherwise `eager` (PyTorch)"
)
ModelName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL", help=MODEL)]
Device = Annotated[str, tyro.conf.arg(help="`auto` (CUDA if there is a GPU), `cpu`, `cuda` or `cuda:N`.")]
Threads = Annotated[
    int | None, tyro.conf.arg(help="Number of threads that compute on a CPU; by default as many as cores.")
]
BitDepth = Annotated[
    int | None, tyro.conf.arg(help="Bits per value of pictures stored with more than 8 bits, as for `pixelcnn train`.")
]
Condition = Annotated[
    str | None,
    tyro.conf.arg(
        help="What the images are conditioned on beside a class: `shrink:S`, the images themselves, each S x S pixels "
        "averaged; a folder of pictures with the same names as the images, or a .npy file of maps or vectors in their "
        "order; `labels:PATH`, the same with categories. By default nothing."
    ),
]
HeldOut = Annotated[float, tyro.conf.arg(help="Share of the images in DATA:validation; as in training.")]
TestShare = Annotated[float, tyro.conf.arg(help="Share of the images in DATA:test; as in training.")]
Layout = Annotated[
    config.Layout | None, tyro.conf.arg(help="Meaning of an array's axes, if the model's shape does not determine it.")
]


def loaded(name: str, device: str) -> AutoregressiveModel:
    """The model that MODEL names, on the device that --device names.

    Raises:
        ValueError: If there is no such model or device, or the model is damaged.
    """
    from pixelcnn.devices import device_of
    from pixelcnn.models.base import load

    return load(name).to(device_of(device))


def use_threads(threads: int | None) -> None:
    """Computes with as many threads as --threads says, in this process from now on; None leaves it at what it is.

    Raises:
        ValueError: If it is out of range.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(integer("--threads", threads, 1, _MAX_THREADS))


def resized(model: AutoregressiveModel, size: str | None) -> AutoregressiveModel:
    """The model for images of the size that --size names; the model itself without it.

    Raises:
        ValueError: If that is no size, or the model has its own.
    """
    if size is None:
        return model
    sides = [int(side) for side in size.split("x") if re.fullmatch("[0-9]{1,9}", side)]
    if size.count("x") != 1 or len(sides) != 2 or not all(1 <= side <= _MAX_SIDE for side in sides):
        raise ValueError(f"--size must be a height and a width in 1..{_MAX_SIDE}, as in 48x64, got {size!r}")
    return model.resized((sides[0], sides[1]))


def condition_of(
    spec: str | None,
    model: AutoregressiveModel,
    name: str,
    images: Tensor,
    names: Sequence[str],
    total: int | None = None,
) -> Tensor | None:
    """What --condition says of images, which the model called `name` must be conditional on; None without it.

    Raises:
        ValueError: If it does not fit the images or the model.
    """
    if spec is None:
        return None
    from pixelcnn.datasets import read_condition

    check_conditional(model, name, spec)
    colour = model.conditions.numbers == 3
    found = read_condition(spec, images, model.levels, names, total, colour=colour)
    return model.conditions.checked_condition(found, len(images), "--condition")


def labels_of(model: AutoregressiveModel, data: Data) -> tuple[Tensor | None, tuple[str, ...]]:
    """The labels of data as the model's classes, None without any, and the names of these classes.

    Where data and model have the same names, perhaps in another order, the names decide; otherwise the numbers.
    """
    import torch

    own, given = model.class_names or (), data.classes or ()
    if data.labels is None or own == given or sorted(own) != sorted(given):
        return data.labels, given
    return torch.tensor([own.index(name) for name in given], device="cpu")[data.labels], own


def check_conditional(model: AutoregressiveModel, name: str, spec: str) -> None:
    """Raises ValueError if the model called `name` is not conditional on a vector or a map."""
    if model.conditions.size is None and not model.conditions.channels:
        raise ValueError(f"--condition must be left out, got {spec}: {name} is not conditional on a vector or a map")
    categories = model.conditions.categories > 0
    if spec.startswith("labels:") != categories:
        kind = "categories, as in labels:PATH" if categories else "numbers, without labels:"
        raise ValueError(f"--condition must name {kind}, on which {name} is conditional, got {spec}")


def check_limit(images: int | None) -> None:
    """Raises ValueError if --images is below 1."""
    if images is not None and images < 1:
        raise ValueError(f"--images must be at least 1, got {images}")


def picture_name(index: int, last: int) -> str:
    """The file name of a picture, with as many digits as the last one needs, at least five."""
    return f"{index:0{max(5, len(str(last)))}d}.png"


def check_suffix(argument: str, path: Path, *suffixes: str) -> None:
    """Raises ValueError unless a file's name ends in one of the suffixes, or it is a device or pipe of any name."""
    from pixelcnn.files import is_special_file

    if path.suffix.lower() not in suffixes and not is_special_file(path):
        raise ValueError(f"{argument} must end in {' or '.join(suffixes)}, got {str(path)!r}")


def check_other_file(argument: str, path: Path | None, *inputs: str | Path | None) -> None:
    """Raises ValueError if the file that `argument` names for writing is one of the inputs, perhaps named with a split,
    and would replace it.
    """
    from pixelcnn.datasets import path_of
    from pixelcnn.files import is_special_file

    if path is None or is_special_file(path) or not path.exists():
        return
    for source in (path_of(str(each)) for each in inputs if each is not None):
        if source is not None and source.is_file() and path.samefile(source):
            raise ValueError(f"{argument} must not be {source}, which is read and would be replaced")


def check_outside(argument: str, path: Path, data: str) -> None:
    """Raises ValueError if a path for writing lies in a folder of data, which would then hold other pictures too."""
    from pixelcnn.datasets import path_of

    source, written = path_of(data), path.resolve()
    if source is not None and source.is_dir() and source.resolve() in (written, *written.parents):
        raise ValueError(f"{argument} must lie outside {source}, whose files are read, got {str(path)!r}")


def checked_classes(model: AutoregressiveModel, name: str, label: Sequence[str]) -> tuple[int, ...]:
    """The classes that --label lists, by their numbers or names; `all` alone is every class.

    Raises:
        ValueError: If the model called `name` does not have them.
    """
    classes = model.num_classes
    if classes is None:
        raise ValueError(f"--label must be left out, got {' '.join(label)}: {name} has no classes")
    if not label:
        raise ValueError("--label must be followed by classes, or all, got none")
    if tuple(label) == ("all",):
        return tuple(range(classes))
    names = model.class_names or ()
    found = []
    for each in label:
        number = names.index(each) if each in names else int(each) if re.fullmatch("[0-9]{1,9}", each) else classes
        if number >= classes:
            known = f" or one of {', '.join(names[:_MAX_NAMES])}{', ...' * (len(names) > _MAX_NAMES)}" if names else ""
            raise ValueError(f"--label must be in 0..{classes - 1}{known}, got {each}")
        found.append(number)
    return tuple(found)


def class_posteriors(model: AutoregressiveModel, images: Tensor, condition: Tensor | None, description: str) -> Tensor:
    """Posterior probabilities of the classes given --condition, (N, classes) on the CPU, with a progress bar."""
    import torch

    from pixelcnn.progress import progress_bar

    parts = []
    with torch.inference_mode(), progress_bar(description, len(images), "img", show=True) as bar:
        for start in range(0, len(images), 256):
            part = images[start : start + 256].to(model.device)
            given = None if condition is None else condition[start : start + 256]
            parts.append(model.classify(part, condition=given).exp().cpu())
            bar.update(len(part))
    return torch.cat(parts)
