"""Groups of images as symbols of the entropy coder, in compiled code where it is available.

The images of a group are coded side by side: all of them one step of the wavefront at a time. A large image is coded in
parts, each of the steps that it takes to have 2^18 sub-pixels, so that few symbols are held at a time.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.codec.entropy import Decoder, encode
from pixelcnn.conditions import Given
from pixelcnn.exact import PreparedModel
from pixelcnn.frequencies import TOTAL_BITS
from pixelcnn.sampling.eager import cache_bytes
from pixelcnn.sampling.native import warn_of_slower, why_not_native
from pixelcnn.sampling.native.coding import NativeCoder
from pixelcnn.sampling.native.coding import encode as encode_natively
from pixelcnn.sampling.native.structures import CoderStruct
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.walk import Walk

__all__ = ["GroupCoder", "group_size", "has_room"]

_NUMBERS = 2**22  # of cumulative frequencies that a decoder has at a time
_PART_SUBPIXELS = 2**18
_GROUP_BYTES = 2**26  # of a group's features, where an encoder has the choice
_GROUP_SUBPIXELS = 2**18
_GROUP_IMAGES = 2**14
_DEVICE_BYTES = 2**28  # on a GPU: of cumulative frequencies, and of one layer's features, at a time


def group_size(prepared: PreparedModel) -> int:
    """As many images as a decoder has room for; a multiple of 8 if at least 8, so that threads have equal shares."""
    most = max(1, min(_GROUP_BYTES // cache_bytes(prepared), _GROUP_SUBPIXELS // prepared.subpixels, _GROUP_IMAGES))
    return most if most < 8 else (most + 4) // 8 * 8


def has_room(prepared: PreparedModel, size: int) -> bool:
    """Whether a decoder takes groups of that many images: up to sixteen times the memory that an encoder plans with."""
    return size == 1 or size * cache_bytes(prepared) <= 16 * _GROUP_BYTES


class GroupCoder:
    """Turns groups of images into symbols and back; any number of threads may call it at the same time.

    Args:
        prepared: The exact model.
        conditional: Whether images have classes, which are coded before them, or are conditioned on something else.
        threads: How many threads compute a group together, in compiled code.
    """

    def __init__(self, prepared: PreparedModel, *, conditional: bool, threads: int = 1) -> None:
        self._prepared = prepared
        self._conditional = conditional
        self._threads = threads
        reason = why_not_native(prepared)
        if reason is not None:
            warn_of_slower(prepared, reason)
        self.native = reason is None
        """Whether compiled code does the work; else PyTorch does, which has threads of its own."""
        self._idle: dict[int, deque[NativeCoder]] = {}

    def encode(self, edges: NDArray[np.uint32]) -> bytes:
        """See `pixelcnn.codec.entropy.encode`."""
        return encode_natively(edges) if self.native else encode(edges)

    def label_edges(self, labels: Tensor) -> NDArray[np.uint32]:
        """Where the frequencies of classes start and stop, (N, 2)."""
        edges: NDArray[np.uint32] = self._label_frequencies()[labels.numpy()[:, None] + np.array([0, 1])]
        return edges.astype(np.uint32)

    def decode_labels(self, count: int, decoder: Decoder) -> Tensor:
        """The next classes, int64 (count,)."""
        cumulative = self._label_frequencies()
        return torch.from_numpy(decoder.take(np.broadcast_to(cumulative, (count, len(cumulative)))))

    @torch.inference_mode()
    def edges(self, images: Tensor, given: Given, per_group: int) -> NDArray[np.uint32]:
        """Where the frequencies of sub-pixels start and stop, group by group in the order of the walk: (sub-pixels, 2).

        Args:
            images: One or more groups; the last one may have fewer images.
            given: Their classes, and what else they are conditioned on.
            per_group: Images per group.
        """
        if not self.native:
            return self._edges_by_forwards(images, given, per_group)
        parts = []
        for k in range(0, len(images), per_group):
            group = images[k : k + per_group]
            labels, maps = (None if each is None else each[k : k + per_group] for each in given)
            condition = self._prepared.condition_of(labels, len(group), maps)
            with self._native_coder(len(group)) as native:
                parts.append(native.edges(group, condition))
        return np.concatenate(parts)

    @torch.inference_mode()
    def decode(self, images: Tensor, given: Given, decoder: Decoder) -> None:
        """Fills a group's images, uint8 zeros (n, C, H, W) on the CPU, with the decoder's next symbols.

        Raises:
            PayloadError: If there are too few of them.
        """
        model = self._prepared
        condition = model.condition_of(given[0], len(images), given[1])
        if self.native:
            with self._native_coder(len(images)) as native:
                native.decode(images, condition, state := decoder.state())
            decoder.resume(state)
            return

        drawn, walk = images.to(model.device), self._walk(len(images), condition)
        self._take_steps(walk, walk.steps, drawn, decoder)
        images.copy_(drawn)

    @functools.cached_property
    def parts(self) -> list[tuple[int, int]]:
        """The parts of a large image: the step after each, and its number of pixels."""
        wavefront = schedule_of(self._prepared, conditional=self._conditional).wavefront
        channels, steps = self._prepared.image_shape[0], wavefront.steps
        if wavefront.slope >= wavefront.width:  # a pixel per step
            each = -(-_PART_SUBPIXELS // channels)
            return [(min(end, steps), min(each, steps - end + each)) for end in range(each, steps + each, each)]
        parts, pixels = [], 0
        for step in range(steps):
            pixels += len(wavefront.rows(step))
            if channels * pixels >= _PART_SUBPIXELS or step == steps - 1:
                parts.append((step + 1, pixels))
                pixels = 0
        return parts

    @torch.inference_mode()
    def edges_in_parts(self, image: Tensor, given: Given) -> Iterator[NDArray[np.uint32]]:
        """`edges` of a single image (1, C, H, W), part by part."""
        if not self.native:
            yield from self._parts_by_forwards(image, given)
            return
        condition = self._prepared.condition_of(given[0], 1, given[1])
        channels, height, _ = image.shape[1:]
        room = np.empty((_PART_SUBPIXELS + channels * height, 2), dtype=np.uint32)  # a step may be one pixel per row
        coder = CoderStruct(edges=room.ctypes.data)
        with self._native_coder(1) as native:
            for _ in native.in_parts(image.contiguous(), condition, coder, [end for end, _ in self.parts]):
                yield room[: coder.position].copy()
                coder.position = 0

    @torch.inference_mode()
    def decode_in_parts(self, image: Tensor, given: Given, decoders: Iterable[Decoder]) -> Iterator[int]:
        """`decode` of a single image (1, C, H, W), with a decoder for each part; yields the pixels of each.

        Raises:
            PayloadError: If one has too few symbols, or too many.
        """
        model = self._prepared
        condition = model.condition_of(given[0], 1, given[1])
        if self.native:
            coder = CoderStruct()
            with self._native_coder(1) as native:
                walking = native.in_parts(image, condition, coder, [end for end, _ in self.parts])
                for decoder, (_, pixels) in zip(decoders, self.parts, strict=True):
                    decoder.load(coder)
                    next(walking)
                    decoder.resume(coder)
                    decoder.end()
                    yield pixels
            return
        drawn, walk = image.to(model.device), self._walk(1, condition)
        start = walk.steps.start
        for decoder, (end, pixels) in zip(decoders, self.parts, strict=True):
            self._take_steps(walk, range(start, end), drawn, decoder)
            decoder.end()
            start = end
            yield pixels
        image.copy_(drawn)

    def _walk(self, n: int, condition: Tensor | None) -> Walk:
        """The beginning of a walk through n images, in PyTorch."""
        walk = Walk(self._prepared, n, conditional=condition is not None)
        walk.start(condition)
        return walk

    def _take_steps(self, walk: Walk, steps: Iterable[int], images: Tensor, decoder: Decoder) -> None:
        """Fills images by the decoder's next symbols."""
        model = self._prepared

        def choose(_channel: int, _pixels: slice, params: Tensor) -> Tensor:
            found = [
                torch.from_numpy(decoder.take(model.likelihood.cumulative(part).cpu().numpy()))
                for part in torch.split(params.flatten(0, 1), max(1, _NUMBERS // model.levels))
            ]
            return torch.cat(found).view(params.shape[:2]).to(params.device)

        for step in steps:
            walk.step(model, step, images, choose)

    @contextlib.contextmanager
    def _native_coder(self, size: int) -> Iterator[NativeCoder]:
        """A coder that no other thread uses meanwhile; later groups of the same size use it again."""
        idle = self._idle.setdefault(size, deque())
        try:
            native = idle.pop()
        except IndexError:
            native = NativeCoder(self._prepared, size, conditional=self._conditional, threads=self._threads)
        yield native
        idle.append(native)

    def _label_frequencies(self) -> NDArray[np.int64]:
        """The cumulative frequencies of classes, as uniform as integers can be."""
        classes = self._prepared.num_classes
        assert classes is not None
        edges: NDArray[np.int64] = np.arange(classes + 1, dtype=np.int64) * 2**TOTAL_BITS // classes
        return edges

    def _edges_by_forwards(self, images: Tensor, given: Given, per_group: int) -> NDArray[np.uint32]:
        """`edges` by forwards of whole images, which compute all sub-pixels at once."""
        model, parts = self._prepared, []
        c, h, w = model.image_shape
        widest = max(c * (model.levels + 1), *(layer.out_channels for layer in model.masked_layers))
        size = model.slice_size if model.device.type == "cpu" else max(1, _DEVICE_BYTES // (8 * h * w * widest))
        for k in range(0, len(images), size):
            x = images[k : k + size].to(model.device)
            labels, maps = (None if each is None else each[k : k + size].to(model.device) for each in given)
            edges = model.edges(x, model.condition_of(labels, len(x), maps)).cpu()
            parts.append(edges.flatten(1, 3)[:, self._walk_order])
        groups = torch.split(torch.cat(parts), per_group)
        found: NDArray[np.uint32] = torch.cat([group.transpose(0, 1).reshape(-1, 2) for group in groups]).numpy()
        return found.astype(np.uint32)

    def _parts_by_forwards(self, image: Tensor, given: Given) -> Iterator[NDArray[np.uint32]]:
        """`edges_in_parts` by a forward of the whole image."""
        model = self._prepared
        labels, maps = (None if each is None else each.to(model.device) for each in given)
        edges = model.edges(image.to(model.device), model.condition_of(labels, 1, maps))[0].flatten(1, 2).cpu()
        wavefront = schedule_of(model, conditional=self._conditional).wavefront
        for start, end in itertools.pairwise([0, *(end for end, _ in self.parts)]):
            steps = [edges[:, wavefront.pixels(step)].reshape(-1, 2) for step in range(start, end)]
            yield torch.cat(steps).numpy().astype(np.uint32)

    @functools.cached_property
    def _walk_order(self) -> Tensor:
        """The indices of sub-pixels, in (C, H, W), in the order of the walk."""
        c, h, w = self._prepared.image_shape
        wavefront = schedule_of(self._prepared, conditional=self._conditional).wavefront
        steps = [range(h * w)[wavefront.pixels(step)] for step in range(wavefront.steps)]
        return torch.tensor([
            channel * h * w + pixel for pixels, channel in itertools.product(steps, range(c)) for pixel in pixels
        ], device="cpu")  # fmt: skip
