"""The wavefront: which pixels can be drawn at the same time, exactly.

A masked convolution computes pixel (i, j) from the pixels (i + dy, j + dx) of its taps. Give every pixel the time

    t(i, j) = slope * i + j.

If each tap other than the pixel itself lies strictly earlier, all pixels of one time can be computed, and drawn,
together. A tap in the same row has dx < 0 and always does; a tap in a row above needs slope * |dy| > dx. The smallest
such slope is a property of the taps: 4 for the seed network, whose 7x7 kernel reaches three to the right in the row
above. An image then takes slope * (H - 1) + W steps, 136 for 28x28, instead of H * W.

Hidden features follow the same clock as the image, so what counts is each layer's own reach and not the receptive
field of the whole network. `pixelcnn.sampling.schedule` finds the slope, also for features that are computed ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Wavefront"]


@dataclass(frozen=True)
class Wavefront:
    """The order of drawing images of a height and width: at time t the pixels (i, t - slope * i) inside the image.

    Examples:
        >>> wavefront = Wavefront(height=28, width=28, slope=4)
        >>> wavefront.steps
        136
        >>> wavefront.rows(28)
        range(1, 8)
    """

    height: int
    """Number of rows."""
    width: int
    """Number of columns."""
    slope: int
    """How many steps later than a pixel the one below it is drawn."""

    def reaches(self, dy: int, dx: int) -> bool:
        """Whether the tap (dy, dx) of some pixel, dy <= 0, lies inside the image."""
        return -dy < self.height and abs(dx) < self.width

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.slope * (self.height - 1) + self.width

    def rows(self, step: int) -> range:
        """The rows that have a pixel at this time. Both ends never decrease from one step to the next."""
        if self.slope == 0:
            return range(self.height if 0 <= step < self.width else 0)
        first = -((self.width - 1 - step) // self.slope)  # ceil((step - width + 1) / slope)
        return range(max(first, 0), max(min(step // self.slope + 1, self.height), 0))

    def pixels(self, step: int) -> slice:
        """Raster indices i * width + j of this step's pixels, in the order of `rows`."""
        rows = self.rows(step)
        stride = max(self.width - self.slope, 1)  # as wide as the slope: one pixel a step
        first = rows.start * self.width + step - self.slope * rows.start
        return slice(first, first + stride * (len(rows) - 1) + 1, stride)
