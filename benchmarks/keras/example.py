"""The network of the Keras example "PixelCNN" with its layers as the example has them: what its files are made of.

Written from the example's description, with its class and attribute names, for these are what Keras names weights
after. As there, the mask is assigned to the kernel in every call, so after a step of training the kernel holds masked
entries that are not zero. Serves Keras 3 (`keras`) and Keras 2 (`tf_keras`), which lay out their files differently.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np


def classes(keras: types.ModuleType) -> tuple[type[Any], type[Any]]:
    """PixelConvLayer and ResidualBlock."""

    @keras.utils.register_keras_serializable(package="example")
    class PixelConvLayer(keras.layers.Layer):  # type: ignore[misc]
        """A convolution whose kernel sees the pixels above and to the left, and with mask "B" its own."""

        def __init__(self, mask_type: str, **options: Any) -> None:
            super().__init__(name=options.pop("name", None))
            self.mask_type = mask_type
            self.options = options
            self.conv = keras.layers.Conv2D(**options)

        def build(self, input_shape: tuple[int | None, ...]) -> None:
            """Makes the weights and the mask."""
            self.conv.build(input_shape)
            shape = tuple(self.conv.kernel.shape)
            mask = np.zeros(shape, np.float32)
            mask[: shape[0] // 2] = 1
            mask[shape[0] // 2, : shape[1] // 2 + (self.mask_type == "B")] = 1
            self.mask = mask
            super().build(input_shape)

        def call(self, inputs: Any) -> Any:
            """Masks the kernel for good, and convolves."""
            self.conv.kernel.assign(self.conv.kernel * self.mask)
            return self.conv(inputs)

        def get_config(self) -> dict[str, Any]:
            """What Keras 2 needs to write the layer."""
            return {"name": self.name, "mask_type": self.mask_type, **self.options}

    @keras.utils.register_keras_serializable(package="example")
    class ResidualBlock(keras.layers.Layer):  # type: ignore[misc]
        """What the layers of the block are called is what their weights are called in the files."""

        def __init__(self, filters: int, **options: Any) -> None:
            super().__init__(**options)
            self.filters = filters
            self.conv1 = keras.layers.Conv2D(filters=filters, kernel_size=1, activation="relu")
            self.pixel_conv = PixelConvLayer(
                mask_type="B", filters=filters // 2, kernel_size=3, activation="relu", padding="same"
            )
            self.conv2 = keras.layers.Conv2D(filters=filters, kernel_size=1, activation="relu")

        def call(self, inputs: Any) -> Any:
            """Adds the input."""
            return keras.layers.add([inputs, self.conv2(self.pixel_conv(self.conv1(inputs)))])

        def get_config(self) -> dict[str, Any]:
            """What Keras 2 needs to write the layer."""
            return {"name": self.name, "filters": self.filters}

    return PixelConvLayer, ResidualBlock


def network(keras: types.ModuleType, filters: int, blocks: int, height: int, width: int) -> Any:
    """From images (N, height, width, 1) to the probability of a 1 in each pixel, of the same shape; not compiled."""
    masked, block = classes(keras)
    image = keras.Input(shape=(height, width, 1))
    x = masked(mask_type="A", filters=filters, kernel_size=7, activation="relu", padding="same")(image)
    for _ in range(blocks):
        x = block(filters=filters)(x)
    for _ in range(2):
        x = masked(mask_type="B", filters=filters, kernel_size=1, strides=1, activation="relu", padding="valid")(x)
    out = keras.layers.Conv2D(filters=1, kernel_size=1, strides=1, activation="sigmoid", padding="valid")(x)
    return keras.Model(image, out)
