"""The network of the Keras example as a list of convolutions, and its conversion to `pixelcnn.PixelCNN` and back.

    7x7, 1 -> f;   for each block: 1x1, f -> f;  3x3, f -> f // 2;  1x1, f // 2 -> f;   twice 1x1, f -> f;   1x1, f -> 1

Keras stores a kernel as (height, width, in, out) and a bias as (out,). The width f and the number of blocks follow from
the shapes; then every tensor must have the network's shape. Tensors that were exchanged are noticed only where their
shapes differ.

The example masks its kernels by assigning to them in the forward pass, so weights saved after a training step have
masked entries that are not zero. They are set to zero, as the example's next forward pass would do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pixelcnn.density import checked_model
from pixelcnn.models import PixelCNN
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.sampling.autoregressive import check_weights

__all__ = [
    "Converted", "Convolution", "KerasFileError", "Weights", "check_network", "check_size", "from_keras", "layers",
    "paired", "to_keras",
]  # fmt: skip

Shape = tuple[int, ...]
_MAX_BYTES = 2**31  # of all tensors; the example's network has 2 MB


class KerasFileError(ValueError):
    """A file that is damaged or not of the example's network.

    Every reader in this package raises it; `pixelcnn.keras.read_weights` puts the file's name before the message.
    """


@dataclass(frozen=True)
class Convolution:
    """A convolution's tensors."""

    name: str
    """Its name in the file."""
    kernel: np.ndarray
    """(height, width, in, out)."""
    bias: np.ndarray
    """(out,)."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The content of a file of the example's network."""

    format: str
    """The file's format, in words."""
    convolutions: Sequence[Convolution]
    """In the network's order."""
    size: tuple[int, int] | None
    """Height and width of the images, if the file states them."""
    verified: bool = False
    """Whether the format has checksums, which were then verified."""

    @property
    def filters(self) -> int:
        """Features of each layer."""
        return int(self.convolutions[0].kernel.shape[3])

    @property
    def blocks(self) -> int:
        """Number of residual blocks."""
        return (len(self.convolutions) - 4) // 3


@dataclass(frozen=True)
class Converted:
    """A model made of Keras's weights, and what was masked on the way."""

    model: PixelCNN
    remasked: int
    """Number of masked entries that were not zero."""
    largest: float
    """The largest absolute value among them; 0 if there are none."""


def from_keras(weights: Weights, size: tuple[int, int]) -> Converted:
    """The model with these weights, in evaluation mode, float32 or float64 as they are.

    Args:
        weights: What `pixelcnn.keras.read_weights` returned.
        size: Height and width of the images.

    Raises:
        ValueError: If the images' or the network's size is out of range.
    """
    model = PixelCNN((1, *size), filters=weights.filters, blocks=weights.blocks)
    model.to(torch.from_numpy(weights.convolutions[0].bias).dtype)
    remasked, largest = 0, 0.0
    with torch.no_grad():
        for layer, conv in zip(model.masked_layers, weights.convolutions, strict=True):
            layer.weight.copy_(torch.from_numpy(conv.kernel.transpose(3, 2, 0, 1)))
            layer.bias.copy_(torch.from_numpy(conv.bias))
            masked = layer.weight[layer.mask == 0].abs()
            if masked.any():
                remasked += int(masked.count_nonzero())
                largest = max(largest, float(masked.max()))
            layer.weight.mul_(layer.mask)
    return Converted(model.eval(), remasked, largest)


def to_keras(model: AutoregressiveModel) -> Weights:
    """A model's weights in Keras's layout, masked, for `pixelcnn.keras.hdf5.write_weights`; float16 and bfloat16 become
    float32.

    Raises:
        ValueError: If the example has no such network (a `PixelCNN` for images of one channel and two levels, without
            an embedding), or a weight is not finite.
    """
    model = checked_model(model)
    if (
        not isinstance(model, PixelCNN)
        or model.image_shape[0] != 1
        or model.levels != 2
        or model.level_embedding is not None
    ):
        c, h, w = model.image_shape
        embedding = "" if model.level_embedding is None else ", with an embedding,"
        raise ValueError(
            "the Keras example's network is a PixelCNN for images of 1 channel and 2 levels, got "
            f"one of class {type(model).__name__}{embedding} for images of {c} x {h} x {w} and {model.levels} levels"
        )
    check_weights(model.named_parameters())
    convolutions, dtype = [], torch.promote_types(model.dtype, torch.float32)
    for name, layer in zip(layers(model.config.filters, model.config.blocks), model.masked_layers, strict=True):
        kernel, bias = (x.detach().to("cpu", dtype).numpy() for x in (layer.weight * layer.mask, layer.bias))
        convolutions.append(Convolution(name, np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias))
    return Weights(format="pixelcnn", convolutions=convolutions, size=(model.image_shape[1], model.image_shape[2]))


def layers(filters: int, blocks: int) -> dict[str, Shape]:
    """The shape of each kernel by the layer's name in `pixelcnn.PixelCNN`, in the network's order."""
    block = {"conv1": (1, 1, filters, filters), "masked": (3, 3, filters, filters // 2)}
    block["conv2"] = (1, 1, filters // 2, filters)
    inner = {f"blocks.{k}.{part}": shape for k in range(blocks) for part, shape in block.items()}
    head = {f"head.{k}": (1, 1, filters, filters) for k in range(2)}
    return {"input": (7, 7, 1, filters), **inner, **head, "output": (1, 1, filters, 1)}


def paired(tensors: Iterable[tuple[str, np.ndarray]]) -> list[Convolution]:
    """Convolutions from named tensors that are alternately a kernel and its bias."""
    listed: list[tuple[str, np.ndarray]] = []
    size = 0
    for name, tensor in tensors:  # several names may stand for the same bytes of a file
        size += tensor.nbytes
        if size > _MAX_BYTES:
            raise KerasFileError(f"not the example's network: up to {name}, its tensors have {size:,} bytes")
        listed.append((name, tensor))
    if len(listed) % 2:
        raise KerasFileError(f"not the example's network: it has {len(listed)} tensors, an odd number")
    pairs = zip(listed[::2], listed[1::2], strict=True)
    return [Convolution(name, kernel, bias) for (name, kernel), (_, bias) in pairs]


def check_network(convolutions: Sequence[Convolution]) -> None:
    """Checks that these are the example's network, layer by layer."""
    if (n := len(convolutions)) < 4 or (n - 4) % 3:
        raise KerasFileError(f"not the example's network: it has {n} convolutions, which is not 4 and 3 per block")
    filters = int(convolutions[0].kernel.size) // 49
    for conv, shape in zip(convolutions, layers(filters, (n - 4) // 3).values(), strict=True):
        for kind, tensor, expected in (("kernel", conv.kernel, shape), ("bias", conv.bias, shape[3:])):
            if tensor.shape != expected:
                raise KerasFileError(f"the {kind} of {conv.name} must have shape {expected}, got {tensor.shape}")
            if not np.isfinite(tensor).all():
                raise KerasFileError(f"the {kind} of {conv.name} holds values that are not finite")
    types = {str(tensor.dtype) for conv in convolutions for tensor in (conv.kernel, conv.bias)}
    if types not in ({"float32"}, {"float64"}):
        raise KerasFileError(f"weights must all be float32 or all float64, got {', '.join(sorted(types))}")


def check_size(shape: Shape, itemsize: int, name: str) -> None:
    """Checks, before a tensor is read, that its size is plausible."""
    if math.prod(shape) * itemsize > _MAX_BYTES:
        raise KerasFileError(f"not the example's network: {name} has shape {shape}")
