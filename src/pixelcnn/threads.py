"""Threads of our own, of which each computes alone.

PyTorch shares out each operation on a CPU between the threads of a team, which wait for each other by spinning. Beside
another busy process one of them has lost its core and the others spin until it is back, at every one of some thousand
operations a second: training on two cores fell to a fiftieth. So work that has independent parts, such as images, is
shared out here by its parts instead: each thread goes through some of them, and within it operations have no team.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["alone", "in_parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def alone() -> Iterator[int]:
    """Within it operations of this thread, and of threads that begin meanwhile, have no team: gives how many it had."""
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

    What PyTorch keeps for each thread, whether gradients are recorded and inference mode, is the caller's.

    Args:
        function: What is done to an item.
        items: Any number of them.
        pool: Threads that have been used for nothing but this; by default new ones.
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
        for job in jobs:  # after Ctrl-C no other is begun
            job.cancel()
        wait(jobs)
    return [job.result() for job in jobs]
