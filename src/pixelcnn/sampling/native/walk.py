"""The walk in compiled code: a batch of images filled step by step, each thread a share of them.

See `pixelcnn.sampling.walk`; how levels are chosen is what `struct share` says in engine.c: by uniform numbers, with
guidance or not, but for known ones; or, in exact arithmetic, by a stream that is decoded. Threads share nothing but the
weights, so there is nothing to wait for, and since every sum has one order, image i is the same bit for bit whatever
the batch and the number of threads. The symbols of a stream have one order, though: threads that decode together are a
team, which waits after every step while the first one takes the symbols; little against the network.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pixelcnn.arithmetic import grid
from pixelcnn.randomness import mixed_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.native.compiler import native_library
from pixelcnn.sampling.native.layout import Numbers, Plan, plan_of
from pixelcnn.sampling.native.packing import packed
from pixelcnn.sampling.native.structures import CoderStruct, ShareStruct, TeamStruct

__all__ = ["NativeWalk", "library_of"]


def library_of(model: Autoregressive) -> ctypes.CDLL:
    """The compiled code that a model needs.

    Raises:
        NativeError: If there is none.
    """
    library = native_library(model.dtype, exact=model.exact)
    if model.exact:
        library.encode.restype = ctypes.c_int64
        library.distribution_size.restype = ctypes.c_int64
        library.set_tables(*(ctypes.c_void_p(table.data_ptr()) for table in grid.tables()))
    return library


@dataclass(frozen=True)
class _Member:
    """A share of the images, which one thread fills."""

    start: int
    plan: Plan
    arena: Numbers


class NativeWalk:
    """A batch of n images under way.

    Args:
        model: A model of which `pixelcnn.sampling.native.why_not_native` says None; its weights are copied.
        n: Images of the batch.
        conditional: Whether they are conditioned on something.
        copies: 2 if each has an unconditional copy, for guidance.
        slope: Of the wavefront, by default the smallest that the network allows.
        threads: How many fill the batch, at most one for each image.
        team: In exact arithmetic, whether they fill it together, symbol after symbol.
    """

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        *,
        conditional: bool = False,
        copies: int = 1,
        slope: int | None = None,
        threads: int = 1,
        team: bool = False,
    ) -> None:
        self.library = library_of(model)
        network = packed(model, self.library.panel(), slope, conditional=conditional)
        self.wavefront, self.prelude = network.schedule.wavefront, network.schedule.prelude
        count = min(threads, n)
        bounds = itertools.pairwise(k * n // count for k in range(count + 1))
        plans = [(start, plan_of(network, stop - start, copies)) for start, stop in bounds]
        self._members = [_Member(start, plan, plan.arena()) for start, plan in plans]
        self._n = n
        self._exact = model.exact
        self._room = max(plan.rows for _, plan in plans)
        size = self.library.distribution_size() if model.exact else 0
        self._distributions = np.zeros((count, self._room * size), dtype=np.uint8)
        self._members_of_team = count if team else 1

    def begin(
        self,
        images: Tensor,
        condition: Tensor | None = None,
        *,
        seed: int = 0,
        first: int = 0,
        temperature: float = 1.0,
        guidance: float = 1.0,
        known: Tensor | None = None,
        evidence: Tensor | None = None,
        coder: CoderStruct | None = None,
    ) -> None:
        """Begins a batch.

        Args:
            images: Contiguous uint8 (n, C, H, W), filled by the steps that follow.
            condition: What each image is conditioned on, (n, D); None for nothing.
            seed: Of the uniform numbers.
            first: Index of the first image.
            temperature: See `AutoregressiveModel.sample`, and so for `guidance`.
            guidance: See above.
            known: bool (C, H, W), which levels the images bring along; None for none.
            evidence: float64 (n,), to which the log-probability of known levels is added.
            coder: What is decoded, or where the frequencies of given levels go.
        """
        assert len(images) == self._n, images.shape
        assert images.is_contiguous()
        subpixels, size = images[0].numel(), self._members_of_team
        self._shares = (ShareStruct * len(self._members))()
        teams = [
            TeamStruct(
                members=size,
                shares=ctypes.addressof(self._shares[k]),
                coder=None if coder is None else ctypes.addressof(coder),
                found=self._distributions[k].ctypes.data,
                room=self._room,
            )
            for k in range(0, len(self._members), size)
        ]
        for k, member in enumerate(self._members):
            plan, start = member.plan, member.start
            plan.begin(member.arena, None if condition is None else condition[start : start + plan.images])
            self._shares[k] = ShareStruct(
                arena=member.arena.ctypes.data, images=images.data_ptr() + start * subpixels,
                count=plan.images, n=plan.n, first=first + start, root=mixed_seed(seed),
                temperature=temperature, guidance=guidance,
                known=None if known is None else known.data_ptr(),
                evidence=None if evidence is None else evidence.data_ptr() + start * evidence.itemsize,
                team=ctypes.addressof(teams[k // size]) if self._exact else None,
            )  # fmt: skip
        self._kept = images, known, evidence, coder, teams  # as long as compiled code has their addresses
        shares = zip(self._members, self._shares, strict=True)
        self.jobs = [(ctypes.byref(member.plan.struct), ctypes.byref(share)) for member, share in shares]
        """What compiled code is given of each thread's share: its `struct plan` and `struct share`."""

    def run(self, start: int, stop: int, member: int = 0) -> None:
        """Takes one thread's share of the steps start .. stop - 1; what comes before step 0 is taken with it."""
        self.library.run_steps(*self.jobs[member], ctypes.c_int64(start or -self.prelude), ctypes.c_int64(stop))

    def copy(self, other: NativeWalk, step: int, sources: Tensor, targets: Tensor) -> None:
        """Images `targets` become what those of another walk are at `sources`, int64, after a step; of one thread
        each.
        """
        sources, targets = sources.contiguous(), targets.contiguous()
        addresses = ctypes.c_void_p(sources.data_ptr()), ctypes.c_void_p(targets.data_ptr())
        jobs = *self.jobs[0], *other.jobs[0]
        self.library.copy_images(*jobs, ctypes.c_int64(step), *addresses, ctypes.c_int64(len(sources)))
