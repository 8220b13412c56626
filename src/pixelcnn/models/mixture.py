"""Mixtures of models that each see a transformed image, with their exact likelihood.

Part k sees T_k x, with its positions and perhaps its levels permuted (`pixelcnn.symmetries`):

    p(x) = sum_k w_k p_k(T_k x),        log p(x) = logsumexp_k (log w_k + log p_k(T_k x)),

which is a distribution over images because every T_k is a permutation of all images. To draw an image, its part is
drawn first. Mixtures over scan orders (`pixelcnn.models.ensemble`) and over symmetries (`pixelcnn.models.symmetrised`)
are the two cases.

A mixture has no factors that are cheap in any one order: p(x_k | x_1 .. x_{k-1}) = p(x_1 .. x_k) / p(x_1 .. x_{k-1}),
and the probability of the first pixels in raster order is, for a part in another order, a sum over everything that this
order draws in between. So there is no log-likelihood map by sub-pixel, no completion under the mixture and no codec;
code that asks for one gets a one-line error.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Self, cast

import torch
from torch import Tensor, nn

from pixelcnn import sampling
from pixelcnn.arguments import ArrayLike, integer
from pixelcnn.arithmetic.precision import Precision, check_precision
from pixelcnn.completion import Completion, CompletionOptions, checked_mask
from pixelcnn.config import ModelConfig
from pixelcnn.density import DensityModel
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.operations import View
from pixelcnn.randomness import part_uniforms
from pixelcnn.sampling.autoregressive import MakeView
from pixelcnn.symmetries import Transform

__all__ = ["MixtureModel", "Part"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A part of a mixture."""

    network: int
    """The part's network, by its index."""
    weight: float
    """Its weight, positive, up to a common factor."""
    transform: Transform
    """What happens to an image before the network sees it."""
    label: int | None = None
    """The class that the network is conditioned on for this part; None if it takes the image's own labels."""


