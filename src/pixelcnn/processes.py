"""The processes that share a job: those that `torchrun` starts, each with its rank.

`torchrun` sets RANK and WORLD_SIZE, LOCAL_RANK on the same machine, and MASTER_ADDR and MASTER_PORT to find the others,
in each process's environment. If none of them is set there is one process, `ALONE`, which uses nothing of
torch.distributed. Sums of a few numbers, JSON values, likelihoods and gradients on a CPU are exchanged over Gloo, CUDA
tensors over NCCL.

However a job ends, one process reports the reason. The first one that fails announces it in the store through which the
processes met, and the others, which soon find a connection closed, end silently with its exit code. A killed process
announces nothing, and the first to miss it reports that.

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

__all__ = [
    "ALONE",
    "Interrupted",
    "ProcessLostError",
    "Processes",
    "Rank",
    "exit_code",
    "handling",
    "job",
    "joined",
    "leave",
    "own_rank",
]

_TIMEOUT = timedelta(minutes=30)  # of any wait: the first process may draw samples while the others wait
_SEARCH = 3.0  # seconds in which to find the process that is gone: its parent must first notice its end
_GRACE = 0.5  # seconds by which the reporting process ends first: a launcher then sends SIGTERM to the others
_JOINS = itertools.count()  # of this process; all processes join equally often
_LOST = re.compile(r"gloo|nccl|connection|broken pipe|socket|timed? ?out", re.IGNORECASE)


class ProcessLostError(ConnectionError):
    """A process of the job is gone or no longer answers, so the job cannot go on."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the work; the message says at which point, and how it can go on.

    Attributes:
        exit_code: 128 + the signal's number, as shells have it: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class Rank(NamedTuple):
    """The rank of a process in its job."""

    rank: int = 0
    """0 .. processes-1."""
    processes: int = 1
    """Number of processes of the job."""
    local: int = 0
    """Rank among the processes on the same machine."""


def own_rank() -> Rank:
    """The rank of this process, by its environment.

    Raises:
        ValueError: If WORLD_SIZE is set and RANK or LOCAL_RANK does not fit it.
    """
    names = {"rank": "RANK", "processes": "WORLD_SIZE", "local": "LOCAL_RANK"}
    text = {field: os.environ.get(name, "1" if field == "processes" else "0") for field, name in names.items()}
    for field, value in text.items():
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"{names[field]} must be a number, got {value!r}; torchrun sets it")
    found = Rank(**{field: int(value) for field, value in text.items()})
    if found.processes <= 1:
        return Rank()
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise ValueError(f"{name} must be set where WORLD_SIZE is {found.processes}; torchrun sets it")
    if found.rank >= found.processes:
        raise ValueError(f"RANK must be in 0..{found.processes - 1}, got {found.rank}")
    return found


