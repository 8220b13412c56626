"""A mixture over scan orders: each part draws the pixels of an image in an order of its own.

Part k sees a rearranged image (`pixelcnn.orders`). The parts may have different networks, share one, or share one that
is conditioned on the order as a class.

References:
    | A deep and tractable density estimator (Uria, Murray, Larochelle, 2014), https://arxiv.org/abs/1310.1757:
    | ensembles over orders that share a network.
    | Locally masked convolution for autoregressive models (Jain, Abbeel, Pathak, 2020),
    | https://arxiv.org/abs/2006.12486: eight orders of images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self, cast

import torch

from pixelcnn.arguments import number, shown
from pixelcnn.config import OrderEnsembleConfig
from pixelcnn.models.base import AutoregressiveModel, model_of
from pixelcnn.models.mixture import MixtureModel, Part
from pixelcnn.orders import ORDERS, is_transposed
from pixelcnn.symmetries import transform_of

__all__ = ["OrderEnsemble", "network_of_orders"]


class OrderEnsemble(MixtureModel):
    """A mixture of models over scan orders; see `MixtureModel` for what it can do.

    Args:
        members: A model for each part, for images as the part sees them: height and width are swapped if the order
            scans columns. One model may serve as several parts, with the same parameters. It is not copied.
        orders: Each part's scan order, one of `pixelcnn.orders.ORDERS`.
        weights: Each part's weight, positive, up to a common factor; equal by default.
        order_conditioned: Whether the members are conditioned on the order, as a class: its index in `ORDERS`. The
            ensemble then has no labels; otherwise it takes its members'.

    Raises:
        ValueError: If the members' shapes, levels, conditions or types do not fit each other and the orders, one is a
            mixture itself or conditional on a map, or there is not one order, and one positive weight, for each.

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
        lists = {"members": members, "orders": orders, "weights": () if weights is None else weights}
        for name, value in lists.items():
            if not isinstance(value, Iterable):
                raise ValueError(f"{name} must be a list, got {shown(value)}")
        members, orders = list(members), list(orders)
        if not members or not all(isinstance(member, AutoregressiveModel) for member in members):
            raise ValueError(f"members must be at least one model, got {shown(members)}")
        if mixtures := [type(member).__name__ for member in members if isinstance(member, MixtureModel)]:
            raise ValueError(f"members must be models of one order each, got one of class {mixtures[0]}")
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
            weights=tuple(1.0 for _ in members) if weights is None else tuple(number("weights", w) for w in weights),
            order_conditioned=order_conditioned,
        )
        transforms = {order: transform_of(order, config.image_shape[1:]) for order in config.orders}
        parts = [
            Part(
                network=config.members[k],
                weight=config.weights[k],
                transform=transforms[order],
                label=ORDERS.index(order) if order_conditioned else None,
            )
            for k, order in enumerate(config.orders)
        ]
        super().__init__(cast(Any, config), networks, parts)

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


def network_of_orders(model: AutoregressiveModel, orders: int) -> AutoregressiveModel:
    """A network that is conditioned on the first of `ORDERS`, to be trained from a model that knows one order.

    It gives, in each order, what the model gives without a class: the model's classes are dropped, and the weights of
    the orders are zero. Of an ensemble that has one network for just these orders, the network itself.

    Args:
        model: A model of a family with classes.
        orders: Number of orders, at least 2.

    Raises:
        ValueError: If the model's family has no classes, or it is a mixture of another kind.
    """
    if isinstance(model, MixtureModel):
        own = model.config if isinstance(model, OrderEnsemble) and len(model.networks) == 1 else None
        if own is not None and own.order_conditioned and own.orders == ORDERS[:orders]:
            return cast(AutoregressiveModel, model.networks[0])
        raise ValueError(f"model must have one scan order, or be an ensemble of one network for {orders} of them")
    if not hasattr(model.config, "num_classes"):
        raise ValueError(f"model must be of a family with classes, got {type(model).__name__}")
    plain = model_of(dataclasses.replace(model.config, num_classes=None))  # type: ignore[arg-type]
    network = model_of(dataclasses.replace(model.config, num_classes=orders)).to(model.dtype)  # type: ignore[arg-type]
    weights = {name: model.state_dict()[name] for name in plain.state_dict()}
    zeros = {name: torch.zeros_like(value) for name, value in network.state_dict().items() if name not in weights}
    network.load_state_dict(weights | zeros)
    return network.eval()
