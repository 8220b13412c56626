"""Groups of images as symbols of the entropy coder: what is coded side by side, in compiled code where there is any."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.codec.entropy import Decoder
from pixelcnn.exact import PreparedModel
from pixelcnn.frequencies import TOTAL_BITS
from pixelcnn.sampling.native import warn_of_slower, why_not_native
from pixelcnn.sampling.native.coding import GroupCoder
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.walk import Walk

__all__ = ["Groups", "mapped", "workers"]

_DEVICE_BYTES = 2**28  # of what a GPU computes at a time

A = TypeVar("A")
B = TypeVar("B")


class Groups:
    """Codes groups of images by one twin; any number of threads may, of which each group has `threads`.

    Args:
        prepared: The twin.
        labelled: Whether images have classes, which come before the images.
        threads: That compute a group together, in compiled code.
    """

    def __init__(self, prepared: PreparedModel, *, labelled: bool, threads: int = 1) -> None:
        self._prepared = prepared
        self._labelled = labelled
        self._threads = threads
        reason = why_not_native(prepared)
        if reason is not None:
            warn_of_slower(prepared, reason)
        self.native = reason is None
        """Whether compiled code does it; else PyTorch, which has threads of its own."""
        self._order = None if self.native else _order(prepared, labelled)
        self._idle: dict[int, list[GroupCoder]] = defaultdict(list)
        self._lock = threading.Lock()

    def edges_of_labels(self, labels: Tensor) -> NDArray[np.uint32]:
        """Where the frequencies of classes start and stop, (N, 2)."""
        edges: NDArray[np.uint32] = _of_classes(self._prepared)[labels.numpy()[:, None] + np.array([0, 1])]
        return edges.astype(np.uint32)

    def decode_labels(self, count: int, decoder: Decoder) -> Tensor:
        """The next classes, int64 (count,)."""
        cumulative = _of_classes(self._prepared)
        return torch.from_numpy(decoder.take(np.broadcast_to(cumulative, (count, len(cumulative)))))

    @torch.inference_mode()
    def edges(self, images: Tensor, labels: Tensor | None, per_group: int) -> NDArray[np.uint32]:
        """Where the frequencies of sub-pixels start and stop, group by group in the order of the walk: (sub-pixels, 2).

        Args:
            images: Of as many groups as there may be, the last one perhaps with fewer.
            labels: Their classes.
            per_group: Images of a group.
        """
        if self._order is not None:
            return _edges(self._prepared, self._order, images, labels, per_group)
        parts = []
        for k in range(0, len(images), per_group):
            group = images[k : k + per_group]
            condition = self._prepared.condition_of(None if labels is None else labels[k : k + per_group], len(group))
            native = self._borrow(len(group))
            parts.append(native.edges(group, condition))
            self._give_back(len(group), native)
        return np.concatenate(parts)

    @torch.inference_mode()
    def decode(self, images: Tensor, labels: Tensor | None, decoder: Decoder) -> None:
        """Fills a group's images, uint8 zeros (n, C, H, W) on the CPU, with the decoder's next symbols.

        Raises:
            PayloadError: If they do not suffice.
        """
        twin = self._prepared
        condition = twin.condition_of(labels, len(images))
        if self.native:
            native = self._borrow(len(images))
            native.decode(images, condition, state := decoder.state())
            self._give_back(len(images), native)
            decoder.go_on_from(state)
            return

        def choose(_channel: int, _pixels: slice, params: Tensor) -> Tensor:
            cumulative = twin.likelihood.cumulative(params).flatten(0, 1)
            return torch.from_numpy(decoder.take(cumulative.cpu().numpy())).view(params.shape[:2]).to(params.device)

        drawn = images.to(twin.device)
        walk = Walk(twin, len(images), conditional=condition is not None)
        walk.start(condition)
        for step in walk.steps:
            walk.step(twin, step, drawn, choose)
        images.copy_(drawn)

    def _borrow(self, size: int) -> GroupCoder:
        with self._lock:
            if self._idle[size]:
                return self._idle[size].pop()
        return GroupCoder(self._prepared, size, conditional=self._labelled, threads=self._threads)

    def _give_back(self, size: int, native: GroupCoder) -> None:
        with self._lock:
            self._idle[size].append(native)


@contextlib.contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block ends with an error or Ctrl-C."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def mapped(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A], ahead: int) -> Iterator[B]:
    """`pool.map` of any number of items, of which at most `ahead` are begun before their turn."""
    begun: deque[Future[B]] = deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _edges(
    prepared: PreparedModel, order: Tensor, images: Tensor, labels: Tensor | None, per_group: int
) -> NDArray[np.uint32]:
    """The same by forwards of whole images."""
    twin, parts = prepared, []
    size = twin.slice_size if twin.device.type == "cpu" else _on_device(twin)
    for k in range(0, len(images), size):
        x = images[k : k + size].to(twin.device)
        given = None if labels is None else labels[k : k + size].to(twin.device)
        cumulative, levels = prepared.cumulative(x, given), x.long().unsqueeze(-1)
        edges = torch.cat([cumulative.gather(-1, levels), cumulative.gather(-1, levels + 1)], -1).cpu()
        parts.append(edges.flatten(1, 3)[:, order])
    groups = torch.split(torch.cat(parts), per_group)
    found: NDArray[np.uint32] = torch.cat([group.transpose(0, 1).reshape(-1, 2) for group in groups]).numpy()
    return found.astype(np.uint32)


def _on_device(twin: PreparedModel) -> int:
    """Images whose cumulative frequencies take 256 MiB, and of which a layer's features do."""
    c, h, w = twin.image_shape
    widest = max(layer.out_channels for layer in twin.masked_layers)
    return max(1, _DEVICE_BYTES // (8 * h * w * max(widest, c * (twin.levels + 1))))


def _of_classes(prepared: PreparedModel) -> NDArray[np.int64]:
    """The cumulative frequencies of classes, as even as integers are."""
    classes = prepared.num_classes
    assert classes is not None
    edges: NDArray[np.int64] = np.arange(classes + 1, dtype=np.int64) * 2**TOTAL_BITS // classes
    return edges


def _order(prepared: PreparedModel, conditional: bool) -> Tensor:
    """The indices of sub-pixels, in (C, H, W), in the order of the walk."""
    c, h, w = prepared.image_shape
    wavefront = schedule_of(prepared, conditional=conditional).wavefront
    steps = [range(h * w)[wavefront.pixels(step)] for step in range(wavefront.steps)]
    return torch.tensor([
        channel * h * w + pixel for pixels, channel in itertools.product(steps, range(c)) for pixel in pixels
    ], device="cpu")  # fmt: skip
