"""A model's card: README.md, with front matter that the Hugging Face Hub reads.

It says what the model is, how it was trained, what came out, what it is not good for, its licence, and how to use it,
in code that runs as it stands. What nobody has said, such as a licence, it calls unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.ensemble import OrderEnsemble
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["HERE", "HeldOut", "describe", "with_license", "with_name"]

HERE = "."
"""What a card's code loads beside the weights: the folder that it lies in."""

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_NAMED = re.compile(r"""pixelcnn\.load\((["'])[^"'\n]*\1""")
_FRONT = re.compile(r"\A---\n(.*?\n)?---\n", re.DOTALL)
_TASK = "unconditional-image-generation"  # as the Hub calls it


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How probable held-out images are: the numbers of a card that programs read."""

    data: str
    """What the images are."""
    split: str
    """Which of them: "validation" or "test"."""
    nats_per_subpixel: float
    """Mean negative log-likelihood."""


def describe(
    model: AutoregressiveModel,
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
        license: Of the weights, as the Hub names it: "apache-2.0", "cc-by-4.0", "unknown".
        data_license: A sentence on the licence of the data.
        datasets: Names on the Hub of the data sets that it was trained on.
        held_out: The measurement that the front matter repeats for programs.

    Raises:
        ValueError: If `license` is not of the form of the Hub's names.
    """
    c, h, w = model.image_shape
    kind = type(model).__name__
    parameters = sum(p.numel() for p in model.parameters())
    training = training or "How these weights came about is not recorded."
    results = results or "Nothing was measured."
    sections = [
        _front_matter(model, license, datasets, held_out),
        f"# {kind}, {c}x{h}x{w} images of {model.levels} levels\n",
        f"An exact-likelihood autoregressive model with {parameters:,} parameters (masked weights counted), "
        f"of the library pixelcnn. {_sampling(model)}\n",
        f"## Training\n\n{training.rstrip()}\n",
        f"## Results\n\n{results.rstrip()}\n",
        f"## Use\n\n```python\n{_code(model)}```\n\n"
        "A changed byte in config.json or model.safetensors is noticed when they are loaded.\n",
        f"## Limitations\n\n{_limitations(model)}",
        f"## Licence\n\n{_licensed(license)}{f' {data_license}' if data_license else ''}\n",
    ]
    return "\n".join(sections)


def with_name(card: str, name: str) -> str:
    """A card whose code loads the model by another name: `HERE`, a path, or a name on the Hub."""
    return _NAMED.sub(lambda _: f"pixelcnn.load({json.dumps(name)}", card)


def with_license(card: str, license: str) -> str:
    """A card that states another licence of the weights, in its front matter and in its text.

    Raises:
        ValueError: If it is not of the form of the Hub's names.
    """
    _check_license(license)
    card = re.sub(r"Licence of these weights: [a-z0-9.-]+\.(?=\s)", _licensed(license), card, count=1)
    front = _FRONT.match(card)
    if front is None:
        return f"---\nlicense: {license}\n---\n\n{card}"
    lines = [line for line in (front[1] or "").splitlines() if not line.startswith("license:")]
    return "\n".join(["---", *lines, f"license: {license}", "---", ""]) + card[front.end() :]


def _check_license(license: str) -> None:
    if not _LICENSE.fullmatch(license):
        raise ValueError(f"license must be a licence as the Hub names it, such as apache-2.0, got {license!r}")


def _licensed(license: str) -> str:
    return f"Licence of these weights: {license}."


def _front_matter(model: AutoregressiveModel, license: str, datasets: Sequence[str], held_out: HeldOut | None) -> str:
    """YAML; strings are written as JSON, which is YAML too."""
    _check_license(license)
    lines = [
        "library_name: pixelcnn",
        f"pipeline_tag: {_TASK}",
        "tags: [pixelcnn, autoregressive, density-estimation, exact-likelihood]",
    ]
    if datasets:
        lines.append(f"datasets: {json.dumps(list(datasets))}")
    if held_out is not None:
        slug = re.sub(r"[^a-z0-9]+", "-", held_out.data.lower()).strip("-") or "images"
        image = held_out.nats_per_subpixel * model.subpixels
        bits = held_out.nats_per_subpixel / 0.6931471805599453
        lines += [
            "model-index:",
            f"- name: {type(model).__name__}",
            "  results:",
            f"  - task: {{type: {_TASK}}}",
            f"    dataset: {{type: {json.dumps(slug)}, name: {json.dumps(held_out.data)}, split: {held_out.split}}}",
            "    metrics:",
            f"    - {{type: nats-per-image, name: nats an image, value: {image:.3f}}}",
            f"    - {{type: bits-per-dim, name: bits a sub-pixel, value: {bits:.5f}}}",
        ]
    return "\n".join(["---", *lines, f"license: {license}", "---", ""])


def _sampling(model: AutoregressiveModel) -> str:
    """How many steps an image takes."""
    if isinstance(model, OrderEnsemble):
        return f"It is a mixture over {len(model.config.orders)} scan orders."
    _, h, w = model.image_shape
    steps = schedule_of(model).wavefront.steps
    return (
        f"An image of {h * w} pixels is drawn in {steps} exact steps. `pixelcnn info` shows the layers and the "
        "receptive field."
    )


def _code(model: AutoregressiveModel) -> str:
    c, h, w = model.image_shape
    classes: int | None = getattr(model.config, "num_classes", None)
    vector: int | None = getattr(model.config, "condition_dim", None)
    lines = ["import torch\n\n"] if classes or vector else []
    lines += [
        "import pixelcnn\n\n",
        f"model = pixelcnn.load({json.dumps(HERE)})\n",
        f"images = model.sample(4, seed=0)  # uint8 (4, {c}, {h}, {w}), levels 0..{model.levels - 1}\n",
        "nats = model.log_prob(images)  # exact log-likelihood of each image, (4,)\n",
    ]
    if classes:
        lines.append(f"drawn = model.sample(4, torch.arange(4) % {classes}, seed=0)  # of classes 0..{classes - 1}\n")
    elif vector:
        lines.append(f"drawn = model.sample(4, torch.zeros(4, {vector}), seed=0)  # given a vector each\n")
    return "".join(lines)


def _limitations(model: AutoregressiveModel) -> str:
    c, h, w = model.image_shape
    lines = [
        f"- It knows images of exactly {c}x{h}x{w} and {model.levels} levels.",
        "- A likelihood ranks models on the same data. It does not say how good an image looks, and an image of "
        "another kind can have a higher one than those of the training data.",
        "- Whatever is in the training data, bias and private content included, can show in what is drawn.",
    ]
    if isinstance(model, OrderEnsemble):
        lines.append("- A mixture over scan orders has no likelihood by pixels.")
    return "\n".join(lines) + "\n"
