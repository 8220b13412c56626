"""This revision beside an earlier one: drawing, a training step, likelihoods, the codec and completion, in turns.

    python benchmarks/revisions.py [--before f9710e9] [--rounds 7] [--only draw-1 step]

Each revision works in a process of its own, with the network of the Keras example, and they take turns. A ratio below 1
means that this revision is faster. The earlier one is checked out by `git worktree` and removed afterwards.
"""

from __future__ import annotations

import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    before: str = "f9710e9"
    """The other revision, as git names it."""
    rounds: int = 7
    """Turns of each; the median of their ratios counts."""
    seconds: float = 1.5
    """How long a job is repeated in a turn, at least."""
    only: tuple[str, ...] = ()
    """Names of jobs; by default all."""


def jobs() -> dict[str, Callable[[], object]]:
    """What is measured, in terms that both revisions know."""
    import torch

    import pixelcnn
    from pixelcnn.config import TrainConfig
    from pixelcnn.training.step import Stepper

    torch.manual_seed(0)
    model = pixelcnn.PixelCNN()
    images, _ = pixelcnn.datasets.mnist("test")
    known = torch.ones(28, 28, dtype=torch.bool)
    known[7:21] = False
    takes_config = "config" in inspect.signature(Stepper).parameters
    stepper = Stepper(pixelcnn.PixelCNN(), *([TrainConfig()] if takes_config else [None]))
    stream = pixelcnn.compress(model, images[:64])
    return {
        "draw-1": lambda: model.sample(1, seed=0),
        "draw-4": lambda: model.sample(4, seed=0),
        "draw-64": lambda: model.sample(64, seed=0),
        "draw-256": lambda: model.sample(256, seed=0),
        "exact-64": lambda: model.sample(64, exact=True, seed=0),
        "eager-64": lambda: model.sample(64, engine="eager", seed=0),
        "step": lambda: stepper.step(images[:128], 5e-4),
        "log_prob": lambda: model.log_prob(images[:256]),
        "compress": lambda: pixelcnn.compress(model, images[:64]),
        "decompress": lambda: pixelcnn.decompress(model, stream),
        "complete": lambda: model.complete(images[:4], known, particles=64, seed=0),
    }


def work() -> None:
    """A worker: reads lines of a job's name and seconds, answers with the seconds that the job took."""
    import torch

    known = jobs()
    print(*known, flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        times: list[float] = []
        end = time.perf_counter() + float(seconds)
        with torch.set_grad_enabled(name == "step"):
            while not times or time.perf_counter() < end:
                started = time.perf_counter()
                known[name]()
                times.append(time.perf_counter() - started)
        print(statistics.median(times), flush=True)


class Revision:
    """The worker of one revision.

    Args:
        source: Its folder of sources.
    """

    def __init__(self, source: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(source)},
        )  # fmt: skip
        self.jobs = self._answer().split()
        """The names of its jobs."""

    def seconds(self, job: str, least: float) -> float:
        """The median seconds of a job that is repeated for `least` seconds."""
        assert self._process.stdin is not None
        print(job, least, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """Ends the worker."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit("a worker ended: its message stands above")
        return line


def main(options: Options) -> None:
    """Measures and prints a table."""
    from machine import Machine
    from pixelcnn.devices import device_of
    from table import duration, markdown

    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder, "before")
        git = ["git", "-C", str(_ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(before), options.before], check=True)
        try:
            revisions = [Revision(before / "src"), Revision(_ROOT / "src")]
            rows = []
            for job in options.only or revisions[1].jobs:
                turns = [[each.seconds(job, options.seconds) for each in revisions] for _ in range(options.rounds + 1)]
                ratios = sorted(now / then for then, now in turns[1:])
                then, now = (statistics.median(column) for column in zip(*turns[1:], strict=True))
                spread = f"{ratios[0]:.2f} .. {ratios[-1]:.2f}"
                rows.append([job, duration(then), duration(now), f"{statistics.median(ratios):.3f}", spread])
                print(*rows[-1], sep="\t", file=sys.stderr)
            for each in revisions:
                each.close()
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    print(markdown(["job", options.before, "this revision", "ratio", "min .. max"], rows))
    machine = Machine.of(device_of("cpu"))
    print(f"\n{machine}, PyTorch {machine.pytorch}, commit {machine.commit}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    else:
        import tyro

        main(tyro.cli(Options, description=__doc__))
