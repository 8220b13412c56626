"""The models of the contract: sizes, variants, and which shapes each of them goes through."""

import itertools

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.models import MODELS
from pixelcnn.sampling import why_not_native

SIZES = {  # small enough for thousands of passes
    "PixelCNN": {"filters": 13, "blocks": 2},  # colour groups of unequal size
    "GatedPixelCNN": {"filters": 12, "layers": 3, "num_classes": 4},
    "PixelCNNPlusPlus": {"filters": 5, "blocks": 1, "mixtures": 3, "num_classes": 4},
    "PhotoPixelCNN": {"filters": 5, "blocks": 1, "mixtures": 2, "first_kernel": 5, "linear_kernel": 3},
}
ATTENTION = {"attention": 2, "attention_heads": 2, "attention_size": 3}
FIELDS = {  # what a pixel sees, by option
    "kernels": {"first_kernel": 5, "kernel_size": (5, 3)},
    "places": {"places": True},
    "context": {"context": (4,)},
    "everything": {"first_kernel": 5, "kernel_size": (1, 5), "places": True, "context": (3, 2)} | ATTENTION,
}
WITH_ATTENTION = {
    "GatedPixelCNN with attention": SIZES["GatedPixelCNN"] | ATTENTION,
    "PixelCNNPlusPlus with attention": SIZES["PixelCNNPlusPlus"] | ATTENTION | {"attention_heads": 1},
}
VARIANTS = WITH_ATTENTION | {  # a model's name, and what it is with: through fewer shapes
    f"{name} with {option}": SIZES[name] | fields
    for name in ("GatedPixelCNN", "PixelCNNPlusPlus")
    for option, fields in FIELDS.items()
}
VARIANTS["GatedPixelCNN with narrow kernels"] = SIZES["GatedPixelCNN"] | {"first_kernel": 3, "kernel_size": 1}
EVERY = SIZES | VARIANTS

LEVELS = (2, 3, 256)
CHANNELS = (1, 3)
SHAPES = ((5, 5), (1, 7), (7, 1), (4, 9), (3, 2))
ODD = ((2, 1, (4, 5)), (3, 1, (1, 7)), (256, 1, (7, 1)), (2, 1, (6, 9)), (2, 3, (3, 4)), (3, 3, (1, 4)))
ALWAYS = {2: ((5, 5), (1, 7), (7, 1)), 3: ((3, 2),), 256: ((1, 7), (3, 2)), ("PhotoPixelCNN", 2): ((4, 9),)}
"""Shapes that `make test` goes through for images of so many levels; `make test-long` goes through the others, too."""
CASES = [
    pytest.param(
        *(name, (c, *shape), levels),
        id=f"{name}-{c}x{shape[0]}x{shape[1]}-{levels}",
        marks=[] if always else [pytest.mark.slow if name in VARIANTS else pytest.mark.long],
    )
    for name, levels, c, shape, always in [
        *(
            (*case, shape, shape in ALWAYS.get((case[0], case[1]), ALWAYS[case[1]]))
            for case in itertools.product(SIZES, LEVELS, CHANNELS)
            for shape in SHAPES
        ),
        *((name, *case, case in ODD[::2] or name.endswith("everything")) for name in VARIANTS for case in ODD),
    ]
]
TINY = [
    pytest.param(name, shape, levels, id=f"{name}-{'x'.join(map(str, shape))}-{levels}")
    for name in EVERY
    for shape, levels in (((1, 2, 3), 2), ((3, 1, 2), 2), ((1, 2, 2), 3), ((2, 2, 1), 3), ((1, 1, 1), 7))
    if name in SIZES or levels == 2
]


def build(name, shape, levels, dtype=torch.float64):
    """A model whose weights are large enough for the probabilities to be far from uniform."""
    generator = torch.Generator().manual_seed(1)
    model = MODELS[name.split()[0]](image_shape=shape, levels=levels, **EVERY[name], generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        for name_of, parameter in model.named_parameters():
            if name_of.startswith("terms.") and "condition" not in name_of:
                parameter.mul_(0.2)
        for layer in model.masked_layers:
            if layer.activation == "relu":
                layer.bias.add_(0.3)  # few are off
            elif name == "PixelCNN":
                layer.weight.mul_(0.3)
        if name == "PhotoPixelCNN":  # it is made for small differences, and begins sure of its prediction
            model.input.weight.mul_(0.1)
            model.linear.bias.mul_(0.2)
            model.linear.weight.mul_(0.2)
    return model.to(dtype).eval()


def labels_for(model, n):
    """A class for each image, or None for a model without classes."""
    classes = getattr(model.config, "num_classes", None)
    return None if classes is None else torch.arange(n) % classes


FAST = ("eager",) if why_not_native(pixelcnn.PixelCNN((1, 2, 2), filters=4)) else ("native", "eager")
"""Each engine that "fast" can stand for; without a C compiler there is only one."""
DTYPES = (torch.float32, torch.float64)


def every_image(shape, levels):
    """All images of a shape, uint8 (levels ** subpixels, C, H, W)."""
    values = list(itertools.product(range(levels), repeat=int(np.prod(shape))))
    return torch.tensor(values, dtype=torch.uint8).view(-1, *shape)


def raster(tensor):
    """(C, H, W, ...) with the sub-pixels in the order of drawing, (H * W * C, ...)."""
    return tensor.movedim(0, 2).flatten(0, 2)
