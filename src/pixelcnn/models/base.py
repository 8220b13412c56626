"""The base of all trained models: a network with parameters, which are saved, loaded and shared.

A subclass defines `network`; likelihood, sampling and completion follow from it (`pixelcnn.density`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from pixelcnn.density import DensityModel
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.layers import MaskedConv2d
from pixelcnn.likelihoods import Likelihood, likelihood_of

if TYPE_CHECKING:
    from pixelcnn.config import ModelConfig

__all__ = ["AutoregressiveModel"]


class AutoregressiveModel(DensityModel, nn.Module):
    """Base of all models. Images are uint8 (N, C, H, W) holding 0 .. levels-1; probabilities are natural logarithms."""

    Config: ClassVar[type[Any]]

    def __init__(self, config: ModelConfig, likelihood: Likelihood | None = None) -> None:
        super().__init__()
        self.config = config
        self.likelihood = likelihood or likelihood_of(config.levels)
        self.loaded_card: tuple[str, str] | None = None  # the card's text, and the checksum of the weights it is about

    @classmethod
    def from_config(cls, config: Any, *, generator: torch.Generator | None = None) -> Self:
        """Builds the model that a configuration describes, with fresh weights from `generator`."""
        fields = {name: getattr(config, name) for name in cls.Config.__dataclass_fields__}
        build: Callable[..., Self] = cls  # a subclass's constructor takes its configuration's fields
        return build(**fields, generator=generator)

    @property
    def masked_layers(self) -> list[MaskedConv2d]:
        """Every masked convolution, in the order of registration."""
        return [m for m in self.modules() if isinstance(m, MaskedConv2d)]

    def prepared(self) -> PreparedModel:
        """See `DensityModel.prepared`."""
        return prepare(self)

    # Storage ---------------------------------------------------------------------------------------------------

    @property
    def card(self) -> str:
        """The model's card in Markdown: the one it was loaded with, or a new one if its weights have changed since."""
        from pixelcnn.models.storage import card_of  # storage rebuilds models, so it imports this module

        return card_of(self)

    def save_pretrained(self, folder: str | Path, card: str | None = None, *, license: str | None = None) -> None:
        """Writes the model as a folder that `pixelcnn.load` reads: config.json, model.safetensors, README.md.

        The folder appears in one rename, after an earlier model there has been renamed aside.

        Args:
            folder: Where; its parents are made.
            card: Text of README.md; by default `card`, with code that loads the folder it lies in.
            license: Of the weights, for the card, as the Hub names it: "apache-2.0", "cc-by-4.0". By default what the
                card says, which for a new one is "unknown".

        Weights in float16 or bfloat16 are written, and loaded, as float32.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the folder exists and holds something else than a model, `license` has another form, or a
                weight is not finite.
        """
        from pixelcnn.models.storage import save_model

        save_model(self, Path(folder), card, license)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload a model of pixelcnn",
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        card: str | None = None,
        license: str | None = None,
    ) -> str:
        """Uploads the model to the Hugging Face Hub in one commit, for `pixelcnn.load(repo_id)`.

        The repository is made if there is none. Its other files stay.

        Args:
            repo_id: user/name.
            commit_message: The commit's.
            private: Whether a new repository is private; None leaves that to the user's settings.
            token: Of the Hub, with the right to write; by default HF_TOKEN or that of `hf auth login`.
            branch: An existing branch; `main` by default.
            create_pr: Open a pull request instead of changing the branch.
            card: Text of README.md, as it is; by default `card`, with code that loads the model by `repo_id`.
            license: As for `save_pretrained`.

        Returns:
            The commit's or the pull request's URL.

        Raises:
            ValueError: If `repo_id` or `license` has another form, the Hub refuses, or the repository is public
                although `private` was asked for. Nothing local is touched.
            ConnectionError: If no server answers.
        """
        from pixelcnn.models.storage import push_model

        return push_model(
            self,
            repo_id,
            commit_message=commit_message,
            private=private,
            token=token,
            branch=branch,
            create_pr=create_pr,
            card=card,
            license=license,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """`pixelcnn.load`, of a model of this class.

        Raises:
            ValueError: As `pixelcnn.load`; or if it is of another class.
        """
        from pixelcnn.models.storage import load

        model = load(
            pretrained_model_name_or_path,
            revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        if not isinstance(model, cls):
            raise ValueError(
                f"{pretrained_model_name_or_path} must be of class {cls.__name__}, got {type(model).__name__}"
            )
        return model
