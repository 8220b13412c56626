"""Runs that are killed, again and again: a program, so that PyTorch is imported once and every run is a fork of it.

    python killed.py FOLDER KILLS SEED

It makes one undisturbed run in FOLDER/undisturbed. Then it makes runs in FOLDER/killed-N and ends them with SIGKILL,
KILLS times in all, starting each anew in its folder after each kill, in turn

- inside a save: before, after, or (for writes) in the middle of one of the operations by which a checkpoint appears;
  all of them are taken in turn, in an order that SEED decides, and what was not synchronised is torn in half;
- at a random moment of training, validating, drawing or saving.

A run that has been killed as often as it may be is let go on to its end. On standard output: a JSON object for each
kill and each end. One thread everywhere: a fork must not have lost others.
"""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import matplotlib.backends.backend_agg
import matplotlib.font_manager
import torch
import torch._dynamo

import pixelcnn.sampling.native
from pixelcnn.training import run as loop
from pixelcnn.training.step import Stepper
from tiny import TINY, run

PRELOADED = (torch._dynamo, matplotlib.backends.backend_agg, matplotlib.font_manager, pixelcnn.sampling.native)
"""What a run imports on its way, so that a fork need not."""
INTERVAL = 3
"""Steps between two checkpoints: the tests' clock ticks once a step."""
CONFIG = dataclasses.replace(TINY, epochs=4, checkpoint_seconds=INTERVAL, sample_images=2)
PER_RUN = 10
"""How often one run is killed."""


class Operations:
    """Counts the operations of a save and, at one of them, ends the process.

    Args:
        note: Tells the parent something.
        fatal: Number of the operation and when to die, "before", "within" or "after" it, once one save is through.
    """

    def __init__(self, note, fatal):
        self.note, self.fatal = note, fatal
        self.saves = self.count = 0
        self.inside = False
        for module, name in ((os, "mkdir"), (os, "fsync"), (os, "replace"), (os, "rename"), (shutil, "rmtree")):
            self._wrap(module, name)
        save = loop.save_checkpoint

        def counted(*args, **options):
            self.saves, self.count, self.inside = self.saves + 1, 0, True
            path = save(*args, **options)
            self.inside = False
            self.note(saved=args[1].step, operations=self.count)
            return path

        loop.save_checkpoint = counted

    def _wrap(self, module, name):
        real = getattr(module, name)

        def wrapped(*args, **options):
            if not self.inside:
                return real(*args, **options)
            number, self.count = self.count, self.count + 1
            when = self.fatal[1] if self.saves >= 2 and self.fatal and self.fatal[0] == number else None
            if when == "within":
                _half(name, args[0])
            if when in ("before", "within"):
                self._die(number, name, when)
            result = real(*args, **options)
            if when == "after":
                self._die(number, name, when)
            return result

        setattr(module, name, wrapped)

    def _die(self, number, name, when):
        self.note(died=f"{when} {name}, operation {number}")
        os.kill(os.getpid(), signal.SIGKILL)


def _half(name, target):
    """What may be left of an operation that did not end: a file that is half on the disk, a folder half deleted."""
    if name == "fsync" and (size := os.fstat(target).st_size):
        with contextlib.suppress(OSError):  # a folder
            os.ftruncate(target, size // 2)
    elif name == "rmtree" and Path(target).is_dir():
        for file in sorted(Path(target).iterdir())[:1]:
            file.unlink()


def child(out, pipe, fatal):
    """Trains in `out`, noting what happens to the parent, until it ends or dies."""

    def note(**values):
        os.write(pipe, (json.dumps(values) + "\n").encode())

    Operations(note, fatal)
    steps = [0]
    loop.time = SimpleNamespace(monotonic=lambda: steps[0])
    step = Stepper.step

    def noted(self, *args):
        note(begins=self.steps)
        result = step(self, *args)
        steps[0] += 1
        note(done=self.steps)
        return result

    Stepper.step = noted
    run(out, CONFIG)


def start(out, fatal=None, seconds=None):
    """Forks a run; kills it after so many seconds, if it has not ended. Returns its status and notes."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            child(out, writing, fatal)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as notes:
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
        text = notes.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), [json.loads(line) for line in text.splitlines()]


def main(folder, kills, seed):
    """See the module."""
    torch.set_num_threads(1)
    chooser = random.Random(seed)
    began = time.monotonic()
    code, notes = start(folder / "undisturbed")
    whole = time.monotonic() - began
    assert code == 0
    most = max(note["operations"] for note in notes if "operations" in note)
    fatal = [(k, when) for k in range(most) for when in ("before", "within", "after")]
    chooser.shuffle(fatal)

    done = n = turn = 0
    while done < kills:
        last = min(kills, done + PER_RUN)
        reached, code = 0, None  # steps whose end was noted, in any process so far
        while code != 0:
            inside = done < last and done % 2 == 0
            at = fatal[turn % len(fatal)] if inside else None
            turn += inside
            seconds = chooser.uniform(0, 0.2 * whole) if done < last and not inside else None
            code, notes = start(folder / f"killed-{n}", at, seconds)
            if code not in (0, -signal.SIGKILL):
                return 1
            begins = [note["begins"] for note in notes if "begins" in note]
            died = [note["died"] for note in notes if "died" in note]
            report = {"run": n, "code": code, "reached": reached, "resumed": begins[0] if begins else None}
            print(json.dumps({**report, "died": died[0] if died else None}), flush=True)
            reached = max([reached, *(note["done"] for note in notes if "done" in note)])
            done += code != 0
        n += 1
    return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(Path(arguments[0]), int(arguments[1]), int(arguments[2])))
