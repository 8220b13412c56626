"""Random numbers as pure functions of integers: the same on every device, for every batch size and worker.

Image `i` of seed `s` draws its sub-pixel `k` with the uniform `u(s, i, k)`, the `k`-th output of a SplitMix64
generator whose state is the `i`-th output of a SplitMix64 generator of state `mix(s)`:

    mix(z) = finaliser of SplitMix64;   out(state, k) = mix(state + (k + 1) * gamma);   u = (out >> 11) * 2**-53

Nothing is stateful, so nothing depends on what was drawn before. Not for cryptography.

References:
    | Fast Splittable Pseudorandom Number Generators (Steele, Lea, Flood, 2014), OOPSLA.
    | Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon et al., 2011), SC'11.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixelcnn.arguments import integer
from pixelcnn.levels import GREY_LEVELS, level_dtype

__all__ = [
    "binarised",
    "check_seed",
    "decision_uniforms",
    "dropout_bits",
    "flips",
    "label_uniforms",
    "mixed_seed",
    "mutations",
    "part_uniforms",
    "patch_uniforms",
    "permutation",
    "scan_orders",
    "seed_of",
    "shifts",
    "uniforms",
]

_GAMMA = 0x9E3779B97F4A7C15
# Each use of a seed has numbers of its own, independent of the samples' and of the other uses': those of seed ^ use.
_PERMUTATION = 0x7065726D75746521
_SHIFTS = 0x7368696674206279
_DROPOUT = 0x64726F706F757421
_LABELS = 0x6C6162656C732121
_PIXELS = 0x706978656C732121
_ORDERS = 0x6F72646572732121
_PARTS = 0x7061727473212121
_DECISIONS = 0x6465636964652121
_MUTATIONS = 0x6D75746174652121
_PATCHES = 0x7061746368657321
_FLIPS = 0x666C697073212121


def check_seed(seed: int) -> int:
    """The seed as a Python integer.

    Raises:
        ValueError: If it is not an integer in 0..2**63-1.
    """
    return integer("seed", seed, 0, 2**63 - 1)


def seed_of(seed: int | None, generator: torch.Generator | None = None) -> int:
    """A seed: the given one, or a fresh one from a generator, by default torch's.

    Raises:
        ValueError: If a seed and a generator are given, or the generator is not one of torch's.
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if seed is not None:
        if generator is not None:
            raise ValueError(f"seed must be None if a generator is given, got {seed!r}")
        return check_seed(seed)
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))


def mixed_seed(seed: int) -> int:
    """mix(s), in 0..2**64-1: the state from which `sampling/native/engine.c` computes the same numbers."""
    return _mix_host(check_seed(seed))


def uniforms(seed: int, first: int, n: int, subpixels: int, device: torch.device | str = "cpu") -> Tensor:
    """Uniform numbers in [0, 1) for images `first .. first+n-1` of a seed.

    Args:
        seed: 0..2**63-1.
        first: Index of the first image.
        n: Number of images.
        subpixels: Numbers for each image.
        device: Where the result lives; the values do not depend on it.

    Returns:
        float64 of shape (n, subpixels), multiples of 2**-53.
    """
    images = _outputs(_state(check_seed(seed)), n, device, first)
    return _unit(_outputs(images[:, None], subpixels, device))


def decision_uniforms(seed: int, image: int, n: int) -> Tensor:
    """N uniform numbers in [0, 1) for what is decided about an image besides its pixels: float64 (n,) on the CPU."""
    return uniforms(check_seed(seed) ^ _DECISIONS, image, 1, n)[0]


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """The order of `n` images in an epoch, int64 of shape (n,), a function of (n, seed, epoch) alone."""
    return torch.argsort(_outputs(_state(check_seed(seed) ^ _PERMUTATION, epoch), n, "cpu"), stable=True)


