"""TensorBoard, for those who want it: what metrics.jsonl says each epoch, the steps in between, and the sample grids.

A resumed run writes a new file, and TensorBoard leaves out what an earlier one said of later steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Board"]

_EVERY = 10  # steps


class Board:
    """The run's folder `tensorboard`.

    Args:
        folder: Where.
        step: Steps that the run has taken.

    Raises:
        ValueError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: SummaryWriter = _writer_class()(str(folder), purge_step=step + 1)

    @staticmethod
    def check() -> None:
        """Whether TensorBoard is there, before anything is written.

        Raises:
            ValueError: If it is not installed.
        """
        _writer_class()

    def step(self, step: int, values: dict[str, float]) -> None:
        """Numbers by name after so many steps; every tenth step is written."""
        if step % _EVERY == 0:
            for name, value in values.items():
                self._writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, line: dict[str, Any], picture: Path) -> None:
        """A line of metrics.jsonl, and the grid of samples if there is one."""
        step = line["step"]
        for name, value in line.items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(f"epoch/{name}", value, step)
        if picture.exists():
            from PIL import Image

            with Image.open(picture) as image:
                self._writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Writes what is waiting."""
        self._writer.close()


def _writer_class() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import
    except ImportError:
        raise ValueError("tensorboard is not installed: pip install 'pixelcnn[tensorboard]'") from None
    return SummaryWriter
