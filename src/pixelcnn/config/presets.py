"""Recipes by name."""

from __future__ import annotations

from pixelcnn.config.models import PixelCNNConfig
from pixelcnn.config.training import TrainConfig

__all__ = ["PRESETS"]

PRESETS: dict[str, TrainConfig] = {
    "seed": TrainConfig(protocol="seed"),
    "quick": TrainConfig(
        model=PixelCNNConfig(filters=16, blocks=8),  # narrow and deep: rows in sight draw digits, features only cost
        epochs=1,
        batch_size=16,
        learning_rate=5e-3,
        schedule="cosine",
        warmup_steps=100,
    ),
    "fast": TrainConfig(
        epochs=1,
        batch_size=16,
        learning_rate=2e-3,
        schedule="cosine",
        warmup_steps=100,
        clip_norm=1.0,
        ema=0.99,
    ),
    "best": TrainConfig(
        model=PixelCNNConfig(filters=64, blocks=21),  # 531,041 parameters
        epochs=100,
        batch_size=64,
        learning_rate=2e-3,
        schedule="cosine",
        warmup_steps=1000,
        clip_norm=1.0,
        weight_decay=0.01,
        dropout=0.1,
        shift=1,
        ema=0.9995,
        finish="best",
    ),
}
"""`seed`: the Keras example's recipe exactly. `quick`: recognisable digits in about 90 s on two cores. `fast`: the seed
network, taught quickly. `best`: at most as many parameters, as low a loss as they give."""
