"""The competitors by name, and a worker process seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

from machine import ROOT

__all__ = ["COMPETITORS", "TRAINERS", "Absent", "Name", "Trainer", "Worker"]

Name = Literal["keras-tensorflow", "keras-jax", "pytorch", "pytorch-compile", "raster", "eager", "fast"]
COMPETITORS: tuple[Name, ...] = get_args(Name)
"""Those that draw images, from the slowest to ours."""

Trainer = Literal["keras-tensorflow", "keras-jax", "pytorch", "ours"]
TRAINERS: tuple[Trainer, ...] = get_args(Trainer)
"""Those that train."""


class Absent(Exception):  # noqa: N818 (not an error: the table says so and goes on)
    """A competitor cannot run here; says why."""


class Worker:
    """A competitor's process: idle until it is told to measure, and gone when it is left.

    Args:
        command: Its program, which speaks as `benchmarks/worker.py` does.
        environment: Variables that it has besides this process's.

    Raises:
        Absent: If it does not become ready.
    """

    def __init__(self, command: Sequence[object], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **environment},
        )
        try:
            self.about = self._answer()
            """`about`, `parameters`, `step_seconds`, `prepare_seconds`; one that samples also `steps`, `whole`."""
        except BaseException:
            self.__exit__()
            raise

    @classmethod
    def sampling(cls, name: Name, *, batch: int, model: str, device: str, keras_python: Path) -> Self:
        """One that draws images.

        Args:
            name: One of `COMPETITORS`.
            batch: Images.
            model: A shipped model's name or a model's folder; the baseline always runs the seed network.
            device: Device of the PyTorch competitors.
            keras_python: The interpreter of the baseline's environment.

        Raises:
            Absent: If it does not become ready.
        """
        if name.startswith("keras-"):
            return cls(*_baseline(name, "sample.py", batch, device, keras_python))
        command = [sys.executable, ROOT / "benchmarks/worker.py", name, "--batch", batch]
        return cls([*command, "--model", model, "--device", device], {})

    @classmethod
    def training(cls, name: Trainer, *, batch: int, device: str, keras_python: Path) -> Self:
        """One that trains the seed network; arguments and errors as for `sampling`."""
        if name.startswith("keras-"):
            return cls(*_baseline(name, "train.py", batch, device, keras_python))
        command = [sys.executable, ROOT / "benchmarks/training_worker.py", name, "--batch", batch]
        return cls([*command, "--device", device], {})

    def measure(self, steps: int) -> dict[str, Any]:
        """`seconds` that so many steps took and `peak_bytes` so far.

        Raises:
            Absent: If the process ended.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended; the answer says why
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        raise Absent(said[-1] if said and code > 0 else f"it ended with code {code}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()  # on which it ends by itself and clears its temporary files
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()


def _baseline(name: str, program: str, batch: int, device: str, python: Path) -> tuple[list[object], dict[str, str]]:
    """Command and environment of the Keras program of that name."""
    on_gpu = not device.startswith("cpu")
    if on_gpu and name != "keras-jax":
        raise Absent("on a GPU the baseline is Keras on JAX")
    if not python.exists():
        raise Absent("the baseline's environment is not installed; `make bench` does it")
    environment = {"KERAS_BACKEND": name.removeprefix("keras-"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment |= {"JAX_PLATFORMS": "cuda" if on_gpu else "cpu"}
    return [python, ROOT / "benchmarks/keras" / program, "--batch", batch], environment
