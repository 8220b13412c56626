"""The mean of the weights of models that were trained from the same first weights, with the card of the first.

    python runs/mean_of.py FOLDER MODEL...

FOLDER is written; the models have one configuration.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import pixelcnn


def main(folder: Path, names: list[str]) -> None:
    """Writes the model."""
    models = [pixelcnn.load(name) for name in names]
    card, mean = models[0].card, models[0]
    states = [model.state_dict() for model in models]
    mean.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    mean.save_pretrained(folder, card)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
