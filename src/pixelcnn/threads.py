"""Threads of our own for work with independent parts, such as images: each computes its parts alone.

PyTorch splits each operation on a CPU among the threads of a team, which wait for each other by spinning. Next to
another busy process, one of them loses its core and the others spin until it is back, at every one of about a thousand
operations per second: training on two cores became fifty times slower. So the parts are split among threads instead,
and within each thread operations have no team.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["alone", "in_order", "in_parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def alone() -> Iterator[int]:
    """Within it, operations of this thread and of threads started meanwhile have no team; yields the usual size."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], pool: ThreadPoolExecutor | None = None
) -> list[Result]:
    """The function's results for all items in order, by as many threads as PyTorch is set to use, each alone.

    Each thread has the caller's settings of what PyTorch keeps per thread: gradient recording and inference mode.

    Args:
        function: Called with each item.
        items: Any number of items.
        pool: Threads that have been used for nothing else; by default new ones.
    """
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def work(item: Item) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return function(item)

    with alone() as threads:
        if threads == 1 or len(items) == 1:
            return [function(item) for item in items]
        if pool is not None:
            return _results(pool, work, items)
        with ThreadPoolExecutor(min(threads, len(items))) as new:
            return _results(new, work, items)


def _results(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    jobs = [pool.submit(work, item) for item in items]
    try:
        wait(jobs)
    finally:
        for job in jobs:  # after Ctrl-C no further job starts
            job.cancel()
        wait(jobs)
    return [job.result() for job in jobs]


@contextmanager
def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Iterator[Result]]:
    """The function's results in the order of the items, computed by threads.

    At most `ahead` items are begun before their turn, and none once the block has ended, by an error or Ctrl-C too.
    """
    pool = ThreadPoolExecutor(threads)

    def results() -> Iterator[Result]:
        begun: deque[Future[Result]] = deque()
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)
