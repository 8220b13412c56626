"""A readable summary of a model: its layers, its receptive field and its sampling schedule."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixelcnn.arithmetic.precision import default_factories
from pixelcnn.layers import MaskedConv2d, PositionTable, ReparametrisedConv2d
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.ensemble import OrderEnsemble
from pixelcnn.models.mixture import MixtureModel
from pixelcnn.models.symmetrised import Symmetrised
from pixelcnn.operations import Conv, FullView, Operation, Position
from pixelcnn.sampling import why_not_native
from pixelcnn.sampling.graph import why_not_graph
from pixelcnn.sampling.program import RecordingError
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["LayerRow", "layer_rows", "layers_by_block", "receptive_field", "summary"]


_BLOCKS = ("blocks", "layers", "up_u", "up_ul", "down_u", "down_ul", "attention", "terms")


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One masked convolution, position table or embedding, in the order of the forward pass."""

    name: str
    kernel: str
    mask_type: str
    channels: str
    activation: str
    output: str
    parameters: int


class _TracingView(FullView):
    """A full view that records the layers it is asked for."""

    def __init__(self, image: Tensor) -> None:
        super().__init__(image)
        self.seen: list[tuple[MaskedConv2d | PositionTable, tuple[int, ...]]] = []

    def __call__(self, op: Operation, /, *inputs: Tensor | None) -> Tensor:
        y = super().__call__(op, *inputs)
        if isinstance(op, Conv | Position):
            self.seen.append((op.layer if isinstance(op, Conv) else op.table, tuple(y.shape[1:])))
        return y


def layer_rows(model: AutoregressiveModel) -> list[LayerRow]:
    """Every masked convolution and position table, in the order of the forward pass, after the embedding if there is
    one; masked weights are counted.
    """
    _, h, w = model.image_shape
    view = _TracingView(torch.zeros(1, h, w, model.image_features, dtype=model.dtype, device=model.device))
    with torch.inference_mode():
        model.network(view)
    names = {module: name for name, module in model.named_modules()}

    def row(layer: MaskedConv2d | PositionTable, shape: tuple[int, ...]) -> LayerRow:
        if isinstance(layer, PositionTable):
            rows, columns = shape[:2]
            places = f"{rows}x{columns}" if layer.full else f"{rows}+{columns}"
            kernel, mask_type, activation, channels = "-", "-", "-", f"{places} -> {layer.features}"
        else:
            stride = f"/{layer.stride}" if layer.stride > 1 else ""
            kernel, mask_type = f"{layer.window.height}x{layer.window.width}{stride}", layer.mask_type
            activation = {"relu": "ReLU", "none": "-"}[layer.activation]
            channels = f"{layer.in_channels} -> {layer.out_channels}"
        return LayerRow(
            name=names[layer],
            kernel=kernel,
            mask_type=mask_type,
            channels=channels,
            activation=activation,
            output=f"{shape[2]}x{shape[0]}x{shape[1]}",
            parameters=sum(p.numel() for p in layer.parameters()),
        )

    rows = [row(layer, shape) for layer, shape in view.seen]
    if (embedding := model.level_embedding) is not None:
        first = LayerRow(
            name="embedding",
            kernel="-",
            mask_type="-",
            channels=f"{embedding.levels} -> {embedding.features}",
            activation="-",
            output=f"{model.image_features}x{h}x{w}",
            parameters=embedding.weight.numel(),
        )
        rows.insert(0, first)
    return rows


def layers_by_block(model: AutoregressiveModel) -> list[tuple[str, list[LayerRow]]]:
    """The rows of `layer_rows` with the block that they belong to, or an empty string, one block after the other."""

    def block_of(row: LayerRow) -> str:
        parts = row.name.split(".")
        return ".".join(parts[:2]) if parts[0] in _BLOCKS else ""

    return [(block, list(rows)) for block, rows in itertools.groupby(layer_rows(model), block_of)]


def receptive_field(model: AutoregressiveModel) -> Tensor:
    """The pixels around one pixel on which its parameters depend, in an image without borders.

    These are the pixels that the network sees by its convolutions over pixels, without attention and context. They are
    found by differentiating a copy of the network whose kernels are all positive, so that nothing cancels.

    Returns:
        bool (rows, columns); the pixel itself is in the middle of the last row.

    Raises:
        ValueError: If the model is a mixture, whose networks have a field each, or no trained model.
    """
    if isinstance(model, MixtureModel):
        raise ValueError("model must have one scan order; each of the mixture's `networks` has a receptive field")
    if not isinstance(model, AutoregressiveModel):
        raise ValueError(f"model must be a pixelcnn.AutoregressiveModel, got {type(model).__name__}")
    c, config = model.image_shape[0], model.config
    beyond: dict[str, Any] = {"attention": 0, "places": False, "context": (), "embedding": 0}
    config = dataclasses.replace(config, **{name: off for name, off in beyond.items() if hasattr(config, name)})
    windows = [layer.window for layer in model.outline(config).masked_layers]
    reach = sum(max(-window.top, -window.left, window.right) for window in windows)
    config = dataclasses.replace(config, image_shape=(c, reach + 1, 2 * reach + 1))
    with default_factories(), torch.inference_mode(False), torch.enable_grad():
        generator = torch.Generator().manual_seed(0)
        positive = type(model).from_config(config).double()
        for layer in positive.masked_layers:
            if isinstance(layer, ReparametrisedConv2d):
                layer.settle()
            scale = layer.in_channels * max(1, len(layer.taps))  # so that no gate saturates
            torch.nn.init.uniform_(layer.weight, 0.5 / scale, 1.5 / scale, generator=generator)
        image = torch.rand(1, reach + 1, 2 * reach + 1, c, dtype=torch.float64, generator=generator).requires_grad_()
        (gradient,) = torch.autograd.grad(positive.network(FullView(image))[0, reach, reach].sum(), image)
    field = gradient[0].ne(0).any(-1)
    around = field.clone()
    around[reach, reach] = True
    rows, columns = around.nonzero().unbind(1)
    width = int((columns - reach).abs().amax())
    return field[int(rows.amin()) :, reach - width : reach + width + 1]


