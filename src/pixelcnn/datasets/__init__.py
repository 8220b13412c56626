"""Images to train on and to look at: MNIST, folders of pictures, arrays, CIFAR-10, and the `datasets` library.

`sources` lists the names of data sources and opens them. MNIST is in the package (`mnist`); all other sources are
decoded once into a memory-mapped cache (`cache`), each by a module of its own (`folder`, `arrays`, `cifar`, `hub`).
"""

from __future__ import annotations

from pixelcnn.datasets.condition import condition_fields, read_condition, read_given, read_maps, read_shrunk, shrunk
from pixelcnn.datasets.mnist import drawn_mnist, mnist
from pixelcnn.datasets.patches import Patches
from pixelcnn.datasets.sizes import open_own_sizes
from pixelcnn.datasets.sources import (
    Data,
    TrainingData,
    name_of,
    open_data,
    open_for_model,
    open_split,
    open_training,
    path_of,
)

__all__ = [
    "Data",
    "Patches",
    "TrainingData",
    "condition_fields",
    "drawn_mnist",
    "mnist",
    "name_of",
    "open_data",
    "open_for_model",
    "open_own_sizes",
    "open_split",
    "open_training",
    "path_of",
    "read_condition",
    "read_given",
    "read_maps",
    "read_shrunk",
    "shrunk",
]
