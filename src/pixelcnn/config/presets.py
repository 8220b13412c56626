"""Training recipes by name: the presets of the command line."""

from __future__ import annotations

import dataclasses

from pixelcnn.config.models import FAMILIES, GatedPixelCNNConfig, ModelConfig, PixelCNNConfig, PixelCNNPlusPlusConfig
from pixelcnn.config.training import TrainConfig

__all__ = ["PRESETS", "recipe"]

_WHOLE_PICTURE = GatedPixelCNNConfig(
    filters=24, layers=5, first_kernel=11, kernel_size=(5, 5, 3, 3), places=True, context=(4, 2)
)  # 308,233 parameters for MNIST by class
_FAST = TrainConfig(
    model=_WHOLE_PICTURE,
    label_dropout=0.4,
    minutes=10,
    batch_size=16,
    optimizer="muon",
    learning_rate=4e-3,
    schedule="cosine",
    warmup_steps=200,
    clip_norm=1.0,
    ema=0.998,
)

PRESETS: dict[str, TrainConfig] = {
    "seed": TrainConfig(protocol="seed", precision="float32"),
    "quick": dataclasses.replace(_FAST, minutes=1, batch_size=8, learning_rate=5e-3, warmup_steps=100, ema=0.99),
    "fast": _FAST,
    "best": dataclasses.replace(_FAST, minutes=180, weight_decay=0.05, ema=0.9995, finish="best"),
}
"""`seed`: exactly the Keras example's recipe. `quick`, `fast`, `best`: a network that sees the whole picture, trained
for one minute, ten minutes and three hours on two cores."""

_OTHERS: dict[str, tuple[ModelConfig, float]] = {
    "pixelcnn": (PixelCNNConfig(filters=16, blocks=8), 5e-3),
    "plusplus": (
        PixelCNNPlusPlusConfig(filters=24, blocks=1, mixtures=5, kernel_size=5, places=True, context=(4, 2)), 4e-3,
    ),
}  # fmt: skip
"""Networks of the other families for the same training times, and their learning rates."""


def recipe(preset: str, family: str | None = None) -> TrainConfig:
    """The recipe of a preset; for another family than the preset's, with a network and a learning rate that suit it.

    Args:
        preset: A name of `PRESETS`.
        family: A name of `FAMILIES`; None for the preset's own.
    """
    config = PRESETS[preset]
    if family is None or isinstance(config.model, FAMILIES[family]):
        return config
    if preset == "seed":
        return dataclasses.replace(config, model=FAMILIES[family](image_shape=config.model.image_shape))
    model, rate = _OTHERS.get(family, (FAMILIES[family](), config.learning_rate))
    model = dataclasses.replace(model, image_shape=config.model.image_shape)
    return dataclasses.replace(config, model=model, learning_rate=rate)
