"""The report of a verification: what was tested, and what was found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Check", "Verification"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One property, and whether the network has it."""

    name: str
    """What is tested: "repeatable", "batch", "mode", "causal", "trained", "normalised", "enumerated" or "engines"."""
    ok: bool | None
    """Whether the network passed; None if it could not be tested."""
    message: str
    """What was found, in one line."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)  # tensors have no truth value
class Verification:
    """What `verify` found; shown, it is a report."""

    subject: str
    """What was verified, in one line."""
    checks: tuple[Check, ...]
    """All that was tested."""
    pixel: tuple[int, int]
    """Row and column of the pixel whose view `seen` shows."""
    seen: Tensor | None
    """bool (H, W): which pixels the distribution of `pixel` depends on; None if that could not be tested. Those before
    it in raster order that it does not see are beyond its receptive field, or its blind spot."""
    seconds: float
    """How long it took, in seconds."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.ok is False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values: the fields, checks as dictionaries, `seen` as lists, and `ok`."""
        seen = None if self.seen is None else self.seen.tolist()
        checks = [dataclasses.asdict(check) for check in self.checks]
        return {"subject": self.subject, "ok": self.ok, "checks": checks, "pixel": list(self.pixel), "seen": seen,
                "seconds": self.seconds}  # fmt: skip

    def __str__(self) -> str:
        words = {True: "ok", False: "FAILED", None: "skipped"}
        lines = [self.subject]
        lines += [f"  {words[check.ok]:8}{check.name:12}{check.message}" for check in self.checks]
        if self.seen is not None:
            lines += self._map(self.seen)
        verdict = f"{len(self.failed)} of {len(self.checks)} checks failed" if self.failed else "all checks passed"
        return "\n".join([*lines, f"{verdict} in {self.seconds:.1f} s"])

    def __repr__(self) -> str:
        return str(self)

    def _map(self, seen: Tensor) -> list[str]:
        row, column = self.pixel
        rows, columns = seen.shape

        def sign(i: int, j: int) -> str:
            if (i, j) == self.pixel:
                return "@"
            return "x" if seen[i, j] else "." if (i, j) < self.pixel else " "

        drawn = ["".join(sign(i, j) for j in range(columns)).rstrip() for i in range(rows)]
        shown = [row, *(k for k in range(rows) if "x" in drawn[k])]
        earlier = row * columns + column
        unseen = earlier - int(seen.flatten()[:earlier].sum())
        lines = [f"  what the pixel in row {row}, column {column} (@) sees (x), of the pixels before it:"]
        lines += [f"    {line}" for line in drawn[min(shown) : max(shown) + 1]]
        return [*lines, f"    it does not see (.) {unseen} of {earlier}"]

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"
