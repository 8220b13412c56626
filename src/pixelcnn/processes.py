"""The processes that share a job: those that `torchrun` starts, each with its rank.

`torchrun` tells each process by its environment who it is: RANK and WORLD_SIZE, LOCAL_RANK on its machine, MASTER_ADDR
and MASTER_PORT to find the others. With nothing of this set there is one process, `ALONE`, for which everything here is
free and nothing of torch.distributed is used. What the host knows (sums of a few numbers, JSON values, likelihoods)
goes over Gloo, and so do gradients on a CPU; CUDA tensors go over NCCL.

However a job ends, one process says why. The one that fails first says so to the others by the store through which they
met, so those, which soon find a connection closed, end in silence with its exit code. A process that was killed says
nothing, and the first to miss it does.

References:
    | PyTorch Distributed: Experiences on Accelerating Data Parallel Training (Li et al., 2020), VLDB,
      https://arxiv.org/abs/2006.15704
    | torchrun, https://docs.pytorch.org/docs/stable/elastic/run.html
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

__all__ = ["ALONE", "Place", "ProcessLostError", "Processes", "Terminated", "job", "joined", "leave", "place"]

_TIMEOUT = timedelta(minutes=30)  # no wait is longer: the first process may draw pictures while the others wait
_SEARCH = 3.0  # seconds in which a process that is gone is looked for: its parent must first notice its end
_GRACE = 0.5  # seconds that the one that tells goes ahead: when one ends, a launcher sends SIGTERM to the others
_JOINS = itertools.count()  # of this process; all processes join equally often
_LOST = re.compile(r"gloo|nccl|connection|broken pipe|socket|timed? ?out", re.IGNORECASE)


class ProcessLostError(ConnectionError):
    """A process of the job is gone or no longer answers, so the job cannot go on."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came to a process of the job.

    Attributes:
        exit_code: 143, as a shell reports a process that SIGTERM ended.
    """

    exit_code = 128 + signal.SIGTERM


class Place(NamedTuple):
    """Who a process is in its job."""

    rank: int = 0
    """0 .. processes-1."""
    processes: int = 1
    """Processes of the job."""
    local: int = 0
    """Rank among those on the same machine."""


def place() -> Place:
    """Who this process is, by its environment.

    Raises:
        ValueError: If WORLD_SIZE is set and RANK or LOCAL_RANK does not fit it.
    """
    names = {"rank": "RANK", "processes": "WORLD_SIZE", "local": "LOCAL_RANK"}
    text = {field: os.environ.get(name, "1" if field == "processes" else "0") for field, name in names.items()}
    for field, value in text.items():
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"{names[field]} must be a number, got {value!r}; torchrun sets it")
    found = Place(**{field: int(value) for field, value in text.items()})
    if found.processes <= 1:
        return Place()
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise ValueError(f"{name} must be set where WORLD_SIZE is {found.processes}; torchrun sets it")
    if found.rank >= found.processes:
        raise ValueError(f"RANK must be in 0..{found.processes - 1}, got {found.rank}")
    return found


class Processes:
    """The processes of a job, seen from one of them.

    All processes must call the methods that exchange something in the same order. One process alone gets back what it
    gave.

    Attributes:
        rank: This process, 0 .. count-1.
        count: How many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    def share(self, n: int, unit: int = 1) -> slice:
        """This process's part of n things, in whole units: the parts of all processes, by rank, are the n things.

        Examples:
            >>> [Processes(rank, 3).share(10, unit=2) for rank in range(3)]
            [slice(0, 2, None), slice(2, 6, None), slice(6, 10, None)]
        """
        units = -(-n // unit)
        start, stop = (min(n, units * r // self.count * unit) for r in (self.rank, self.rank + 1))
        return slice(start, stop)

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64; the same bits on each."""
        if self.count == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64, device="cpu")
        dist.all_reduce(total)
        return total.tolist()

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What `make` returns on the first process, the only one that calls it: a value that JSON can hold."""
        if self.count == 1:
            return make()
        import torch
        import torch.distributed as dist

        content = json.dumps(make()).encode() if self.first else b""
        length = torch.tensor([len(content)], device="cpu")
        dist.broadcast(length, 0)
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else length.new_empty(0).byte()
        if not self.first:
            data = torch.empty(int(length), dtype=torch.uint8, device="cpu")
        dist.broadcast(data, 0)
        return json.loads(data.numpy().tobytes())

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copies the first process's tensors into the others' of the same shapes and types."""
        if self.count > 1:
            import torch.distributed as dist

            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gather(self, values: Tensor) -> Tensor:
        """The values of all processes in the order of their ranks, on each of them.

        Args:
            values: (n, ...) on the CPU; n may differ between the processes.
        """
        if self.count == 1:
            return values
        import torch
        import torch.distributed as dist

        lengths = [torch.zeros(1, dtype=torch.int64, device="cpu") for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor([len(values)], device="cpu"))
        longest = int(max(lengths))
        padded = values.new_zeros(longest, *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])


ALONE = Processes()
"""One process that shares its job with none."""

_JOB: ContextVar[Processes] = ContextVar("job", default=ALONE)


def job() -> Processes:
    """The processes of this job: `ALONE` outside of `joined`."""
    return _JOB.get()


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Within it the processes that `torchrun` started are connected; inside of another one, it is that one.

    SIGTERM, by which a launcher ends the others when a process has ended, then raises `Terminated` on the main thread.

    They stay connected for the next time, unless an error ends it.

    Yields:
        The processes; `ALONE` where there is one.

    Raises:
        ValueError: If the environment is not what torchrun makes it.
        ProcessLostError: On one process, if another was killed or does not answer.
        SystemExit: With the exit code, if another process has said why the job ends. So an error inside is raised on
            one process alone, the first that has one.
    """
    here = place()
    if here.processes == 1 or job() is not ALONE:
        yield job()
        return
    import torch.distributed as dist

    if dist.is_initialized() and not _OPEN:
        raise ValueError("torch.distributed is in use already; leave it to pixelcnn, or unset WORLD_SIZE")
    connection = _OPEN.pop() if _OPEN else _Connection(here)
    token = _JOB.set(Processes(here.rank, here.processes))
    try:
        with _handling(_terminate, signal.SIGTERM):
            try:
                yield job()
                _OPEN.append(connection)
            except BaseException as error:
                with _handling(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT):
                    verdict = connection.verdict(error)
                if not isinstance(verdict, ProcessLostError):  # with a part of it gone, a group may wait for ever
                    dist.destroy_process_group()
                if verdict is error:
                    raise
                raise verdict from (None if isinstance(verdict, SystemExit) else error)
    finally:
        _JOB.reset(token)


def leave(code: int) -> NoReturn:
    """Ends the process with an exit code: where several share a job at once, without the interpreter's clean-up.

    Gloo's threads can abort a process that cleans up while another is closing its connections.
    """
    if place().processes > 1:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed when the process began
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _terminate(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated("stopped by SIGTERM")


@contextlib.contextmanager
def _handling(handler: Any, *signums: int) -> Iterator[None]:
    """Within it signals have a handler; outside the main thread they keep theirs."""
    previous = {}
    for signum in signums:
        with contextlib.suppress(ValueError):  # not the main thread
            previous[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, earlier in previous.items():
            signal.signal(signum, earlier)


class _Connection:
    """A process's way to the others, and what it knows of them when something fails."""

    def __init__(self, here: Place) -> None:
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        cuda = torch.cuda.is_available() and dist.is_nccl_available()
        if cuda and here.local < torch.cuda.device_count():
            torch.cuda.set_device(here.local)
        server, _, _ = next(rendezvous("env://", timeout=_TIMEOUT))
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"{restart}.{next(_JOINS)}", server)  # what the last connection left there is not seen
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=PrefixStore("group", store),
            rank=here.rank,
            world_size=here.processes,
            timeout=_TIMEOUT,
        )
        self._here = here
        self._store: Store = PrefixStore("pixelcnn", store)
        self._host = _numbered_by()
        self._store.set(f"process {here.rank}", json.dumps([self._host, os.getpid()]))
        self._processes = [json.loads(self._store.get(f"process {rank}")) for rank in range(here.processes)]

    def verdict(self, error: BaseException) -> BaseException:
        """What a process with an error ends with: that error, a loss that explains it, or silence."""
        broken = isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None
        until = time.monotonic() + (_SEARCH if broken else 0)
        while (told := self._told()) is None and not (gone := self._gone()) and time.monotonic() < until:
            time.sleep(0.05)
        if told is None:
            if broken or (gone and isinstance(error, KeyboardInterrupt)):  # a launcher ends the others by a signal
                error = ProcessLostError(self._loss(gone, str(error)))
            told = self._claim(_exit_code(error))
        if told is not None or isinstance(error, ProcessLostError):  # this one is about to be sent SIGTERM
            time.sleep(_GRACE)
        return error if told is None else SystemExit(told)

    def _told(self) -> int | None:
        """The exit code of the process that has told an error; None if there is none, or no way to know."""
        with contextlib.suppress(RuntimeError):
            if self._store.add("told", 0):
                return int(self._store.get("exit code"))
        return None

    def _claim(self, code: int) -> int | None:
        """Takes it on this process to tell an error; the exit code of the one that has done so before, if any."""
        with contextlib.suppress(RuntimeError):
            if self._store.add("told", 1) > 1:
                return int(self._store.get("exit code"))
            self._store.set("exit code", str(code))
        return None

    def _gone(self) -> list[int]:
        """The ranks of the processes that have ended, among those whose numbers mean the same here."""
        gone = []
        for rank, (host, process) in enumerate(self._processes):
            if host == self._host and rank != self._here.rank:
                try:
                    os.kill(process, 0)
                except ProcessLookupError:
                    gone.append(rank)
                except PermissionError:
                    pass
        return gone

    def _loss(self, gone: list[int], said: str) -> str:
        who = f"process {' and '.join(map(str, gone))}" if gone else "a process"
        count = self._here.processes
        what = "is gone: killed, perhaps for want of memory" if gone else f"does not answer ({' '.join(said.split())})"
        return f"{who} of the {count} (0..{count - 1}) {what}; the same command resumes from what was saved"


def _numbered_by() -> str:
    """Names what gives out process numbers: this machine, or one of the containers on it that share its name."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _exit_code(error: BaseException) -> int:
    """What the command line ends with after an error."""
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", 130))
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 2


_OPEN: list[_Connection] = []
"""The connection that the next `joined` takes; none before the first."""
