"""The seed preset beside the log of the Keras example, epoch by epoch: a table in Markdown, and a picture.

    pixelcnn train mnist --preset seed --out trained/seed
    python runs/seed_curve.py trained/seed [docs/images/seed-curve.png]

runs/keras-example.csv holds the losses that the example's page shows (keras.io/examples/generative/pixelcnn).
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

EXAMPLE = Path(__file__).with_name("keras-example.csv")


def main(run: Path, picture: Path) -> None:
    """Prints the table and writes the picture."""
    with EXAMPLE.open(encoding="utf-8") as file:
        example = [(float(row["loss"]), float(row["val_loss"])) for row in csv.DictReader(file)]
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    ours = [(line["train_loss"], line["validation_loss"]) for line in lines]

    print("| epoch | training: ours | the example | validation: ours | the example | difference |\n" + "|---" * 6 + "|")
    for epoch, ((train, validation), (its_train, its_validation)) in enumerate(zip(ours, example, strict=False), 1):
        apart = f"{validation - its_validation:+.4f}"
        print(f"| {epoch} | {train:.4f} | {its_train:.4f} | {validation:.4f} | {its_validation:.4f} | {apart} |")

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, losses, colour in (("the example", example, "#b5443a"), ("pixelcnn", ours, "#2b6a4d")):
        epochs = range(1, len(losses) + 1)
        axes.plot(
            epochs, [each[1] for each in losses], color=colour, marker="o", markersize=3, label=f"{name}, validation"
        )
        axes.plot(epochs, [each[0] for each in losses], color=colour, ls="--", lw=1, label=f"{name}, training")
    axes.set(xlabel="epoch", ylabel="nats per pixel", ylim=(0.082, 0.095))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else "docs/images/seed-curve.png"))
