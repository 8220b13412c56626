"""Data sources by name, as the command line and the trainer know them.

    mnist, mnist:SPLIT          the data set inside the package (`.mnist`)
    mnist-dynamic, or with :SPLIT   the same in black and white, each pixel white with probability grey / 255, drawn
                                anew in each epoch of training and once and for all elsewhere (`.mnist.drawn_mnist`)
    FOLDER                      pictures; sub-folders are classes (`.folder`, `.pictures`)
    FILE.npy, FILE.npz          integer arrays (`.arrays`)
    cifar-10-batches-bin, or cifar-10-binary.tar.gz     CIFAR-10's binary version (`.cifar`)
    hf:NAME, hf:NAME@CONFIG     the `datasets` library (`.hub`)

All but MNIST are decoded once into a memory-mapped cache (`.cache`) and may be followed by `:train`, `:validation` or
`:test`. Where the data have no such splits, the content of each image decides (`.split`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelcnn.config import DataConfig
from pixelcnn.datasets.arrays import ArraySource
from pixelcnn.datasets.cache import Cache, Source, content_remarks, open_cache
from pixelcnn.datasets.cifar import CIFAR10Source, is_cifar10
from pixelcnn.datasets.folder import FolderSource
from pixelcnn.datasets.hub import HubSource
from pixelcnn.datasets.mnist import SPLITS, drawn_mnist, mnist
from pixelcnn.datasets.patches import Patches, open_pictures
from pixelcnn.datasets.picture_source import PictureSource
from pixelcnn.datasets.pictures import SUFFIXES, check_channels
from pixelcnn.datasets.split import SIDES
from pixelcnn.files import printable
from pixelcnn.levels import GREY_LEVELS, checked_levels
from pixelcnn.processes import own_rank

__all__ = [
    "Data",
    "TrainingData",
    "name_of",
    "open_data",
    "open_for_model",
    "open_split",
    "open_training",
    "path_of",
    "refuse_options",
    "warn_of",
]

_MNIST, _DYNAMIC = "mnist", "mnist-dynamic"
_DIGITS = tuple(map(str, range(10)))
_KNOWN = (
    f"{_MNIST} or {_DYNAMIC}, perhaps with :SPLIT, one of {', '.join(SPLITS)}; a folder of pictures; a .npy or .npz "
    "file; CIFAR-10's binary version; hf:NAME"
)
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_LENIENT = ("size", "channels", "crop", "strict", "held_out", "test")  # may be given to any source outside training


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training run needs of its data."""

    training: Tensor | Patches
    """Levels (N, C, H, W), uint8, or int32 above 256 of them; grey values if `binarise`. Or patches that are drawn anew
    in each epoch."""
    validation: Tensor
    """Images of the same kind that are not trained on."""
    training_labels: Tensor | None
    """int64 (N,), for data with classes."""
    validation_labels: Tensor | None
    """The same for the validation images."""
    classes: tuple[str, ...] | None
    """Names of the classes, in the order of the labels."""
    levels: int
    """Levels of a sub-pixel, 2..65,536."""
    description: str
    """The data in one line, without a path, for a run's record and a model's card."""
    summary: str = ""
    """What was found in the data, in one line to be read before training: numbers, shape, levels, classes."""
    training_names: Callable[[], list[str]]
    """Returns the names of the training images, see `Data`."""
    validation_names: Callable[[], list[str]]
    """The same for the validation images."""
    total: int | None = None
    """See `Data`."""
    binarise: bool = False
    """Whether the training images are grey values, 0..255, to be drawn as black or white anew in each epoch
    (`TrainConfig.binarise`); the validation images are binary already."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.training.shape[1:]
        return channels, height, width


@dataclass(frozen=True, kw_only=True)
class Data:
    """Images of a source or of one of its splits."""

    images: Tensor
    """Levels (N, C, H, W), uint8, or int32 above 256 of them."""
    labels: Tensor | None
    """int64 (N,), for data with classes."""
    classes: tuple[str, ...] | None
    """Names of the classes, in the order of the labels."""
    levels: int
    """Levels of a sub-pixel, 2..65,536."""
    names: Callable[[], list[str]]
    """Returns each image's name in its source: its file, with #k for patch k, or its index in an array."""
    total: int | None = None
    """Number of images that the indices of an array, or of MNIST, count: of all its splits, unless one was named."""


