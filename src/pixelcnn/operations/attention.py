"""Attention over all earlier pixels, wherever they lie in the image.

    a(p) = sum over p' < p of w(p, p') v(p'),      w(p, p') = exp(q(p) k(p') / sqrt(d)) / sum over p'' < p of the same

where p' < p are the pixels strictly before p in raster order. The first pixel has none, and a is exactly 0 there.
Queries, keys and values have several heads of d features, each with a sum of its own. Queries, and so a, may also have
colour groups: the queries of all channels attend to the same keys, which know all channels of each earlier pixel.

Attention does not know where a pixel lies, so a table with one entry per image row and one per image column is added to
queries and keys (`pixelcnn.operations.position`), a linear function of the position's one-hot coordinates.

References:
    | Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762
    | PixelSNAIL: An Improved Autoregressive Generative Model (Chen et al., 2018), https://arxiv.org/abs/1712.09763
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic, grid
from pixelcnn.operations.base import Front, Node, Operation, Packer, Part, Whole

__all__ = ["MAX_EXACT_PIXELS", "Attention", "attend"]

MAX_EXACT_PIXELS = 4096
"""Largest number of pixels for which attention's sums on the grid are exact."""
_SHARE_BITS = 16  # of a pixel's weight on the grid: the sum over 2^12 pixels of values below 2^13 is exact


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention(Operation):
    """Attention of a query to the keys and values of all earlier pixels.

    Inputs: the query (..., groups * heads * d), in `groups` colour groups; keys and values (..., heads * d), in one
    colour group, which may depend on all channels of their own pixel. The result has the query's shape and groups.
    """

    heads: int
    opcode: ClassVar[int] = 8

    def features(self, *inputs: int) -> int:
        """As many as the values have, for each colour group."""
        if inputs[1] != inputs[2] or inputs[0] != self.groups * inputs[2] or inputs[2] % self.heads:
            raise TypeError(
                f"attention of {self.heads} heads in {self.groups} colour groups must be given that many times as many "
                f"features as keys and as values, multiples of the heads, got {inputs}"
            )
        return self.groups * inputs[2]

    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """(N, H, W, groups * heads * d)."""
        arithmetic = view.arithmetic
        # One may be the same for all pixels or images.
        shape = torch.broadcast_shapes(*(x.shape[:3] for x in inputs))  # type: ignore[no-untyped-call]
        inputs = tuple(x.expand(*shape, -1) for x in inputs)
        query = inputs[0]
        n, h, w, features = query.shape
        size = features // (self.groups * self.heads)
        q, k, v = (arithmetic.operand(x.reshape(n, h * w, -1, size)).transpose(1, 2) for x in inputs)
        if arithmetic.exact:
            k, v = k.repeat(1, self.groups, 1, 1), v.repeat(1, self.groups, 1, 1)
            found = q.new_zeros(q.shape)  # (N, heads, H * W, d)
            for p in range(1, h * w):  # one row of the triangle at a time
                found[:, :, p : p + 1] = attend(arithmetic, q[:, :, p : p + 1], k[:, :, :p], v[:, :, :p])
            return found.transpose(1, 2).reshape(query.shape)
        # pixel 2 attends to pixel 1, pixel 3 to pixels 1 and 2: after shifting by one, the mask is the usual triangle
        q, k, v = q[:, :, 1:], k[:, :, :-1].repeat(1, self.groups, 1, 1), v[:, :, :-1].repeat(1, self.groups, 1, 1)
        if arithmetic.precision == "bf16":
            products = q @ k.transpose(2, 3)
            later = torch.ones(products.shape[2:], dtype=torch.bool, device=products.device).triu(1)
            found = _weighted(arithmetic, products.masked_fill(later, -torch.inf), v, size)
        else:
            found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.pad(found, (0, 0, 1, 0)).transpose(1, 2).reshape(query.shape)

    def above(self, scale: int) -> float:
        """All rows."""
        return math.inf

    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """One position after another: each sees one pixel more."""
        arithmetic, n = front.arithmetic, front.n
        groups = front.part(node, group).groups
        query = front.operand(node.inputs[0], node, front.part(node, group, node.inputs[0]).columns)
        keys, values = (front.before(value, self.heads) for value in node.inputs[1:])
        positions = front.positions(node)

        def compute() -> Tensor:
            asked, found = arithmetic.operand(query()).expand(-1, n, -1), []
            for k, pixel in enumerate(range(*positions().indices(2**62))):
                one = torch.unflatten(asked[k], -1, (groups, self.heads, -1)).transpose(1, 2).flatten(0, 1)
                one = attend(arithmetic, one, keys(pixel), values(pixel))  # (N * heads, groups, d)
                found.append(torch.unflatten(one, 0, (n, self.heads)).transpose(1, 2).flatten(1))
            return torch.stack(found) if found else asked

        return compute

    def needs(self, node: Node, height: int, width: int, slope: int) -> Iterator[tuple[int, int]]:
        """Keys and values of all pixels to the left, and of all rows above up to their right end."""
        yield node.inputs[0], 0
        above = width - 1 - slope if height > 1 else -1
        for value in node.inputs[1:]:
            yield value, max(-1, above)

    def by_rows(self, node: Node, rows: Iterable[int]) -> bool:
        """Never: it sees the current row."""
        return False

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """Products are multiples of 2^-24; the weights in a mean have 16 bits, values 12."""
        products = bounds[0] * bounds[1] * features[1] / 4
        return bounds[2], max(products, bounds[2] * MAX_EXACT_PIXELS * 4)

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """The number of heads."""
        return {"count": self.heads}


def attend(arithmetic: Arithmetic, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of some pixels to others that all of them see.

    On the grid a score is rounded, multiplied by d^-0.5 (itself rounded like a weight), and rounded again; the
    exponentials, the largest of which is 1, are kept to 16 bits.

    Args:
        arithmetic: Defines what is rounded, and how.
        query: (..., T, d), already rounded as an operand.
        keys: (..., P, d), likewise; P may be 0.
        values: (..., P, d), likewise.

    Returns:
        (..., T, d); zeros for P = 0.
    """
    size = query.shape[-1]
    if not arithmetic.exact:
        return _weighted(arithmetic, query @ keys.transpose(-1, -2), values, size)
    if keys.shape[-2] == 0:
        return torch.zeros_like(query)
    scale = round(size**-0.5 * 2.0**grid.WEIGHT_BITS) * 2.0**-grid.WEIGHT_BITS
    scores = grid.rounded(grid.clamped(query @ keys.transpose(-1, -2)) * scale)
    shares = grid.rounded(grid.exp_negative(scores.amax(-1, keepdim=True) - scores), _SHARE_BITS)
    return grid.rounded(shares @ values / shares.sum(-1, keepdim=True))


def _weighted(arithmetic: Arithmetic, products: Tensor, values: Tensor, size: int) -> Tensor:
    """The softmax-weighted mean of values; scaled only after the products, so that their operands stay rounded."""
    return arithmetic.operand((products * size**-0.5).softmax(-1)) @ values
