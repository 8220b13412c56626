"""A model made exactly symmetric: the mixture of what it says about an image's images under a finite group.

    p(x) = 1 / |G| * sum over g in G of q(g x)

has p(g x) = p(x) for every g, is normalised because each g is a permutation of all images, and is drawn from by undoing
a random g on a draw of q. A likelihood takes |G| of q's; drawing costs what it costs for q.

References:
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang, Zhang, 2019),
      https://arxiv.org/abs/1809.10606
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self, cast

import torch

from pixelcnn.config import SymmetrisedConfig
from pixelcnn.models.base import AutoregressiveModel, model_of
from pixelcnn.models.mixture import MixtureModel, Part
from pixelcnn.symmetries import group_of

__all__ = ["Symmetrised"]


class Symmetrised(MixtureModel):
    """A model symmetrised over a finite group; see `MixtureModel` for what it can do.

    Args:
        model: Any model of one scan order. It is not copied: training one trains the other.
        group: One name or several, of `pixelcnn.config.GROUPS`: "flip", "levels", "horizontal", "vertical",
            "reflections", "rotations", "dihedral", "translations". All elements of the groups are combined, so that
            ("flip", "dihedral") has 16. Conditions are left as they are.

    Raises:
        ValueError: If the model is a mixture itself or conditional on a map, a group does not fit its images (rotations
            and dihedral need square ones, levels at most five levels), or there are more than 4,096 elements.

    Examples:
        >>> import pixelcnn
        >>> model = pixelcnn.Symmetrised(pixelcnn.PixelCNN((1, 4, 4), filters=4), ("flip", "dihedral"))
        >>> images = model.sample(5)
        >>> torch.allclose(model.log_prob(images), model.log_prob(1 - images.rot90(1, (2, 3))))
        True
    """

    Config: ClassVar[type[Any]] = SymmetrisedConfig
    config: SymmetrisedConfig  # type: ignore[assignment]

    def __init__(self, model: AutoregressiveModel, group: str | Sequence[str]) -> None:
        if not isinstance(model, AutoregressiveModel) or isinstance(model, MixtureModel):
            raise ValueError(f"model must be a model of one scan order, got {type(model).__name__}")
        names = tuple(group) if isinstance(group, Iterable) and not isinstance(group, str) else (group,)
        config = SymmetrisedConfig(network=model.config, group=names)
        transforms = group_of(names, model.image_shape, model.levels)
        parts = [Part(network=0, weight=1.0, transform=transform) for transform in transforms]
        super().__init__(cast(Any, config), [model], parts)

    @classmethod
    def from_config(cls, config: SymmetrisedConfig, *, generator: torch.Generator | None = None) -> Self:
        """Builds the model that a configuration describes, with initial weights from `generator`."""
        return cls(model_of(config.network, generator=generator), config.group)
