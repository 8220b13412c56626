"""The machine that a benchmark ran on, as its table has to name it."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pixelcnn.devices import describe

__all__ = ["ROOT", "Machine", "peak_bytes", "synchronize"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a figure has to be read with."""

    processor: str
    """And the threads in use."""
    gpu: str | None
    """The device, where it is not the processor."""
    cores: int
    memory_bytes: int
    system: str
    python: str
    pytorch: str
    load: float
    """Processes that ran or waited in the minute before: 0 on an idle machine."""
    commit: str
    """Of the working tree; "-dirty" where files differ from it."""

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        """This one."""
        return cls(
            processor=describe(torch.device("cpu")),
            gpu=describe(device) if device.type == "cuda" else None,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            pytorch=torch.__version__,
            load=os.getloadavg()[0],
            commit=_commit(),
        )

    def __str__(self) -> str:
        processor = f"{self.processor}, {self.cores} cores, {self.memory_bytes / 2**30:.0f} GiB"
        return f"{self.gpu} ({processor})" if self.gpu else processor

    def conditions(self, rates: Sequence[float], product: str = "Float32") -> str:
        """All that a table has to say about where it was measured; `rates` are those before and after, in GFLOP/s."""
        software = f"{self.system}, Python {self.python}, PyTorch {self.pytorch}, commit {self.commit}"
        rate = f"{rates[0]:,.0f} GFLOP/s before and {rates[-1]:,.0f} after"
        return f"{self}; {software}; load {self.load:.1f} before. {product} matrix product: {rate}."


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def synchronize(device: torch.device) -> None:
    """Waits for what was given to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has had: on the device's if that is a GPU, else its resident set.

    Not `ru_maxrss` on Linux: it starts at what the parent process had.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
