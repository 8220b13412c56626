"""A mixture over scan orders, with its exact likelihood.

Part k sees a rearranged image, T_k x (`pixelcnn.orders`), and thus draws its pixels in an order of its own:

    p(x) = sum_k w_k p_k(T_k x),        log p(x) = logsumexp_k (log w_k + log p_k(T_k x)),

which is a distribution over images because every T_k merely permutes pixels. To draw an image, its part is drawn first.
The parts may have different networks, share one, or share one that is conditioned on the order as a class.

A mixture has no factors that are cheap in any one order: p(x_k | x_1 .. x_{k-1}) = p(x_1 .. x_k) / p(x_1 .. x_{k-1}),
and the probability of the first pixels in raster order is, for a part in another order, a sum over everything that this
order draws in between. So there is no log-likelihood map by sub-pixel, no completion under the mixture and no codec;
code that asks for one gets a one-line error.

References:
    | A deep and tractable density estimator (Uria, Murray, Larochelle, 2014), https://arxiv.org/abs/1310.1757:
    | ensembles over orders that share a network.
    | Locally masked convolution for autoregressive models (Jain, Abbeel, Pathak, 2020),
    | https://arxiv.org/abs/2006.12486: eight orders of images.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NoReturn, Self, cast

import torch
from torch import Tensor, nn

from pixelcnn import sampling
from pixelcnn.arguments import ArrayLike, integer
from pixelcnn.arithmetic.precision import Precision, check_precision
from pixelcnn.completion import Completion, CompletionOptions, checked_mask
from pixelcnn.config import OrderEnsembleConfig
from pixelcnn.density import DensityModel
from pixelcnn.models.base import AutoregressiveModel, model_of
from pixelcnn.operations import View
from pixelcnn.orders import ORDERS, is_transposed, rearranged, restored
from pixelcnn.randomness import part_uniforms

__all__ = ["OrderEnsemble"]

_NO_FACTORS = (
    "an OrderEnsemble mixes scan orders, so it has no factors in raster order; log_prob and sample are what it has"
)


class OrderEnsemble(AutoregressiveModel):
    """A mixture of models over scan orders.

    `log_prob`, `sample`, `sample_stream`, `save_pretrained` and `pixelcnn.evaluate` work as for any model. Methods that
    need the factors in raster order, `forward`, `log_prob_map` and `sample_steps`, raise a ValueError: see the module's
    docstring.

    Args:
        members: A model for each part, for images as the part sees them: height and width are swapped if the order
            scans columns. One model may serve as several parts, with the same parameters. It is not copied.
        orders: Each part's scan order, one of `pixelcnn.orders.ORDERS`.
        weights: Each part's weight, up to a common factor; equal by default.
        order_conditioned: Whether the members are conditioned on the order, as a class: its index in `ORDERS`. The
            ensemble then has no labels; otherwise it takes its members'.

    Raises:
        ValueError: If the members' shapes, levels, conditions or types do not fit each other and the orders.

    Examples:
        >>> import pixelcnn
        >>> rows, columns = pixelcnn.PixelCNN((1, 4, 6), filters=4), pixelcnn.PixelCNN((1, 6, 4), filters=4)
        >>> both = OrderEnsemble([rows, rows, columns], ["right-down", "left-up", "down-right"])
        >>> both.log_prob(both.sample(5)).shape
        torch.Size([5])
    """

    Config: ClassVar[type[Any]] = OrderEnsembleConfig
    config: OrderEnsembleConfig  # type: ignore[assignment]

    def __init__(
        self,
        members: Sequence[AutoregressiveModel],
        orders: Sequence[str],
        weights: Sequence[float] | None = None,
        *,
        order_conditioned: bool = False,
    ) -> None:
        if not members or not all(isinstance(member, AutoregressiveModel) for member in members):
            raise ValueError(f"members must be at least one model, got {members!r}")
        if any(isinstance(member, OrderEnsemble) for member in members):
            raise ValueError("members must be models of one order each, got an OrderEnsemble")
        networks = list(dict.fromkeys(members))
        if len(types := {network.dtype for network in networks}) > 1:
            raise ValueError(f"members must be of one type, got {', '.join(sorted(map(str, types)))}")
        c, h, w = members[0].image_shape
        across = bool(orders) and orders[0] in ORDERS and is_transposed(orders[0])
        config = OrderEnsembleConfig(
            image_shape=(c, w, h) if across else (c, h, w),
            levels=members[0].levels,
            networks=tuple(network.config for network in networks),
            members=tuple(networks.index(member) for member in members),
            orders=tuple(orders),
            weights=tuple(1.0 for _ in members) if weights is None else tuple(map(float, weights)),
            order_conditioned=order_conditioned,
        )
        super().__init__(cast(Any, config), members[0].likelihood)
        self.networks = nn.ModuleList(networks)

    @classmethod
    def from_config(cls, config: OrderEnsembleConfig, *, generator: torch.Generator | None = None) -> Self:
        """Builds the ensemble that a configuration describes, with initial weights from `generator`."""
        networks = [model_of(network, generator=generator) for network in config.networks]
        return cls(
            [networks[k] for k in config.members],
            config.orders,
            config.weights,
            order_conditioned=config.order_conditioned,
        )

    # Likelihood ------------------------------------------------------------------------------------------------

    def log_prob(
        self, images: ArrayLike, labels: ArrayLike | None = None, precision: Precision | None = None
    ) -> Tensor:
        """Exact log-likelihood of each image in nats: (N,); see `AutoregressiveModel.log_prob`."""
        images = self.checked_images(images).to(self.device)
        check_precision(precision, self.dtype)
        labels = None if labels is None else self.checked_labels(labels, len(images))
        total = math.fsum(self.config.weights)
        parts = [
            math.log(weight / total)
            + self._network(member).log_prob(
                rearranged(images, order).contiguous(), self._given(order, len(images), labels), precision
            )
            for member, order, weight in zip(self.config.members, self.config.orders, self.config.weights, strict=True)
        ]
        return torch.logsumexp(torch.stack(parts), 0)

    def network(self, view: View) -> NoReturn:  # noqa: ARG002 - there is none
        """Raises ValueError: an ensemble has several networks, each in its own order."""
        raise ValueError(_NO_FACTORS)

    # Sampling --------------------------------------------------------------------------------------------------

    def part_of(self, seed: int, first: int, n: int) -> Tensor:
        """Which part draws images `first .. first+n-1` of a seed, int64 (n,) on the CPU.

        A function of (seed, image): the first part whose cumulative weight exceeds the image's uniform number
        (`pixelcnn.randomness.part_uniforms`).
        """
        total = math.fsum(self.config.weights)
        ends = [end / total for end in itertools.accumulate(self.config.weights)][:-1]
        uniforms = part_uniforms(seed, integer("first", first, 0, 2**62), integer("n", n, 0))
        return (uniforms[:, None] >= torch.tensor(ends, dtype=torch.float64, device="cpu")).sum(1)

    def draw_by_parts(
        self, draw: sampling.Draw, *, engine: str, progress: bool, drawn: Callable[[int], object] | None
    ) -> Tensor:
        """`pixelcnn.sampling.sample` for a mixture: image i is image i of its part's member, put back in raster order.

        Each network draws every image between the first and the last of its own: a network shared by all parts draws
        none in vain, while each of several networks draws about as many as a model on its own.
        """
        which = self.part_of(draw.seed, draw.first, draw.n)
        images = sampling.blank(self, draw.n)
        orders = torch.tensor([ORDERS.index(order) for order in self.config.orders], device="cpu")[which]
        members = torch.tensor(self.config.members, device="cpu")[which]
        for member in sorted(set(members.tolist())):
            own = (members == member).nonzero()[:, 0]
            start, stop = int(own[0]), int(own[-1]) + 1
            part = draw.part(start, stop)
            if self.config.order_conditioned:
                given = torch.where(members == member, orders, orders[start])[start:stop]  # others are discarded
                part = replace(part, labels=given)
            found = sampling.sample(
                self._drawn_from(member),
                part,
                engine=engine,
                progress=progress,
                drawn=drawn if len(self.networks) == 1 else None,
            )
            for order in sorted(set(orders[own].tolist())):
                indices = own[orders[own] == order].to(self.device)
                images[indices] = restored(found[indices - start], ORDERS[order])
            if drawn is not None and len(self.networks) > 1:
                drawn(len(own))
        return images

    def engines(self, engine: str, precision: Precision | None) -> set[type[sampling.Sampler]]:
        """The classes that an engine's name stands for, for all networks; see `pixelcnn.sampling.engine_of`."""
        networks = map(self._drawn_from, range(len(self.networks)))
        return {sampling.engine_of(network, engine, precision) for network in networks}

    def prepared(self) -> OrderEnsemble:  # type: ignore[override]
        """The same ensemble with members that draw in exact arithmetic, which provides no codec and no likelihood."""
        ensemble = copy.copy(self)
        ensemble.exact = True
        return ensemble

    def _drawn_from(self, k: int) -> DensityModel:
        network = self._network(k)
        return network.prepared() if self.exact else network

    # Completion ------------------------------------------------------------------------------------------------

    def complete_with(
        self, options: CompletionOptions, images: ArrayLike, known: ArrayLike, labels: ArrayLike | None
    ) -> Completion:
        """Completes each image by one part: the one in whose order the most known sub-pixels come first.

        If all of them do, the draws are exact for that part. They are not draws of the mixture, whose conditional would
        weight the parts by the probability each gives the known sub-pixels; the log-evidence, too, is the part's.
        """
        images = self.checked_images(images)
        known = checked_mask(known, images.shape)
        labels = None if labels is None else self.checked_labels(labels, len(images))
        found = [self._part_for(mask) for mask in known]
        ends: dict[int, Completion] = {}
        for part in sorted(set(found)):
            own = [k for k, other in enumerate(found) if other == part]
            order = self.config.orders[part]
            ends[part] = self._network(self.config.members[part]).complete_with(
                options,
                rearranged(images[own], order).contiguous(),
                rearranged(known[own], order).contiguous(),
                self._given(order, len(own), None if labels is None else labels[own]),
            )
        places = [(part, found[:k].count(part)) for k, part in enumerate(found)]
        accepted = [ends[part].accepted for part in found]
        return Completion(
            images=torch.stack([restored(ends[p].images[k], self.config.orders[p]) for p, k in places]),
            ess=torch.stack([ends[p].ess[k] for p, k in places]),
            log_evidence=torch.stack([ends[p].log_evidence[k] for p, k in places]),
            accepted=math.fsum(accepted) / len(accepted),
        )

    def _part_for(self, known: Tensor) -> int:
        """The part with the fewest known sub-pixels after its first unknown one; the first of them if several tie."""
        late = []
        for order in self.config.orders:
            in_order = rearranged(known, order).permute(1, 2, 0).flatten()
            late.append(int(in_order.sum() - in_order.cumprod(0).sum()))
        return late.index(min(late))

    # Helpers ---------------------------------------------------------------------------------------------------

    def _network(self, k: int) -> AutoregressiveModel:
        return cast(AutoregressiveModel, self.networks[k])

    def _given(self, order: str, n: int, labels: Tensor | None) -> Tensor | None:
        return torch.full((n,), ORDERS.index(order), device="cpu") if self.config.order_conditioned else labels