def open_training(
    data: str, protocol: str, levels: int | None, config: DataConfig | None = None, *, progress: bool = True
) -> TrainingData:
    """The training and the validation images of a data source.

    Args:
        data: A source that the docstring of `pixelcnn.datasets.sources` lists, without a split.
        protocol: The splits of MNIST, see `pixelcnn.datasets.mnist`: `clean` is `train` and `validation`, `seed` is
            `seed-train` and `seed-validation`. Without effect on other data.
        levels: Levels to quantise pictures to; arrays must keep to them. None for the data's own: 256 for pictures, the
            largest value plus one for arrays, 2 for MNIST as everywhere in this package.
        config: How images are read and held out; by default `DataConfig()`.
        progress: Show a bar, and where the cache is, on standard error.

    Returns:
        The images; those of all sources but MNIST are mapped from a file and read when they are used.

    Warns:
        UserWarning: If pictures are skipped, files or frames left out, values of more than 8 bits cut, or all images
            have a single level or are nearly black.

    Raises:
        ValueError: If the source is unknown or names a split, an option does not apply to it, its data are refused, or
            no image is left for training or for validation.
        OSError: If a file cannot be read, or the cache cannot be written.
    """
    config = config or DataConfig()
    levels = None if levels is None else checked_levels(levels)
    if protocol not in ("clean", "seed"):
        raise ValueError(f"protocol must be clean or seed, got {protocol!r}")
    name, split = _parse(data)
    if split is not None:
        decided = "--protocol" if name in (_MNIST, _DYNAMIC) else "--held-out"
        raise ValueError(f"training takes its splits from {decided}, so DATA has none, got {data!r}")
    if name in (_MNIST, _DYNAMIC):
        refuse_options(name, config, ())
        prefix, dynamic = "seed-" if protocol == "seed" else "", name == _DYNAMIC
        validation = _mnist_data(name, f"{prefix}validation", levels)
        training = _mnist_data(_MNIST, f"{prefix}train", GREY_LEVELS if dynamic else levels)
        values = f"0..{validation.levels - 1} of {validation.levels}" + (
            ", drawn anew in each epoch" if dynamic else ""
        )
        counts = (len(training.images), len(validation.images), 0)
        training = replace(training, total=sum(counts))
        validation = replace(validation, names=_numbers(len(validation.images), len(training.images)))
        return _training_data(
            training, validation, name=name, counts=counts, values=values, description=name, binarise=dynamic
        )
    if config.patch is not None:
        return _patches(name, levels, config, progress=progress)
    source = _source(name, levels, config)
    refuse_options(source.name, config, source.fields)
    cache = open_cache(source, config.held_out, config.test, progress=progress)
    record = cache.record
    content = content_remarks(record.lowest, record.highest, record.levels, pictures=source.has_pictures)
    warn_of(source, [*source.notices(), *cache.remarks(), *content], stacklevel=3)
    constant = f", {record.constant:,} images of one level throughout" if record.constant else ""
    training, validation = (_side(cache, side, config) for side in SIDES[:2])
    return _training_data(
        training,
        validation,
        name=source.name,
        counts=record.counts,
        values=f"{record.lowest}..{record.highest} of {record.levels}{constant}",
        description=_description(source, cache, config),
    )


def open_data(
    data: str,
    levels: int | None,
    default: str = "test",
    config: DataConfig | None = None,
    *,
    image_shape: tuple[int, int, int] | None = None,
    progress: bool = True,
) -> Data:
    """The images of a data source, or of one of its splits.

    Args:
        data: A source that the docstring of `pixelcnn.datasets.sources` lists.
        levels: As for `open_training`; to use the images with a model, the model's.
        default: The split of MNIST and CIFAR-10 if none is named. Of other data all images are opened then.
        config: As for `open_training`. For a split of a source without splits, held_out and test must be what they were
            in training, or smaller.
        image_shape: The model's, as for `open_for_model`, which also says how pictures come to have it; None for any.
        progress: Show a bar, and where the cache is, on standard error.

    Warns:
        UserWarning: If pictures are skipped, files or frames left out, or values of more than 8 bits cut.

    Raises:
        ValueError: If the source or its split is unknown, bit_depth or layout do not apply to it, `config` has a patch,
            the data are refused, or the split is empty.
        OSError: If a file cannot be read, or the cache cannot be written.
    """
    config = config or DataConfig()
    if config.patch is not None:
        raise ValueError(f"patch must be None outside training, got {config.patch}")
    levels = None if levels is None else checked_levels(levels)
    name, split = _parse(data)
    if name in (_MNIST, _DYNAMIC):
        refuse_options(name, config, _LENIENT)
        return _mnist_data(name, split or default, levels)
    if split is not None and split not in SIDES:
        raise ValueError(f"split must be one of {', '.join(SIDES)}, got {split!r}")
    source = _source(name, levels, config, image_shape)
    refuse_options(source.name, config, (*_LENIENT, *source.fields))
    if source.has_pictures and image_shape is not None:
        check_channels(data, image_shape[0])
    if isinstance(source, ArraySource) and split is None and (mapped := source.in_place()) is not None:
        levels = levels or max(2, int(mapped.amax()) + 1)
        return Data(
            images=mapped, labels=None, classes=None, levels=levels, names=_numbers(len(mapped)), total=len(mapped)
        )
    cache = open_cache(source, config.held_out, config.test, progress=progress)
    level = 3 if image_shape is None else 4  # called by `open_for_model`
    warn_of(source, [*source.notices(), *cache.remarks()], stacklevel=level)
    return _side(cache, split or (default if source.is_split else None), config)


