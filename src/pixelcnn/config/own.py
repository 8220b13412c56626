"""Architectures of users' own, which join the shipped ones in configurations and on the command line."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Union

import tyro

from pixelcnn.config.mixtures import OrderEnsembleConfig, SymmetrisedConfig
from pixelcnn.config.models import FAMILIES
from pixelcnn.config.training import TrainConfig

__all__ = ["add_architecture"]

_BY_DATA = (  # so they are no options of the command line
    "image_shape", "levels", "num_classes", "condition_dim", "condition_channels", "condition_levels",
)  # fmt: skip


def add_architecture(config: type[Any], earlier: type[Any] | None = None) -> None:
    """Lets training runs and mixtures hold a configuration of this class, which is a family on the command line.

    The family is called as the class variable `family` of the class itself says, or else by the class's name. It
    replaces an earlier family of that name.

    Args:
        config: A frozen dataclass with the fields `image_shape` and `levels`.
        earlier: One that it replaces, whatever its family was called.

    Raises:
        ValueError: If it is something else.
    """
    parameters = getattr(config, "__dataclass_params__", None)
    if not (isinstance(config, type) and parameters is not None and parameters.frozen):
        raise ValueError(f"Config must be a frozen dataclass, got {config!r}")
    names = {field.name for field in dataclasses.fields(config)}
    if missing := sorted({"image_shape", "levels"} - names):
        raise ValueError(f"Config must have the field {missing[0]}, {config.__name__} has {', '.join(sorted(names))}")
    suppressed: Any = tyro.conf.Suppress
    avoiding: Any = tyro.conf.AvoidSubcommands
    hints = typing.get_type_hints(config, include_extras=True)
    config.__annotations__ |= {name: suppressed[hints[name]] for name in _BY_DATA if name in hints}
    family = vars(config).get("family", config.__name__)
    for name in [name for name, known in FAMILIES.items() if known is earlier and name != family]:
        del FAMILIES[name]
    FAMILIES[family] = config
    every: Any = Union[tuple(FAMILIES.values())]  # noqa: UP007 - built from values
    TrainConfig.__annotations__["model"] = avoiding[every]
    OrderEnsembleConfig.__annotations__["networks"] = types.GenericAlias(tuple, (every, ...))
    SymmetrisedConfig.__annotations__["network"] = every