class Processes:
    """The processes of a job, seen from one of them.

    All processes must call the methods that exchange something, in the same order. A single process gets back its own
    values.

    Attributes:
        rank: Rank of this process, 0 .. count-1.
        count: Number of processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and shows messages."""
        return self.rank == 0

    def share(self, n: int, unit: int = 1) -> slice:
        """This process's part of n items, in whole units; the parts of all processes, by rank, make up the n items.

        Examples:
            >>> [Processes(rank, 3).share(10, unit=2) for rank in range(3)]
            [slice(0, 2, None), slice(2, 6, None), slice(6, 10, None)]
        """
        units = -(-n // unit)
        start, stop = (min(n, units * r // self.count * unit) for r in (self.rank, self.rank + 1))
        return slice(start, stop)

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64: the same bits on each of them."""
        if self.count == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64, device="cpu")
        dist.all_reduce(total)
        return total.tolist()

    def from_first(self, make: Callable[[], Any]) -> Any:
        """The result of `make` on the first process, which alone calls it: a value that JSON can hold."""
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
        """The values of all processes in the order of their ranks, on each process.

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
"""The processes of a job that has only one."""

_JOB: ContextVar[Processes] = ContextVar("job", default=ALONE)


def job() -> Processes:
    """The processes of this job: `ALONE` outside of `joined`."""
    return _JOB.get()


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Inside the block the processes that `torchrun` started are connected; nested blocks share the connection.

    SIGTERM, which a launcher sends to the others when one process has ended, raises `Interrupted` on the main thread.
    After the block they stay connected for the next one, unless an error ends it.

    Yields:
        The processes; `ALONE` if there is only one.

    Raises:
        ValueError: If the environment is not as torchrun sets it.
        ConnectionError: If the processes cannot meet: another program has their port, or some are missing.
        ProcessLostError: On one process, if another was killed or does not answer.
        SystemExit: With the exit code, if another process has reported why the job ends. An error inside the block is
            thus raised on one process alone, the first that has one.
    """
    here = own_rank()
    if here.processes == 1 or job() is not ALONE:
        yield job()
        return
    import torch.distributed as dist

    if dist.is_initialized() and not _OPEN:
        raise ValueError("torch.distributed is in use already; leave it to pixelcnn, or unset WORLD_SIZE")
    try:
        connection = _OPEN.pop() if _OPEN else _Connection(here)
    except dist.DistError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = " ".join(str(error).split())
        raise ConnectionError(f"the {here.processes} processes cannot meet at {where}: {reason}") from None
    token = _JOB.set(Processes(here.rank, here.processes))
    try:
        with handling(_terminate, signal.SIGTERM):
            try:
                yield job()
                _OPEN.append(connection)
            except BaseException as error:
                with handling(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT):
                    verdict = connection.verdict(error)
                if not isinstance(verdict, ProcessLostError):  # a group that has lost a member may wait for ever
                    dist.destroy_process_group()
                if verdict is error:
                    raise
                raise verdict from (None if isinstance(verdict, SystemExit) else error)
    finally:
        _JOB.reset(token)


def leave(code: int) -> NoReturn:
    """Ends the process with an exit code; if several processes share the job, without the interpreter's clean-up.

    Gloo's threads can abort a process that cleans up while another is closing its connections.
    """
    if own_rank().processes > 1:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed when the process started
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _terminate(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted("stopped by SIGTERM", signal.SIGTERM)


@contextlib.contextmanager
def handling(handler: Any, *signums: int) -> Iterator[None]:
    """Inside the block signals have another handler; outside the main thread they keep theirs."""
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
    """The connection of a process to the others, which finds out how the job ends when something fails."""

    def __init__(self, here: Rank) -> None:
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        cuda = torch.cuda.is_available() and dist.is_nccl_available()
        if cuda and here.local < torch.cuda.device_count():
            torch.cuda.set_device(here.local)
        server, _, _ = next(rendezvous("env://", timeout=_TIMEOUT))
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"{restart}.{next(_JOINS)}", server)  # apart from what the last connection left there
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
        """The exception that ends a process with an error: that error, the loss that explains it, or a silent exit."""
        broken = isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None
        until = time.monotonic() + (_SEARCH if broken else 0)
        while (code := self._announced()) is None and not (gone := self._gone()) and time.monotonic() < until:
            time.sleep(0.05)
        if code is None:
            if broken or (gone and isinstance(error, KeyboardInterrupt)):  # a launcher ends the others by a signal
                error = ProcessLostError(self._loss(gone, str(error)))
            code = self._announce(exit_code(error))
        if code is not None or isinstance(error, ProcessLostError):  # this one is about to be sent SIGTERM
            time.sleep(_GRACE)
        return error if code is None else SystemExit(code)

    def _announced(self) -> int | None:
        """The exit code of the process that has announced an error; None if none has, or if the store is gone."""
        with contextlib.suppress(RuntimeError):
            if self._store.add("announced", 0):
                return int(self._store.get("exit code"))
        return None

    def _announce(self, code: int) -> int | None:
        """Announces this process's error, or returns the exit code of the process that has done so before."""
        with contextlib.suppress(RuntimeError):
            if self._store.add("announced", 1) > 1:
                return int(self._store.get("exit code"))
            self._store.set("exit code", str(code))
        return None

    def _gone(self) -> list[int]:
        """The ranks of the processes that have ended, among those whose process numbers are valid here."""
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

    def _loss(self, gone: list[int], message: str) -> str:
        who = f"process {' and '.join(map(str, gone))}" if gone else "a process"
        count = self._here.processes
        what = (
            "is gone: killed, perhaps for lack of memory" if gone else f"does not answer ({' '.join(message.split())})"
        )
        return f"{who} of the {count} (0..{count - 1}) {what}; the same command resumes from what was saved"


def _numbered_by() -> str:
    """Names the source of process numbers: this machine, or one of the containers on it that share its name."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def exit_code(error: BaseException) -> int:
    """The exit code of the command line after an error."""
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", 130))
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 2


_OPEN: list[_Connection] = []
"""The connection that the next `joined` takes over; none before the first."""
