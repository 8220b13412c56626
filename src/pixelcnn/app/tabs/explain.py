"""The tab that explains a model: what it consists of, what it sees, how it draws, how it was trained, its card."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pixelcnn.app.figures import curve, field_figure, front_figure, mask_figures
from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.models import AutoregressiveModel, OrderEnsemble
from pixelcnn.models.summary import LayerRow, block_of, layer_rows, receptive_field
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["TITLE", "build", "explained"]

TITLE = "Explain"

_COLUMNS = ("layer", "kernel", "mask", "in → out", "activation", "output", "parameters")


def build(models: Sequence[Served], limits: Limits) -> None:  # noqa: ARG001 - everything is known when the page is built
    """See `pixelcnn.app.tabs.Tab`."""
    import gradio as gr

    pages = {served.name: (explained(served), _card(served)) for served in models}
    first = models[0].name
    name = gr.Dropdown(list(pages), value=first, label="Model", filterable=False, visible=len(models) > 1)
    about = gr.HTML(pages[first][0])
    gr.HTML('<h3 class="px-heading">Card</h3>')
    card = gr.Markdown(pages[first][1], elem_classes="px-card", header_links=False)

    def on_model(name: str) -> tuple[Any, Any]:
        return pages[name]

    name.change(on_model, name, [about, card], queue=False, show_progress="hidden", api_visibility="private")


def explained(served: Served) -> str:
    """Everything but the card, as HTML."""
    model = served.model
    c, h, w = model.image_shape
    parameters = sum(p.numel() for p in model.parameters())
    colour = f"{c} channels, " if c > 1 else ""
    facts = [
        type(model).__name__,
        f"{h} × {w} pixels",
        f"{colour}{model.levels} levels",
        f"{parameters:,} parameters",
        *([f"{served.classes} classes"] if served.classes else []),
    ]
    chips = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts)
    parts = [f'<ul class="px-facts">{chips}</ul>']
    if isinstance(model, OrderEnsemble):
        total = sum(model.config.weights)
        rows = [
            (order, f"network {member}", f"{weight / total:.4g}")
            for order, member, weight in zip(
                model.config.orders, model.config.members, model.config.weights, strict=True
            )
        ]
        head = ("scan order", "drawn by", "weight")
        parts.append(_section("A mixture over scan orders", _table(head, [("", row) for row in rows])))
    names = [f" of network {k}" if len(served.networks) > 1 else "" for k in range(len(served.networks))]
    for network, of in zip(served.networks, names, strict=True):
        parts += _figures(network, of)
    parts.append(_section("How it learnt", _losses(served)))
    for network, of in zip(served.networks, names, strict=True):
        parts.append(_section(f"Layers{of}", _layers(network), wide=True))
    return f'<div class="px-explain">{"".join(parts)}</div>'


def _figures(network: AutoregressiveModel, of: str) -> list[str]:
    _, h, w = network.image_shape
    wavefront = schedule_of(network).wavefront
    prelude = schedule_of(network).prelude
    field = receptive_field(network)
    attention = getattr(network.config, "attention", 0)
    above = len(field) - 1
    sees = f"Each pixel depends on {int(field.sum())} pixels before it: in {above} rows above, and in its own row."
    if attention:
        sees += " Attention lets it see all the others before it as well."
    slope = wavefront.slope
    if wavefront.steps < h * w:
        draws = (
            f"Pixels in row <i>i</i> and column <i>j</i> with the same {slope} · <i>i</i> + <i>j</i> do not depend on "
            "each other, so they are drawn together: "
            f"<strong>{wavefront.steps} exact steps instead of {h * w}</strong>."
        )
    else:
        draws = f"Each pixel waits for the one before it: {wavefront.steps} steps."
    if prelude:
        draws += f" What sees only the rows above is computed {prelude} steps ahead."
    draws += " The stronger the colour, the later; one step is marked."
    masks = "".join(
        f"<figure>{figure}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, figure in mask_figures(network)
    )
    far = [("far", "seen by attention")] if attention else []
    key = _key(("own", "the pixel itself"), ("seen", "seen"), ("unseen", "not seen"), *far)
    part = [("part", "its earlier channels")] if network.image_shape[0] > 1 else []
    own = _key(
        ("seen", "seen"),
        ("unseen", "not seen"),
        ("own", "the own pixel, seen"),
        ("own-unseen", "the own pixel, not seen"),
        *part,
    )
    return [
        _section(f"What a pixel sees{of}", f"<p>{sees}</p>{field_figure(network)}{key}"),
        _section(f"How it is drawn{of}", f"<p>{draws}</p>{front_figure(wavefront)}"),
        _section(
            f"Masks{of}",
            f"<p>A masked convolution reads what comes before the pixel: above, and to the left.</p>"
            f'<div class="px-masks">{masks}</div>{own}',
        ),
    ]


def _layers(network: AutoregressiveModel) -> str:
    rows: list[tuple[str, Sequence[str]]] = []
    for block, members in groupby(layer_rows(network), lambda row: block_of(row.name)):
        layers = list(members)
        if block:
            total = sum(row.parameters for row in layers)
            rows.append(("px-block", (block, "", "", "", "", "", f"{total:,}")))
        rows += [("px-inner" if block else "", _row(row, block)) for row in layers]
    total = sum(p.numel() for p in network.parameters())
    rows.append(("px-total", ("total, masked weights counted", "", "", "", "", "", f"{total:,}")))
    return _table(_COLUMNS, rows)


def _row(row: LayerRow, block: str) -> tuple[str, ...]:
    return (
        row.name.removeprefix(f"{block}."),
        row.kernel.replace("x", "×"),
        row.mask_type,
        row.channels.replace("->", "→"),
        row.activation,
        row.output.replace("x", "×"),
        f"{row.parameters:,}",
    )


def _losses(served: Served) -> str:
    if not served.losses:
        return "<p>Its folder does not say: there is no table of losses in the card and no metrics.jsonl of a run.</p>"
    return f"<p>Negative log-likelihood in nats a sub-pixel, after each epoch.</p>{curve(served.losses)}"


def _card(served: Served) -> str:
    return served.card or "This model has no card."


def _section(title: str, content: str, *, wide: bool = False) -> str:
    spread = ' class="px-wide"' if wide else ""
    return f'<section{spread}><h3 class="px-heading">{html.escape(title)}</h3>{content}</section>'


def _key(*entries: tuple[str, str]) -> str:
    return f'<p class="px-legend">{"".join(f"<span class=px-key-{kind}>{name}</span>" for kind, name in entries)}</p>'


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Rows with their class, in a frame that scrolls sideways, by keyboard as well, where the page is narrow."""
    first = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr class="{kind}">{"".join(f"<td>{html.escape(cell)}</td>" for cell in cells)}</tr>' for kind, cells in rows
    )
    return (
        f'<div class="px-table" tabindex="0" role="region" aria-label="table"><table><thead><tr>{first}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