def shifts(images: Tensor, reach: int, seed: int, epoch: int | Tensor) -> Tensor:
    """How far images move in an epoch: a function of each image's own index and (reach, seed, epoch) alone.

    Args:
        images: Indices of the images, int64 (N,).
        reach: Largest shift in each direction.
        seed: 0..2**63-1.
        epoch: 0 is the first; a tensor is an int64 scalar on the images' device.

    Returns:
        int64 (N, 2) of rows down and columns right, in -reach..reach, all pairs equally probable (up to 2^-50).
    """
    side = 2 * reach + 1
    cell = _shift_right(_image_keys(images, _SHIFTS, seed, epoch), 1) % side**2
    return torch.stack([cell // side - reach, cell % side - reach], 1)


def patch_uniforms(patches: Tensor, seed: int, epoch: int) -> Tensor:
    """Uniform numbers in [0, 1) that decide where in its picture each patch of an epoch lies: float64 (N, 2).

    Arguments as for `shifts`.
    """
    keys = _image_keys(patches, _PATCHES, seed, epoch)
    return torch.stack([_unit(keys), _unit(_mix(keys + _signed(_GAMMA)))], 1)


def flips(images: Tensor, seed: int, epoch: int | Tensor) -> Tensor:
    """Which images an epoch mirrors: bool (N,), with probability 1/2; arguments as for `shifts`."""
    return _image_keys(images, _FLIPS, seed, epoch) < 0


def label_uniforms(images: Tensor, seed: int, epoch: int | Tensor) -> Tensor:
    """Uniform numbers in [0, 1) that decide which labels an epoch hides: float64 (N,); arguments as for `shifts`."""
    return _unit(_image_keys(images, _LABELS, seed, epoch))


def binarised(images: Tensor, indices: Tensor, seed: int, epoch: int | Tensor | None = None) -> Tensor:
    """Grey values drawn as black or white: each pixel is 1 with probability grey / 255, independently.

    The draw is a function of (seed, epoch, the image's own index, the sub-pixel's position) alone. With the 32 upper
    bits v of the sub-pixel's hash it is 1 where 255 v < 2^32 grey, in integers: the probability is right within 2^-32,
    and exactly 0 and 1 for grey 0 and 255.

    Args:
        images: uint8 (N, C, H, W), 0..255.
        indices: The images' indices, int64 (N,), on the same device.
        seed: 0..2**63-1.
        epoch: 0 is the first; a tensor is an int64 scalar on the images' device. None is for images that are drawn
            once and for all, independent of every epoch's.

    Returns:
        uint8 (N, C, H, W), 0 or 1.
    """
    states = _image_keys(indices, _PIXELS, seed, *(() if epoch is None else (epoch,)))
    bits = _shift_right(_outputs(states[:, None], images.shape[1:].numel(), images.device), 32)
    white = bits * (GREY_LEVELS - 1) < images.flatten(1).to(torch.int64) << 32
    return white.to(level_dtype(2)).view_as(images)


def mutations(images: Tensor, indices: Tensor, share: float, levels: int, seed: int, epoch: int | Tensor) -> Tensor:
    """Images in which each sub-pixel is replaced, with a given probability, by a level drawn uniformly.

    Args:
        images: uint8 levels (N, C, H, W).
        indices: The images' indices, int64 (N,), on the same device.
        share: The probability, up to 2^-32.
        levels: 2..65,536, all equally probable up to a share of levels / 2^32.
        seed: 0..2**63-1.
        epoch: As for `binarised`.

    Returns:
        uint8 levels (N, C, H, W).
    """
    states = _image_keys(indices, _MUTATIONS, seed, epoch)
    keys = _outputs(states[:, None], images.shape[1:].numel(), images.device)
    replaced = _shift_right(keys, 32) < round(share * 2**32)
    drawn = (keys & 0xFFFFFFFF) * levels >> 32
    return torch.where(replaced, drawn.to(images.dtype), images.flatten(1)).view_as(images)


def scan_orders(images: Tensor, orders: int, seed: int, epoch: int | Tensor) -> Tensor:
    """In which of `orders` orders an epoch shows each image: int64 (N,), all equally probable (up to 2^-60).

    Other arguments as for `shifts`.
    """
    return _shift_right(_image_keys(images, _ORDERS, seed, epoch), 1) % orders


def part_uniforms(seed: int, first: int, n: int) -> Tensor:
    """Uniform numbers in [0, 1) that decide which part of a mixture draws images `first .. first+n-1` of a seed.

    float64 (n,) on the CPU, multiples of 2**-53, independent of the images' own uniforms.
    """
    return _unit(_outputs(_state(check_seed(seed) ^ _PARTS), n, "cpu", first))


def dropout_bits(
    seed: int, step: int | Tensor, layer: int, first: int | Tensor, n: int, features: int, device: torch.device | str
) -> Tensor:
    """16 random bits for every feature of a layer, so that dropout is a function of the run's seed and the step.

    One output of the generator gives four features' bits, for a quarter of the arithmetic.

    Args:
        seed: 0..2**63-1.
        step: 0 is the first; a tensor is an int64 scalar on the device.
        layer: Which dropout of the network, from 0.
        first: Index in the step's batch of the first image; a tensor is an int64 scalar on the device.
        n: Number of images.
        features: Numbers for each image.
        device: Where the result lives; the values do not depend on it.

    Returns:
        int16 (n, features), uniform over -2**15 .. 2**15-1.
    """
    states = _outputs(_state(check_seed(seed) ^ _DROPOUT, step, layer), n, device, first)
    return _outputs(states[:, None], -(-features // 4), device).view(torch.int16)[:, :features]


def _image_keys(images: Tensor, use: int, seed: int, *indices: int | Tensor) -> Tensor:
    """One output for each image by its index, for one use of a seed: int64 (N,)."""
    return _mix((images + 1) * _signed(_GAMMA) + _state(check_seed(seed) ^ use, *indices))


def _outputs(state: int | Tensor, n: int, device: torch.device | str, first: int | Tensor = 0) -> Tensor:
    """Outputs `first .. first+n-1` of a state, int64 (n,), or of states (N, 1), int64 (N, n)."""
    steps = torch.arange(1, n + 1, dtype=torch.int64, device=device) + first
    return _mix(steps * _signed(_GAMMA) + state)


def _unit(keys: Tensor) -> Tensor:
    """The upper 53 bits of int64 numbers as float64 numbers in [0, 1)."""
    return _shift_right(keys, 11).to(torch.float64) * 2.0**-53


def _state(seed: int, *indices: int | Tensor) -> int | Tensor:
    """mix(seed), then the output of that state for each index in turn; on the host while indices are integers."""
    state: int | Tensor = _signed(_mix_host(seed))
    for index in indices:
        if isinstance(state, int) and isinstance(index, int):
            state = _signed(_mix_host(state + (index + 1) * _GAMMA))
        else:
            offset = (index + 1) * _signed(_GAMMA) if isinstance(index, Tensor) else _signed((index + 1) * _GAMMA)
            moved = offset + state
            assert isinstance(moved, Tensor), "one of the two is"
            state = _mix(moved)
    return state


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 tensors, whose products wrap modulo 2**64."""
    z = (z ^ _shift_right(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift_right(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift_right(z, 31)


def _mix_host(z: int) -> int:
    """The same for one integer, modulo 2**64."""
    z %= 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """A logical shift: zeros come in from the left, whatever the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 that is the same modulo 2**64."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value
