"""The walk in compiled code: a batch of images is filled step by step, each thread filling a share of them.

See `pixelcnn.sampling.walk`; `struct share` in engine.c determines how levels are chosen: by uniform numbers, with or
without guidance, except for known levels; or, in exact arithmetic, from a stream that is decoded. Threads share only
the weights, so they never wait for each other, and since every sum has a fixed order, image i is the same bit for bit
whatever the batch size and the number of threads. The symbols of a stream are sequential, however: threads that decode
together form a team, which waits after every step while its first thread reads the symbols; this takes little time
compared with the network. A team of more threads than images divides the front's rows instead of the images.
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
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.native.compiler import native_library
from pixelcnn.sampling.native.layout import Numbers, Plan, plan_of
from pixelcnn.sampling.native.packing import packed
from pixelcnn.sampling.native.structures import CoderStruct, ShareStruct, TeamStruct
from pixelcnn.threads import alone

__all__ = ["NativeWalk", "library_of"]


def library_of(model: Autoregressive) -> ctypes.CDLL:
    """The compiled library that a model needs.

    Raises:
        NativeError: If there is none.
    """
    library = native_library(model.dtype, model.levels, exact=model.exact)
    if model.exact:
        library.distribution_size.restype = ctypes.c_int64
        library.set_tables(*(ctypes.c_void_p(table.data_ptr()) for table in grid.tables()))
    return library


@dataclass(frozen=True)
class _Member:
    """What one thread fills: some of the images or, of all, a part of the front's rows."""

    start: int
    plan: Plan
    arena: Numbers
    part: int = 0
    parts: int = 1


class NativeWalk:
    """A batch of n images being filled.

    Args:
        model: A model for which `pixelcnn.sampling.native.why_not_native` returns None; its weights are copied.
        n: Number of images in the batch.
        conditional: Whether they are conditioned on something.
        copies: 2 if each has an unconditional copy, for guidance.
        slope: Slope of the wavefront, by default the smallest that the network allows.
        threads: How many threads fill the batch, at most one per image, or in a team one per row of the front.
        team: In exact arithmetic, whether they fill it together, symbol by symbol.
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
        by_rows = team and n < threads
        if by_rows:
            plan = plan_of(network, n, copies)
            count = min(threads, max(len(self.wavefront.rows(step)) for step in range(self.wavefront.steps)))
            by_rows = n < count
        if by_rows:
            arena = plan.arena(count)
            self._members = [_Member(0, plan, arena, part, count) for part in range(count)]
        else:
            count = min(threads, n)
            bounds = itertools.pairwise(k * n // count for k in range(count + 1))
            plans = [(start, plan_of(network, stop - start, copies)) for start, stop in bounds]
            self._members = [_Member(start, plan, plan.arena()) for start, plan in plans]
        self.threads = count
        """How many threads fill the batch."""
        self._n = n
        self._exact = model.exact
        self._room = max(member.plan.rows for member in self._members)
        size = self.library.distribution_size() if model.exact else 0
        self._distributions = np.zeros((count, self._room * size), dtype=np.uint8)
        self._members_of_team = count if team else 1

    def begin(
        self,
        images: Tensor,
        condition: Tensor | None,
        draw: Draw,
        *,
        known: Tensor | None = None,
        evidence: Tensor | None = None,
        coder: CoderStruct | None = None,
    ) -> None:
        """Begins a batch.

        Args:
            images: Contiguous uint8 (n, C, H, W), filled in by the steps that follow.
            condition: What each image is conditioned on, (n, D); None for nothing.
            draw: Which images they are, and from which distribution.
            known: bool (C, H, W), which levels are already in `images`; None for none.
            evidence: float64 (n,), to which the log-probability of known levels is added; of all, without `known`.
            coder: The payload to decode, or where to write the frequency intervals of given levels.
        """
        assert len(images) == draw.n == self._n, images.shape
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
        with alone():  # a team of PyTorch's would go on spinning beside the threads of the walk
            for member in (each for each in self._members if each.part == 0):
                start, stop = member.start, member.start + member.plan.images
                member.plan.begin(member.arena, None if condition is None else condition[start:stop], member.parts)
        for k, member in enumerate(self._members):
            plan, start = member.plan, member.start
            self._shares[k] = ShareStruct(
                arena=member.arena.ctypes.data, scratch=plan.scratch(member.arena, member.part).ctypes.data,
                images=images.data_ptr() + start * subpixels * images.itemsize,
                count=plan.images, n=plan.n, first=draw.first + start, root=mixed_seed(draw.seed),
                temperature=draw.temperature, guidance=draw.guidance,
                known=None if known is None else known.data_ptr(),
                evidence=None if evidence is None else evidence.data_ptr() + start * evidence.itemsize,
                team=ctypes.addressof(teams[k // size]) if self._exact else None,
                part=member.part, parts=member.parts,
            )  # fmt: skip
        self._kept = images, known, evidence, coder, teams  # kept alive while compiled code has their addresses
        shares = zip(self._members, self._shares, strict=True)
        self.jobs = [(ctypes.byref(member.plan.struct), ctypes.byref(share)) for member, share in shares]
        """The arguments for compiled code, per thread: its `struct plan` and `struct share`."""

    def run(self, start: int, stop: int, member: int = 0) -> None:
        """Runs one thread's share of the steps start .. stop - 1; the prelude is run together with step 0."""
        self.library.run_steps(*self.jobs[member], ctypes.c_int64(start or -self.prelude), ctypes.c_int64(stop))

    def copy(self, other: NativeWalk, step: int, sources: Tensor, targets: Tensor) -> None:
        """Copies images `sources` of another walk over images `targets`, int64, after a step; both walks must have one
        thread.
        """
        sources, targets = sources.contiguous(), targets.contiguous()
        addresses = ctypes.c_void_p(sources.data_ptr()), ctypes.c_void_p(targets.data_ptr())
        jobs = *self.jobs[0], *other.jobs[0]
        self.library.copy_images(*jobs, ctypes.c_int64(step), *addresses, ctypes.c_int64(len(sources)))
