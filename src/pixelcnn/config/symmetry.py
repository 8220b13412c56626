"""The architecture of a model that is symmetrised over a group, and the names of the groups."""

from __future__ import annotations

from dataclasses import dataclass

from pixelcnn.config.checks import check_fields, check_rules
from pixelcnn.config.models import FAMILIES, ModelConfig, conditions_of

__all__ = ["GROUPS", "SymmetrisedConfig"]

GROUPS = ("flip", "levels", "horizontal", "vertical", "reflections", "rotations", "dihedral", "translations")
"""Groups of symmetries, see `pixelcnn.symmetries`."""


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
