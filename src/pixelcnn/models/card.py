"""A model's card: README.md, with front matter that the Hugging Face Hub reads.

It says what the model is, how it was trained, what was measured, where its limits are, its licence, and how to use it,
in code that runs as it stands. What was not recorded, such as a licence, it calls unknown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixelcnn.config import OrderEnsembleConfig, SymmetrisedConfig
from pixelcnn.density import DensityModel
from pixelcnn.files import printable
from pixelcnn.levels import array_dtype
from pixelcnn.sampling.program import RecordingError
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["HERE", "HeldOut", "describe", "with_license", "with_name", "without_front_matter"]

HERE = "."
"""The name that a card's code loads when the card lies beside the weights: its own folder."""

_MAX_NAMES = 100  # of classes
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_LOAD = re.compile(r"""pixelcnn\.load\((["'])[^"'\n]*\1""")
_FRONT_MATTER = re.compile(r"\A---\n(.*?\n)?---\n", re.DOTALL)
_LICENSED = re.compile(r"(Licence of these weights: )[a-z0-9.-]+(?=\.\s)")
_TASK = "unconditional-image-generation"  # the Hub's name


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The likelihood of held-out images: a card's numbers that programs read."""

    data: str
    """Name of the images' data set."""
    split: str
    """Its part: "validation" or "test"."""
    nats_per_subpixel: float
    """Mean negative log-likelihood."""


def describe(
    model: DensityModel,
    training: str = "",
    results: str = "",
    *,
    license: str = "unknown",
    data_license: str = "",
    datasets: Sequence[str] = (),
    held_out: HeldOut | None = None,
) -> str:
    """A model's card in Markdown.

    Args:
        model: The model.
        training: How it was trained; without it the card says that this is not recorded.
        results: What was measured.
        license: Licence of the weights, by the Hub's name: "apache-2.0", "cc-by-4.0", "unknown".
        data_license: A sentence on the licence of the data.
        datasets: The Hub's names of the data sets that it was trained on.
        held_out: The measurement that the front matter repeats for programs.

    Raises:
        ValueError: If `license` does not have the form of the Hub's names.
    """
    c, h, w = model.image_shape
    kind = type(model).__name__
    parameters = sum(p.numel() for p in model.parameters())
    training = training or "How these weights were trained is not recorded."
    results = results or "Nothing was measured."
    sections = [
        _front_matter(model, license, datasets, held_out),
        f"# {kind}, {c}x{h}x{w} images of {model.levels} levels\n",
        f"An autoregressive model with exact likelihoods and {parameters:,} parameters (masked weights counted), made "
        f"with the library pixelcnn. {_sampling(model)}{_classes(model)}\n",
        f"## Training\n\n{training.rstrip()}\n",
        f"## Results\n\n{results.rstrip()}\n",
        f"## Use\n\n```python\n{_code(model)}```\n\n"
        "Loading detects any changed byte in config.json or model.safetensors.\n",
        f"## Limitations\n\n{_limitations(model)}",
        f"## Licence\n\nLicence of these weights: {license}.{f' {data_license}' if data_license else ''}\n",
    ]
    return "\n".join(sections)


def with_name(card: str, name: str) -> str:
    """The card with code that loads the model by another name: `HERE`, a path, or a name on the Hub."""
    return _LOAD.sub(lambda _: f"pixelcnn.load({json.dumps(name)}", card)


def with_license(card: str, license: str) -> str:
    """The card with another licence of the weights, in its front matter and in its text; the rest stays as it is.

    Raises:
        ValueError: If it does not have the form of the Hub's names.
    """
    _check_license(license)
    card = _LICENSED.sub(rf"\g<1>{license}", card, count=1)
    front = _FRONT_MATTER.match(card)
    if front is None:
        return f"---\nlicense: {license}\n---\n\n{card}"
    lines = [line for line in (front[1] or "").splitlines() if not line.startswith("license:")]
    return "\n".join(["---", *lines, f"license: {license}", "---", ""]) + card[front.end() :]


def without_front_matter(card: str) -> str:
    """The card's text, for people."""
    return _FRONT_MATTER.sub("", card)


