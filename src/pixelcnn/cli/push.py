"""`pixelcnn push`: uploads a model to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from pixelcnn.cli import options


@dataclass(frozen=True, kw_only=True)
class Push:
    """Upload a model to the Hugging Face Hub: config.json, model.safetensors and its card, in one commit.

    Log in with `hf auth login` first, or set HF_TOKEN.
    """

    model: options.ModelName
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="USER/NAME")]
    """The repository; it is made if there is none."""
    private: bool = False
    """Make a private repository; without this option your settings on the Hub decide."""
    license: str | None = None
    """Licence of the weights for the card, by the Hub's name: apache-2.0, cc-by-4.0. By default the card's own."""
    message: str = "Upload a model of pixelcnn"
    """The commit message."""

    def run(self) -> None:
        """Uploads the model and prints its address."""
        from pixelcnn.models.base import load

        url = load(self.model).push_to_hub(
            self.repository, commit_message=self.message, private=self.private or None, license=self.license
        )
        print(f"{url}\ndraw from it: pixelcnn sample {self.repository}")


COMMANDS = {"push": Push}
