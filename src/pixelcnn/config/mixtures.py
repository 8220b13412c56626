"""The architectures of mixtures, over scan orders and over symmetries, and the names of orders and groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pixelcnn.config.checks import check_fields, check_images, check_rules, is_int
from pixelcnn.config.models import FAMILIES, ModelConfig, conditions_of

__all__ = ["GROUPS", "ORDERS", "OrderEnsembleConfig", "SymmetrisedConfig", "is_transposed"]

ORDERS = (
    "right-down", "left-down", "right-up", "left-up", "down-right", "down-left", "up-right", "up-left",
)  # fmt: skip
"""Scan orders: the direction along a line, then the direction from line to line; the first is raster order. The first
four scan rows and suit any shape; the others scan columns."""
GROUPS = ("flip", "levels", "horizontal", "vertical", "reflections", "rotations", "dihedral", "translations")
"""Groups of symmetries, see `pixelcnn.symmetries`."""


def is_transposed(order: str) -> bool:
    """Whether an order reads columns, so that height and width are exchanged."""
    return order.startswith(("down", "up"))


@dataclass(frozen=True, kw_only=True)
class OrderEnsembleConfig:
    """The architecture of a `pixelcnn.models.OrderEnsemble`: one part per order, each with its network and weight."""

    earlier_names: ClassVar[dict[str, str | None]] = {"told": "order_conditioned"}

    image_shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    levels: int
    """Number of values that a sub-pixel can take, 2..65,536."""
    networks: tuple[ModelConfig, ...]
    """The distinct networks. Height and width are swapped for a network that scans columns."""
    members: tuple[int, ...]
    """The network of each part, by its index in `networks`."""
    orders: tuple[str, ...]
    """The scan order of each part, one of `ORDERS`."""
    weights: tuple[float, ...]
    """The weight of each part, positive and finite; only their ratios matter."""
    order_conditioned: bool
    """Whether the networks are conditioned on the order, as a class: its index in `ORDERS`."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_images(self.image_shape, self.levels)
        if not (self.networks and all(isinstance(network, tuple(FAMILIES.values())) for network in self.networks)):
            raise ValueError(f"networks must be at least one model's configuration, got {self.networks!r}")
        parts = len(self.members)
        rules = {
            "members": (
                all(is_int(k) for k in self.members) and set(self.members) == set(range(len(self.networks))),
                f"name every index in 0..{len(self.networks) - 1}, and no other",
            ),
            "orders": (
                len(self.orders) == parts and all(order in ORDERS for order in self.orders),
                f"be one of {', '.join(ORDERS)} for each of the {parts} members",
            ),
            "weights": (
                len(self.weights) == parts
                and all(isinstance(w, int | float) and not isinstance(w, bool) for w in self.weights)
                and all(0 < w < float("inf") for w in self.weights),
                f"be a positive, finite number for each of the {parts} members",
            ),
        }
        check_rules(self, rules)
        for member, order in zip(self.members, self.orders, strict=True):
            self._check_member(self.networks[member], order)

    def _check_member(self, network: ModelConfig, order: str) -> None:
        c, h, w = self.image_shape
        shape = (c, w, h) if is_transposed(order) else (c, h, w)
        if network.image_shape != shape:
            raise ValueError(f"a member in the order {order} must have image_shape {shape}, got {network.image_shape}")
        if network.levels != self.levels:
            raise ValueError(f"members must have the same levels, got {self.levels} and {network.levels}")
        conditions = conditions_of(network)
        if self.order_conditioned and (conditions[0] or 0) <= (needed := ORDERS.index(order)):
            raise ValueError(
                f"a member conditioned on the order {order} must have num_classes of at least {needed + 1}, got "
                f"{conditions[0]}"
            )
        if conditions != (first := conditions_of(self.networks[0])):
            raise ValueError(f"members must have the same num_classes and condition_dim, got {first} and {conditions}")

    @property
    def conditions(self) -> tuple[int | None, int | None]:
        """The members', unless they are conditioned on the order; see `ModelConfig`."""
        return (None, None) if self.order_conditioned else conditions_of(self.networks[0])


@dataclass(frozen=True, kw_only=True)
class SymmetrisedConfig:
    """The architecture of a `pixelcnn.Symmetrised`."""

    network: ModelConfig
    """The architecture of the model that is symmetrised."""
    group: tuple[str, ...]
    """The groups whose elements are combined, of `GROUPS`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.network, tuple(FAMILIES.values())):
            raise ValueError(f"network must be a model's configuration, got {self.network!r}")
        right = len(self.group) > 0 and all(name in GROUPS for name in self.group)
        check_rules(self, {"group": (right, f"be one or more of {', '.join(GROUPS)}")})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.network.image_shape

    @property
    def levels(self) -> int:
        """Number of values that a sub-pixel can take."""
        return self.network.levels

    @property
    def conditions(self) -> tuple[int | None, int | None]:
        """The network's; see `ModelConfig`."""
        return conditions_of(self.network)