class MixtureModel(AutoregressiveModel, sampling.Mixture):
    """A mixture of networks, each of which sees a transformed image.

    `log_prob`, `classify`, `sample`, `sample_stream`, `save_pretrained` and `pixelcnn.evaluate` work as for any model;
    `complete` draws by one part for each image. What needs the factors in raster order raises a ValueError: `forward`,
    `log_prob_map`, `sample_steps`, `pixelcnn.compress` and `pixelcnn.exact.prepare`; see the module's docstring.

    Args:
        config: The architecture.
        networks: The distinct networks.
        parts: The parts, at least one.
    """

    def __init__(self, config: ModelConfig, networks: Sequence[AutoregressiveModel], parts: Sequence[Part]) -> None:
        if any(network.conditions.channels for network in networks):
            raise ValueError("the networks of a mixture must not be conditional on a map")
        super().__init__(config, networks[0].likelihood)
        self.networks = nn.ModuleList(networks)
        self.parts = tuple(parts)

    def resized(self, size: tuple[int, int]) -> NoReturn:  # noqa: ARG002 - whatever it is
        """Not offered.

        Raises:
            ValueError: Always: a mixture is of images of one size.
        """
        raise ValueError(
            f"a model of class {type(self).__name__} is of images of {self.image_shape}, and has no other sizes"
        )

    # Likelihood ------------------------------------------------------------------------------------------------

    def log_prob(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        precision: Precision | None = None,
        *,
        condition: ArrayLike | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Exact log-likelihood of each image in nats: (N,); see `AutoregressiveModel.log_prob`."""
        images = self.checked_images(images).to(self.device)
        check_precision(precision, self.dtype)
        n = images.shape[0]  # of which, unlike `len`, torch.export makes no constant
        labels, condition = self.checked_given(labels, condition, n)
        return self._mixed(
            lambda part: self._drawn_from(part.network).log_prob(
                part.transform.applied(images),
                self._given(part, n, labels),
                precision,
                condition=condition,
                progress=progress,
            )
        )

    def unchecked_log_prob(
        self, images: Tensor, condition: Tensor | None = None, view: MakeView | None = None
    ) -> Tensor:
        """See `DensityModel.unchecked_log_prob`."""

        def of_part(part: Part) -> Tensor:
            network, n = self._network(part.network), len(images)
            given = condition if part.label is None else network.condition_of(self._given(part, n, None), n)
            return network.unchecked_log_prob(part.transform.applied(images), given, view)

        return self._mixed(of_part)

    def _mixed(self, log_prob: Callable[[Part], Tensor]) -> Tensor:
        """The log-probabilities of images under the mixture, (N,), from those under each part."""
        logs = [math.log(share) if share else -math.inf for share in self.shares]
        return torch.logsumexp(torch.stack([log + log_prob(p) for log, p in zip(logs, self.parts, strict=True)]), 0)

    @property
    def shares(self) -> list[float]:
        """Each part's weight as a share of the weight of all."""
        weights = self._weights
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    @property
    def _weights(self) -> list[float]:
        """The parts' weights times a power of two, with which no sum of them overflows."""
        _, exponent = math.frexp(max(part.weight for part in self.parts))
        return [math.ldexp(part.weight, -exponent) for part in self.parts]

    def network(self, view: View) -> NoReturn:  # noqa: ARG002 - there is none
        """Raises ValueError: the networks see different images."""
        raise ValueError(self._no_factors)

    @property
    def _no_factors(self) -> str:
        mixes = f"{type(self).__name__} is a mixture"
        return f"a model of class {mixes}, so it has no factors in raster order; log_prob and sample are what it has"

    # Sampling --------------------------------------------------------------------------------------------------

    def part_of(self, seed: int, first: int, n: int) -> Tensor:
        """Which part draws images `first .. first+n-1` of a seed, int64 (n,) on the CPU.

        A function of (seed, image): the first part whose cumulative weight exceeds the image's uniform number
        (`pixelcnn.randomness.part_uniforms`).

        Args:
            seed: 0..2**63-1.
            first: Index of the first image, 0..2**62.
            n: Number of images, at least 0.

        Raises:
            ValueError: If an argument is out of range.
        """
        weights = self._weights
        total = math.fsum(weights)
        ends = [end / total for end in itertools.accumulate(weights)][:-1]
        uniforms = part_uniforms(seed, integer("first", first, 0, 2**62), integer("n", n, 0))
        return (uniforms[:, None] >= torch.tensor(ends, dtype=torch.float64, device="cpu")).sum(1)

    def draw_by_parts(
        self, draw: sampling.Draw, *, engine: str, progress: bool, drawn: Callable[[int], object] | None
    ) -> Tensor:
        """`pixelcnn.sampling.sample` for a mixture: image i is image i of its part's network, transformed back.

        Each network draws every image between the first and the last of its own: a network shared by all parts draws
        none in vain, while each of several networks draws about as many as a model on its own.
        """
        which = self.part_of(draw.seed, draw.first, draw.n)
        images = sampling.blank(self, draw.n)
        labels = torch.tensor([-1 if part.label is None else part.label for part in self.parts], device="cpu")[which]
        networks = torch.tensor([part.network for part in self.parts], device="cpu")[which]
        for network in sorted(set(networks.tolist())):
            own = (networks == network).nonzero()[:, 0]
            start, stop = int(own[0]), int(own[-1]) + 1
            part = draw.part(start, stop)
            if labels[start] >= 0:
                given = torch.where(networks == network, labels, labels[start])[start:stop]  # others are discarded
                part = replace(part, labels=given)
            found = sampling.sample(
                self._drawn_from(network),
                part,
                engine=engine,
                progress=progress,
                drawn=drawn if len(self.networks) == 1 else None,
            )
            for k in sorted(set(which[own].tolist())):
                indices = own[which[own] == k].to(self.device)
                images[indices] = self.parts[k].transform.undone(found[indices - start], self.image_shape[1:])
            if drawn is not None and len(self.networks) > 1:
                drawn(len(own))
        return images

    def engines(self, engine: str, precision: Precision | None) -> set[type[sampling.Sampler]]:
        """The classes that an engine's name stands for, for all networks; see `pixelcnn.sampling.engine_of`."""
        networks = map(self._drawn_from, range(len(self.networks)))
        return {sampling.engine_of(network, engine, precision) for network in networks}

    def prepared(self) -> Self:  # type: ignore[override]
        """The same mixture of networks that draw in exact arithmetic, which provides no codec."""
        mixture = copy.copy(self)
        mixture.exact = True
        return mixture

    def _drawn_from(self, k: int) -> DensityModel:
        network = self._network(k)
        return network.prepared() if self.exact else network

    # Completion ------------------------------------------------------------------------------------------------

    def complete_with(
        self,
        options: CompletionOptions,
        images: ArrayLike,
        known: ArrayLike,
        labels: ArrayLike | None,
        condition: ArrayLike | None = None,
    ) -> Completion:
        """Completes each image by one part: the one in whose order the most known sub-pixels come first.

        If all of them do, the draws are exact for that part. They are not draws of the mixture, whose conditional would
        weight the parts by the probability each gives the known sub-pixels; the log-evidence, too, is the part's.
        """
        images = self.checked_images(images)
        known = checked_mask(known, images.shape)
        given = self.checked_given(labels, condition, len(images))
        found = [self._part_for(mask) for mask in known]
        ends: dict[int, Completion] = {}
        for k in sorted(set(found)):
            own, part = [i for i, other in enumerate(found) if other == k], self.parts[k]
            labels, condition = (None if each is None else each[own] for each in given)
            ends[k] = self._drawn_from(part.network).complete_with(
                replace(options, indices=own),
                part.transform.applied(images[own]),
                part.transform.moved(known[own]),
                self._given(part, len(own), labels),
                condition,
            )
        places = [(part, found[:k].count(part)) for k, part in enumerate(found)]
        accepted = [ends[part].accepted for part in found]
        return Completion(
            images=torch.stack(
                [self.parts[p].transform.undone(ends[p].images[k], self.image_shape[1:]) for p, k in places]
            ),
            ess=torch.stack([ends[p].ess[k] for p, k in places]),
            log_evidence=torch.stack([ends[p].log_evidence[k] for p, k in places]),
            accepted=math.fsum(accepted) / len(accepted),
        )

    def _part_for(self, known: Tensor) -> int:
        """The part with the fewest known sub-pixels after its first unknown one; the first of them if several tie."""
        late = []
        for part in self.parts:
            in_order = part.transform.moved(known).permute(1, 2, 0).flatten()
            late.append(int(in_order.sum() - in_order.cumprod(0).sum()))
        return late.index(min(late))

    # Helpers ---------------------------------------------------------------------------------------------------

    def _network(self, k: int) -> AutoregressiveModel:
        return cast(AutoregressiveModel, self.networks[k])

    def _given(self, part: Part, n: int, labels: Tensor | None) -> Tensor | None:
        return labels if part.label is None else torch.full((n,), part.label, device="cpu")