def open_for_model(
    data: str, image_shape: tuple[int, int, int], levels: int, *, progress: bool = True, **options: Any
) -> Data:
    """The images of a data source, or of one of its splits, in the form that a model takes.

    Pictures are brought to its size and channels, and its shape decides what the axes of arrays are.

    Args:
        data: As for `open_data`; mnist means mnist:test.
        image_shape: The model's channels, height and width.
        levels: The model's.
        progress: As for `open_data`.
        options: Fields of `DataConfig` except size and channels.

    Warns:
        UserWarning: As `open_data`.

    Raises:
        ValueError: As `open_data`; and if an array has images of another shape, or pictures cannot have its channels.
        OSError: As `open_data`.
    """
    channels, height, width = image_shape
    config = DataConfig(size=(height, width), channels=1 if channels == 1 else 3, **options)
    return open_data(data, levels, config=config, image_shape=image_shape, progress=progress)


def open_split(
    data: str, levels: int | None, default: str = "test", config: DataConfig | None = None, *, progress: bool = True
) -> tuple[Tensor, Tensor | None]:
    """The images of a data source, levels (N, C, H, W), and their labels, int64 (N,), or None without classes.

    Arguments, warnings and errors as for `open_data`.
    """
    opened = open_data(data, levels, default, config, progress=progress)
    return opened.images, opened.labels


def name_of(data: str) -> str:
    """A short name for a data source, fit for a file name: `photos` for /home/me/photos/, `codes` for codes.npz."""
    name, _ = _parse(data)
    if name.startswith("hf:"):
        return name.rpartition("/")[2].removeprefix("hf:").replace("@", "-")
    path = Path(name)
    if path.suffix.lower() in (".npy", ".npz"):
        return path.stem
    return path.resolve().name.removesuffix(".gz").removesuffix(".tar")


def path_of(data: str) -> Path | None:
    """The file or folder of a data source; None for published data."""
    name, _ = _parse(data)
    return None if name in ("", _MNIST, _DYNAMIC) or name.startswith("hf:") else Path(name)


def _patches(name: str, levels: int | None, config: DataConfig, *, progress: bool) -> TrainingData:
    """Patches of a folder's pictures, drawn anew in each epoch; those of validation are always the same."""
    folder = Path(name)
    if not folder.is_dir() or is_cifar10(folder):
        raise ValueError(f"patch is for folders of pictures, got {config.patch} and {name}")
    assert config.patch is not None
    refuse_options(name, config, PictureSource.fields)
    source = FolderSource(folder, levels, config)
    store = open_pictures(source, progress=progress)
    warn_of(source, [*source.notices(), *store.remarks], stacklevel=4)
    training, held_out = (store.patches(side, config.patch) for side in (0, 1))
    pictures = [store.sides.count(side) for side in (0, 1)]
    for side, count, patches in zip(SIDES, pictures, (training, held_out), strict=False):
        if not len(patches):
            raise ValueError(
                f"{source.name} has no {side} pictures: held_out = {config.held_out:g} leaves {count} of its "
                f"{len(store.sizes)}, by the hash of their content; try another held_out, or more pictures"
            )
    validation, size = held_out.tiles(), config.patch
    about = f"patches of {size} x {size} from {pictures[0]:,} pictures"
    labels = held_out.labels
    return TrainingData(
        training=training,
        validation=validation,
        training_labels=training.labels,
        validation_labels=None if labels is None else labels[held_out.tiled],
        classes=store.classes,
        levels=source.levels,
        description=f"{_on_one_line(source.name)} ({len(training):,} {about} in each epoch)",
        summary=f"{printable(source.name)}: {len(training):,} {about}, drawn anew in each epoch; for validation "
        f"{len(validation):,} of {pictures[1]:,} others",
        training_names=training.names,
        validation_names=lambda: [held_out.names()[k] for k in held_out.tiled.tolist()],
    )


def _training_data(
    training: Data,
    validation: Data,
    *,
    name: str,
    counts: tuple[int, int, int],
    values: str,
    description: str,
    binarise: bool = False,
) -> TrainingData:
    sides = zip(counts, ("training", "validation", "test"), strict=True)
    numbers = ", ".join(f"{count:,} for {side}" for count, side in sides if count)
    shape = " x ".join(map(str, training.images.shape[1:]))
    classed = "" if training.classes is None else f"; {len(training.classes)} classes"
    return TrainingData(
        training=training.images,
        validation=validation.images,
        training_labels=training.labels,
        validation_labels=validation.labels,
        classes=validation.classes,
        levels=validation.levels,
        description=description,
        summary=f"{printable(name)}: images: {numbers}; {shape} (channels, height, width); levels {values}{classed}",
        training_names=training.names,
        validation_names=validation.names,
        total=training.total,
        binarise=binarise,
    )


