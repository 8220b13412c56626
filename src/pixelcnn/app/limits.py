"""What a visitor of the page may ask of the server: the limits that keep any request from exhausting it."""

from __future__ import annotations

from dataclasses import dataclass

from pixelcnn.models import AutoregressiveModel, OrderEnsemble
from pixelcnn.sampling.eager import cache_bytes

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one server; each is at least 1."""

    images: int = 64
    """Images of one request."""
    particles: int = 256
    """Particles of one completion."""
    queue: int = 32
    """Requests that wait; one more is refused with a message."""
    concurrency: int = 2
    """Requests that are worked on at the same time."""
    seconds: float = 120.0
    """Time after which a drawing or completion is given up."""
    frames: float = 10.0
    """Pictures a second that are sent while a drawing grows."""
    memory: int = 2**28
    """Bytes for the features of one drawing or completion, about; a single image may always be drawn."""
    body: int = 2**20
    """Bytes of one message to the server."""
    pixels: int = 2**24
    """Pixels of one picture that is read."""

    def __post_init__(self) -> None:
        for name in ("images", "particles", "queue", "concurrency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
                raise ValueError(f"{name} must be an integer in 1..1024, got {value!r}")

    def images_of(self, model: AutoregressiveModel) -> int:
        """How many images of a model one request may ask for."""
        return self._fitting(model, self.images)

    def particles_of(self, model: AutoregressiveModel) -> int:
        """How many particles of a model one completion may ask for."""
        return self._fitting(model, self.particles)

    def _fitting(self, model: AutoregressiveModel, most: int) -> int:
        networks = model.networks if isinstance(model, OrderEnsemble) else [model]
        each = max(cache_bytes(network) for network in networks)  # type: ignore[arg-type]
        return max(1, min(most, self.memory // each))
