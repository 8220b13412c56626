"""The negative log-likelihood as a module, for training loops that wrap or call modules."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from pixelcnn.arguments import ArrayLike
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.mixture import MixtureModel

__all__ = ["NegativeLogLikelihood"]

Reduction = Literal["mean", "sum", "none"]


class NegativeLogLikelihood(nn.Module):
    """A module whose `forward` is -log p(images) in nats, for DistributedDataParallel, Accelerate and Lightning.

    It multiplies as autocast says, like PyTorch's own modules, except with a mixture; `AutoregressiveModel.log_prob`
    does not.

    Args:
        model: The model, which becomes the submodule `model`.
        reduction: "mean" over the images, their "sum", or "none" for each image's own.

    Raises:
        ValueError: If an argument is something else.

    Examples:
        >>> import pixelcnn
        >>> model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
        >>> loss = NegativeLogLikelihood(model)(model.sample(3))
        >>> loss.backward()
    """

    def __init__(self, model: AutoregressiveModel, reduction: Reduction = "mean") -> None:
        super().__init__()
        if not isinstance(model, AutoregressiveModel):
            raise ValueError(f"model must be a pixelcnn.AutoregressiveModel, got {type(model).__name__}")
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")
        self.model = model
        self.reduction = reduction

    def forward(self, images: ArrayLike, labels: ArrayLike | None = None, condition: ArrayLike | None = None) -> Tensor:
        """The negative log-likelihood.

        Args:
            images: Levels (N, C, H, W), N at least 1.
            labels: As for `AutoregressiveModel.log_prob`.
            condition: As for `AutoregressiveModel.log_prob`.

        Returns:
            A scalar, or (N,) for the reduction "none", in nats, float32 (float64 for a model in float64). "mean" is in
            nats per image.

        Raises:
            ValueError: As for `AutoregressiveModel.log_prob`.
        """
        model = self.model
        if isinstance(model, MixtureModel):
            nats = -model.log_prob(images, labels, condition=condition)
        else:
            levels = model.checked_images(images).to(model.device)
            nats = -model.likelihood.log_prob(model(levels, labels, condition=condition), levels).flatten(1).sum(1)
        return nats if self.reduction == "none" else nats.mean() if self.reduction == "mean" else nats.sum()

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"reduction={self.reduction!r}"