def _check_license(license: str) -> None:
    if not _LICENSE.fullmatch(license):
        raise ValueError(f"license must be a licence by the Hub's name, such as apache-2.0, got {license!r}")


def _front_matter(model: DensityModel, license: str, datasets: Sequence[str], held_out: HeldOut | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    _check_license(license)
    results = []
    if held_out is not None:
        nats = held_out.nats_per_subpixel
        slug = re.sub(r"[^a-z0-9]+", "-", held_out.data.lower()).strip("-") or "images"
        images: dict[str, Any] = {"dataset_type": slug, "dataset_name": held_out.data, "dataset_split": held_out.split}
        for metric, name, value in (
            ("nats-per-image", "nats per image", round(nats * model.subpixels, 3)),
            ("bits-per-dim", "bits per sub-pixel", round(nats / math.log(2), 5)),
        ):
            results.append(EvalResult(_TASK, metric_type=metric, metric_name=name, metric_value=value, **images))
    data = ModelCardData(
        library_name="pixelcnn",
        pipeline_tag=_TASK,
        tags=["pixelcnn", "autoregressive", "density-estimation", "exact-likelihood"],
        datasets=list(datasets) or None,
        license=license,
        model_name=type(model).__name__ if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _sampling(model: DensityModel) -> str:
    """The number of steps that an image takes."""
    if isinstance(model.config, OrderEnsembleConfig):
        return f"It is a mixture over {len(model.config.orders)} scan orders."
    if isinstance(model.config, SymmetrisedConfig):
        return f"It is exactly symmetric: a mixture over all elements of {', '.join(model.config.group)}."
    _, h, w = model.image_shape
    try:
        steps = schedule_of(model).wavefront.steps
    except RecordingError:
        return f"An image is drawn by one full forward pass for each of its {model.subpixels} sub-pixels."
    return (
        f"An image of {h * w} pixels is drawn in {steps} exact steps. `pixelcnn info` shows the layers and the "
        "receptive field."
    )


def _classes(model: DensityModel) -> str:
    """The names of the classes, if they are known and more than their numbers."""
    names: tuple[str, ...] | None = getattr(model, "class_names", None)
    if names is None or all(name == str(k) for k, name in enumerate(names)):
        return ""
    listed = ", ".join(f"{k} {printable(name)}" for k, name in enumerate(names[:_MAX_NAMES]))
    return f" Its classes are {listed}{f' and {len(names) - _MAX_NAMES} more' if len(names) > _MAX_NAMES else ''}."


def _code(model: DensityModel) -> str:
    c, h, w = model.image_shape
    classes, vector = model.num_classes, model.condition_dim
    lines = [
        "import torch\nimport pixelcnn\n\n",
        f"model = pixelcnn.load({json.dumps(HERE)})\n",
        f"images = model.sample(4, seed=0)  # {array_dtype(model.levels)} (4, {c}, {h}, {w}), levels "
        f"0..{model.levels - 1}\n",
        "with torch.inference_mode():\n",
        "    nats = model.log_prob(images)  # exact log-likelihood of each image, (4,)\n",
    ]
    if classes:
        lines.append(f"drawn = model.sample(4, torch.arange(4) % {classes}, seed=0)  # of classes 0..{classes - 1}\n")
    elif vector:
        lines.append(f"drawn = model.sample(4, torch.zeros(4, {vector}), seed=0)  # one vector per image\n")
    return "".join(lines)


def _limitations(model: DensityModel) -> str:
    c, h, w = model.image_shape
    exactly = f"- It models images of exactly {c}x{h}x{w} and {model.levels} levels."
    if getattr(model, "any_size", False):
        exactly = (
            f"- It was trained on images of {c}x{h}x{w} and {model.levels} levels; `resized` takes others of any size."
        )
    lines = [
        exactly,
        "- A likelihood ranks models on the same data. It does not say how good an image looks, and images of another "
        "kind can have higher ones than those of the training data.",
        "- Whatever is in the training data, bias and private content included, can show in samples.",
    ]
    if isinstance(model.config, OrderEnsembleConfig | SymmetrisedConfig):
        lines.append("- A mixture has no likelihood of single pixels.")
    return "\n".join(lines) + "\n"
