"""`pixelcnn verify`: whether a model is causal, normalised and deterministic, and its engines agree."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pixelcnn.cli import options


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Test that a model defines a probability of images: that no pixel depends on itself or later ones, that
    probabilities sum to 1, that an image is the same in any batch, and that all engines draw the same images. Shows
    what a pixel sees. Exit code 1 if the model fails.
    """

    model: options.ModelName
    json: bool = False
    """Print an object for programs instead of the report; a list of them for a mixture of several networks."""
    device: options.Device = "auto"
    threads: options.Threads = None

    def run(self) -> int:
        """Prints the report; returns the exit code."""
        from pixelcnn.models import MixtureModel
        from pixelcnn.verification import verify

        model = options.loaded(self.model, self.device)
        members = list(model.networks) if isinstance(model, MixtureModel) else [model]
        reports = [verify(member, progress=True) for member in members]
        if self.json:
            found = [report.to_dict() for report in reports]
            print(json.dumps(found[0] if len(found) == 1 else found, indent=2))
        else:
            print(*reports, sep="\n")
        return 0 if all(report.ok for report in reports) else 1


COMMANDS = {"verify": Verify}