def summary(model: AutoregressiveModel) -> str:
    """The layer table, receptive field and schedule as text; for a mixture, its parts and then each network.

    Raises:
        ValueError: If the model is no trained model.
    """
    if not isinstance(model, AutoregressiveModel):
        raise ValueError(f"model must be a pixelcnn.AutoregressiveModel, got {type(model).__name__}")
    if isinstance(model, MixtureModel):
        return _mixture(model)
    c, h, w = model.image_shape
    likelihood = type(model.likelihood).__name__
    lines = [
        f"{type(model).__name__}: {c}x{h}x{w} images of {model.levels} levels, {likelihood} likelihood",
        "",
        f"{'layer':<18}{'kernel':<8}{'mask':<6}{'in -> out':<13}{'activation':<12}{'output':<13}{'parameters':>11}",
    ]
    for block, rows in layers_by_block(model):
        if block:
            lines.append(f"{block:<70}{sum(row.parameters for row in rows):>11,}")
        for row in rows:
            name = f"  {row.name.removeprefix(block + '.')}" if block else row.name
            count = f"({row.parameters:,})" if block else f"{row.parameters:,}"
            lines.append(
                f"{name:<18}{row.kernel:<8}{row.mask_type:<6}{row.channels:<13}{row.activation:<12}{row.output:<13}"
                f"{count:>11}"
            )
    total = sum(p.numel() for p in model.parameters())
    lines.append(f"{'total, masked weights counted':<70}{total:>11,}")

    field = receptive_field(model)
    above = len(field) - 1
    lines += [
        "",
        f"receptive field: {int(field.sum())} pixels in {above} rows above and the own row, whatever the image's size",
    ]
    middle = field.shape[1] // 2
    for y, line in enumerate(field.tolist()):
        own = y == above
        marks = ["@" if own and x == middle else "#" if seen else "." for x, seen in enumerate(line)]
        lines.append("    " + "".join(marks[: middle + 1] if own else marks))

    attention: int = getattr(model.config, "attention", 0)
    if attention:
        blocks_of_it = "1 block" if attention == 1 else f"{attention} blocks"
        lines.append(f"and every pixel before the own one, through attention ({blocks_of_it})")

    context: tuple[int, ...] = getattr(model.config, "context", ())
    if context:
        scales = " and ".join(f"1/{scale}" for scale in context)
        lines.append(f"and the picture above, at {scales} of its resolution: at most {6 * max(context)} rows, coarsely")

    try:
        schedule = schedule_of(model)
    except RecordingError as error:
        return "\n".join([*lines, "", f"engine: reference, one forward pass for each sub-pixel: {error}"])
    wavefront = schedule.wavefront
    instead = "of sampling, at most one pixel each" if attention else f"of sampling instead of {h * w} pixels"
    lines += [
        "",
        f"order: {wavefront.steps} pixels one by one, what sees only rows above a row at a time"
        if schedule.rows
        else f"wavefront: slope {wavefront.slope}, {wavefront.steps} steps {instead}",
        f"engine: {_engine(model)}",
    ]
    return "\n".join(lines)


def _mixture(model: MixtureModel) -> str:
    c, h, w = model.image_shape
    lines = [f"{type(model).__name__}: {c}x{h}x{w} images of {model.levels} levels"]
    if isinstance(model, OrderEnsemble):
        config, condition = model.config, ", on which the networks are conditioned"
        lines[0] += f", {len(config.orders)} scan orders{condition if config.order_conditioned else ''}"
        lines += [
            "",
            *(
                f"{order:<18}network {member}, weight {share:.4g}"
                for order, member, share in zip(config.orders, config.members, model.shares, strict=True)
            ),
        ]
    elif isinstance(model, Symmetrised):
        lines[0] += f", {len(model.parts)} elements of {', '.join(model.config.group)}"
    for k, network in enumerate(model.networks):
        assert isinstance(network, AutoregressiveModel)
        lines += ["", f"network {k}", "", summary(network)]
    return "\n".join(lines)


def _engine(model: AutoregressiveModel) -> str:
    if why_not_graph(model) is None:
        return "graph, replayed by the GPU"
    reason = why_not_native(model)
    return "native, compiled for this processor" if reason is None else f"eager, not native: {reason}"
