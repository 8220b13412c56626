"""Draws the images of `pixelcnn sample` in NumPy and onnxruntime, from `pixelcnn export-onnx MODEL FILE --step`."""

import sys
from typing import Any

import numpy as np
import onnxruntime


def mixed(z: Any) -> Any:
    """SplitMix64's finaliser; products wrap modulo 2**64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(seed: int, n: int, count: int) -> Any:
    """The numbers in [0, 1) of images 0 .. n-1: (n, count)."""
    images, places = (np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) for size in (n, count))
    return (mixed(mixed(images + mixed(np.array([seed], np.uint64)))[:, None] + places) >> np.uint64(11)) * 2.0**-53


def cdf(likelihood: str, levels: int, params: Any) -> Any:
    """The probabilities of at most 0, 1, ..., levels - 2: (..., levels - 1)."""
    if likelihood == "Bernoulli":
        return 0.5 - 0.5 * np.tanh(0.5 * params)
    weights, *rest = np.split(params, 3 if likelihood == "LogisticMixture" else 1, -1)
    weights = np.exp(weights - weights.max(-1, keepdims=True))
    if not rest:
        return weights.cumsum(-1)[..., :-1] / weights.sum(-1, keepdims=True)
    least = -7 - 0.75 * max(0, (levels - 1).bit_length() - 8)  # of the logarithms of scales
    means, inverse = rest[0][..., None, :], np.exp(-np.maximum(rest[1], least))[..., None, :]
    edges = (2 * np.arange(levels - 1)[:, None] + 1) / (levels - 1) - 1
    each = 0.5 + 0.5 * np.tanh(0.5 * (edges - means) * inverse)
    return (each * weights[..., None, :]).sum(-1) / weights.sum(-1, keepdims=True)


def sample(path: str, n: int, seed: int = 0, label: Any = -1, condition: Any = np.nan) -> Any:
    """Images 0 .. n-1 of a seed, (n, C, H, W), given classes and vectors (n, D) or maps (n, D, h, w); NaN is none."""
    session = onnxruntime.InferenceSession(path)
    about = session.get_modelmeta().custom_metadata_map
    shapes = {value.name: [n if size == "N" else size for size in value.shape] for value in session.get_inputs()}
    feed = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name.startswith("cache")}
    (_, c, h, w), caches = shapes["images"], list(feed)
    for name, given, kind in (("labels", label, np.int64), ("condition", condition, np.float32)):
        if name in shapes:
            feed[name] = np.full(np.shape(given) or [1 if s in ("h", "w") else s for s in shapes[name]], given, kind)
    feed["images"] = images = np.zeros((n, c, h, w), np.uint8 if int(about["levels"]) <= 256 else np.int32)
    canvas, u = images.reshape(n, c, h * w), uniforms(seed, n, h * w * c).reshape(n, h * w, c)
    for step in range(-int(about["prelude"]), int(about["steps"])):
        for k in range(c):  # each call sees the channels drawn by those before it
            pixels, params, *kept = session.run(None, feed | {"step": np.array(step)})
            here = pixels[pixels < h * w] if step >= 0 else pixels[:0]
            below = cdf(about["likelihood"], int(about["levels"]), params[: len(here), :, k].astype(float))
            canvas[:, k, here] = (u[:, here, k].T[..., None] >= below).sum(-1).T
        feed |= dict(zip(caches, kept, strict=True))
    return images


if __name__ == "__main__":  # python examples/sample_onnx.py FILE OUT.npy N [SEED [CLASS]]
    np.save(sys.argv[2], sample(sys.argv[1], *map(int, sys.argv[3:])))
