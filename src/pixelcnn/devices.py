"""Devices: choosing one by name, describing it, its memory, and CUDA graphs."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from pixelcnn.processes import own_rank

__all__ = ["cuda_graph", "describe", "device_of", "peak_memory"]


def device_of(name: str) -> torch.device:
    """The device of a name: `auto` (CUDA where available, else the CPU), `cpu`, `cuda` or `cuda:N`.

    Where several processes share a job, `auto` and `cuda` give each process of a machine a CUDA device of its own.

    Raises:
        ValueError: If the name is unknown, or there is no such device.
    """
    here = own_rank()
    if here.processes > 1 and name.startswith("cuda:"):
        raise ValueError(f"device must be auto, cpu or cuda for several processes, which have one each, got {name!r}")
    if here.processes > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
        name = f"cuda:{here.local}"
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def describe(device: torch.device) -> str:
    """A device in words: the processor's name and the number of threads in use, or the graphics card's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{next(iter(names), '') or platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> int:
    """The peak memory so far, in bytes: of PyTorch's tensors on a CUDA device, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cuda_graph(
    work: Callable[[], None], rehearse: Callable[[], None], rehearsals: int, device: torch.device
) -> Callable[[], None]:
    """Captures what `work` launches on a CUDA device.

    Args:
        work: What is captured; it only touches tensors at fixed addresses, and returns nothing to the host.
        rehearse: The same work, or work that leaves no trace; called before the capture, on a separate stream, so that
            libraries are loaded and kernels compiled and tuned.
        rehearsals: How often `rehearse` is called.
        device: A CUDA device.

    Returns:
        A function that launches the captured work again.
    """
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(rehearsals):
                rehearse()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    return graph.replay
