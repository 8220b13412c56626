"""The model of a training run that has not finished: the averaged weights of its newest checkpoint, with a card.

    python runs/so_far.py RUN FOLDER

RUN is a run's folder, of which at least one epoch has finished. Its card says how far the run is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pixelcnn.config import from_dict
from pixelcnn.models import OrderEnsemble, model_of
from pixelcnn.orders import ORDERS
from pixelcnn.training import report
from pixelcnn.training.checkpoint import load_newest
from pixelcnn.training.record import RunRecord


def main(run: Path, folder: Path) -> None:
    """Writes the model."""
    found = load_newest(run / "checkpoints")
    if found is None or not found[0].metrics:
        raise SystemExit(f"{run} has no checkpoint of a finished epoch yet")
    state, tensors = found
    record = from_dict(RunRecord, state.record, str(run))
    model = model_of(record.train.model)
    kind = "model." if record.train.ema is None else "ema."
    model.load_state_dict({name[len(kind) :]: value for name, value in tensors.items() if name.startswith(kind)})
    orders = ORDERS[: record.train.orders]
    if len(orders) > 1:
        model = OrderEnsemble([model] * len(orders), orders, order_conditioned=True)
    card = report.card(model.eval(), record, state.metrics, state.metrics[-1], "cpu")
    length = f"of {state.planned_steps:,}" if state.planned_steps else "of its recipe"
    card = card.replace(
        "## Results\n",
        f"The run goes on: these are its averaged weights after {state.step:,} steps {length}.\n\n## Results\n",
    )
    model.save_pretrained(folder, card)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
