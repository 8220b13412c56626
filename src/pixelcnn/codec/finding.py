"""Which model a stream needs: found by its identity, not by a name."""

from __future__ import annotations

from collections.abc import Sequence

from pixelcnn.codec.container import Header, StreamError
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.models.base import load, shipped_models

__all__ = ["find_model"]


def find_model(header: Header, names: Sequence[str] = ()) -> tuple[str, PreparedModel]:
    """The model, by name and as its exact twin, that a stream was compressed with.

    Args:
        header: What the stream says of itself, see `read_header`.
        names: Models to look among, as `pixelcnn.load` takes them; by default the shipped ones.

    Raises:
        StreamError: If it is none of them. Says which model is needed.
        ValueError: If one cannot be loaded or prepared.
    """
    found = []
    for name in names or shipped_models():
        prepared = prepare(load(name))
        if _is_needed(prepared, header):
            return name, prepared
        found.append(f"{name} ({prepared.identity[:32]})")
    called = header.notes.get("model")
    known = f", called {called!r} where it was compressed," if isinstance(called, str) and called.isprintable() else ""
    shipped = "" if not names else _shipped(header)
    kind = f"{' x '.join(map(str, header.shape))} in {header.levels} levels"
    raise StreamError(
        f"the stream needs the model of identity {header.identity.hex()}{known} for images of {kind}, and that is "
        f"none of {', '.join(found)}{shipped}"
    )


def _is_needed(prepared: PreparedModel, header: Header) -> bool:
    return bytes.fromhex(prepared.identity)[: len(header.identity)] == header.identity


def _shipped(header: Header) -> str:
    fitting = [name for name in shipped_models() if _is_needed(prepare(load(name)), header)]
    return f"; it is the shipped model {fitting[0]}" if fitting else ""