def _side(cache: Cache, side: str | None, config: DataConfig) -> Data:
    """A side of a cache, or all of its images; `config` is named if the side is empty."""
    record, part = cache.record, cache.side(side)
    if part.start == part.stop:
        share = "test" if side == "test" else "held_out"
        side, advice = ("training", "smaller") if side == "train" else (side, "larger")
        raise ValueError(
            f"{record.source} has no {side} images: {share} = {getattr(config, share):g} leaves none of its "
            f"{sum(record.counts)}, by the hash of their content; try a {advice} {share}, or more images"
        )
    return Data(
        images=cache.images[part],
        labels=None if cache.labels is None else cache.labels[part],
        classes=record.classes,
        levels=record.levels,
        names=lambda: cache.names(side),
        total=sum(record.counts),
    )


def _mnist_data(name: str, split: str, levels: int | None) -> Data:
    if name == _DYNAMIC and levels not in (None, 2):
        raise ValueError(f"levels must be 2 for {name}, got {levels}")
    images, digits = drawn_mnist(split) if name == _DYNAMIC else mnist(split, levels or 2)
    count = len(images)
    return Data(images=images, labels=digits, classes=_DIGITS, levels=levels or 2, names=_numbers(count), total=count)


def _numbers(n: int, first: int = 0) -> Callable[[], list[str]]:
    return lambda: list(map(str, range(first, first + n)))


def _parse(data: str) -> tuple[str, str | None]:
    """The source and the split, if one is named."""
    prefix, _, rest = data.partition(":")
    if prefix == "hf":
        name, _, split = rest.partition(":")
        return f"hf:{name}", split or None
    if prefix in (_MNIST, _DYNAMIC):
        return prefix, rest or None
    if Path(data).exists():
        return data, None
    name, _, split = data.rpartition(":")
    return (name, split) if name and Path(name).exists() else (data, None)


def _source(
    name: str, levels: int | None, config: DataConfig, image_shape: tuple[int, int, int] | None = None
) -> Source:
    if name.startswith("hf:"):
        return HubSource(name.removeprefix("hf:"), levels, config)
    path = Path(name)
    if not name or not path.exists():
        raise ValueError(f"unknown data {name!r}; known: {_KNOWN}; and there is no such file or folder")
    if is_cifar10(path):
        return CIFAR10Source(path, levels)
    if path.is_dir():
        return FolderSource(path, levels, config)
    if path.suffix.lower() in (".npy", ".npz"):
        return ArraySource(path, levels, config.layout, image_shape)
    if path.suffix.lower() in SUFFIXES:
        raise ValueError(f"data must be a folder of pictures, got the picture {name!r}: put it into a folder")
    if path.suffix.lower() in _ARCHIVES:
        raise ValueError(f"data are not read from the archive {name!r}: unpack it, and give the folder")
    raise ValueError(f"unknown data {name!r}; known: {_KNOWN}; and it is a file of none of these kinds")


def refuse_options(name: str, config: DataConfig, allowed: tuple[str, ...]) -> None:
    """Raises ValueError if a field of a configuration that does not apply to a source is not at its default."""
    for field in fields(DataConfig):
        value = getattr(config, field.name)
        if field.name not in allowed and value != field.default:
            why = "which is no array" if field.name == "layout" else "which is taken as it is"
            raise ValueError(f"{field.name} must be left out for {name}, {why}, got {value!r}")


def warn_of(source: Source, remarks: list[str], stacklevel: int) -> None:
    """Warns of what was found in a source."""
    if own_rank().rank == 0:  # the first of several processes warns for all
        for remark in remarks:
            warnings.warn(printable(f"{source.name}: {remark}"), stacklevel=stacklevel)


def _description(source: Source, cache: Cache, config: DataConfig) -> str:
    record = cache.record
    what = [f"{record.counts[0]:,} images for training and {record.counts[1]:,} for validation"]
    if source.has_pictures and config.crop == "patches":
        what.append("patches of pictures")
    if not source.is_split:
        shares = f"held out: {config.held_out:g}" + (f", test: {config.test:g}" if config.test else "")
        what.append(f"{shares}, by hash of the content")
    if record.skipped:
        what.append(f"skipped: {record.skipped:,}")
    return f"{_on_one_line(source.name)} ({'; '.join(what)})"


def _on_one_line(name: str) -> str:
    return printable(" ".join(name.split()))
