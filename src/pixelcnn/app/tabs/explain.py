"""The tab Explain: what a model consists of, what it sees, how it draws, how it was trained, and its card."""

from __future__ import annotations

import html
from collections.abc import Sequence

import gradio as gr

from pixelcnn.app import parts
from pixelcnn.app.figures import MAX_SIDE, curve, field_figure, front_figure, mask_figures, pixels_seen
from pixelcnn.app.served import Served
from pixelcnn.models import AutoregressiveModel, OrderEnsemble
from pixelcnn.models.summary import LayerRow, layers_by_block, receptive_field
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["TITLE", "build", "model_html"]

TITLE = "Explain"
ORDER = 5

_COLUMNS = ("layer", "kernel", "mask", "in → out", "activation", "output", "parameters")


def build(backend: parts.Backend) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    pages = {
        name: (model_html(served), served.card or "This model has no card.") for name, served in backend.models.items()
    }
    about_first, card_of_first = pages[backend.first.name]
    model = parts.choice("Model", list(pages))
    about = gr.HTML(about_first)
    gr.HTML('<h3 class="px-heading">Card</h3>')
    card = gr.Markdown(card_of_first, elem_classes="px-card", header_links=False)

    def on_model(name: str) -> tuple[str, str]:
        return pages[name]

    model.change(on_model, model, [about, card], **parts.QUICK)


def model_html(served: Served) -> str:
    """Everything but the card."""
    model = served.model
    c, h, w = model.image_shape
    facts = [
        type(model).__name__,
        f"{h} × {w} pixels",
        f"{c} channels, {model.levels} levels" if c > 1 else f"{model.levels} levels",
        f"{sum(p.numel() for p in model.parameters()):,} parameters",
        *([f"{served.classes} classes"] if served.classes else []),
    ]
    sections = [f'<ul class="px-facts">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul>']
    if isinstance(model, OrderEnsemble):
        config = model.config
        rows = [
            ("", (order, f"network {member}", f"{share:.4g}"))
            for order, member, share in zip(config.orders, config.members, model.shares, strict=True)
        ]
        sections.append(
            _section("A mixture over scan orders", _table(("scan order", "drawn by", "weight"), rows, "scan orders"))
        )
    names = [f" of network {k}" if len(served.networks) > 1 else "" for k in range(len(served.networks))]
    for network, of in zip(served.networks, names, strict=True):
        sections += _figures(network, of)
    sections.append(_section("How it was trained", _losses(served)))
    for network, of in zip(served.networks, names, strict=True):
        sections.append(_section(f"Layers{of}", _layers(network), wide=True))
    return f'<div class="px-explain">{"".join(sections)}</div>'


def _figures(network: AutoregressiveModel, of: str) -> list[str]:
    _, h, w = network.image_shape
    schedule = schedule_of(network)
    wavefront, prelude, slope = schedule.wavefront, schedule.prelude, schedule.wavefront.slope
    field = receptive_field(network)
    attention = getattr(network.config, "attention", 0)
    context: tuple[int, ...] = getattr(network.config, "context", ())
    above = len(field) - 1
    rows = parts.count(above, "row")
    sees = f"Each pixel depends on {pixels_seen(field)} pixels before it: in {rows} above, and in its own row."
    if attention:
        sees += " Attention lets it see all the others before it as well."
    if context:
        scales = " and ".join(f"1/{scale}" for scale in context)
        sees += f" It also sees rows further above, coarsely, at {scales} of the resolution."
    if wavefront.steps < h * w:
        draws = (
            f"Pixels in row <i>i</i> and column <i>j</i> with the same {slope} · <i>i</i> + <i>j</i> do not depend on "
            "each other, so they are drawn together: "
            f"<strong>{wavefront.steps} exact steps instead of {h * w:,}</strong>."
        )
    else:
        draws = f"Each pixel waits for the one before it: {wavefront.steps} steps."
    if prelude:
        draws += f" Features that see only the rows above are computed up to {prelude} steps ahead."
    if max(h, w) > MAX_SIDE:
        draws += f" Shown is the upper left corner of {min(h, MAX_SIDE)} × {min(w, MAX_SIDE)} pixels."
    draws += " The stronger the colour, the later a pixel is drawn; one step is marked."
    masks = "".join(
        f"<figure>{figure}<figcaption>{caption}</figcaption></figure>" for caption, figure in mask_figures(network)
    )
    far = [("far", "seen by attention")] if attention else []
    unseen = "coarsely or not seen" if context else "not seen"
    key = _key(("own", "the pixel itself"), ("seen", "seen"), ("unseen", unseen), *far)
    part = [("part", "its earlier channels")] if network.image_shape[0] > 1 else []
    own = _key(
        ("seen", "seen"),
        ("unseen", "not seen"),
        ("own", "the pixel itself, seen"),
        ("own-unseen", "the pixel itself, not seen"),
        *part,
    )
    return [
        _section(f"What a pixel sees{of}", f"<p>{sees}</p>{field_figure(network)}{key}"),
        _section(f"How it is drawn{of}", f"<p>{draws}</p>{front_figure(wavefront)}"),
        _section(
            f"Masks{of}",
            "<p>A masked convolution reads what comes before the pixel: above, and to the left.</p>"
            f'<div class="px-masks">{masks}</div>{own}',
        ),
    ]


def _layers(network: AutoregressiveModel) -> str:
    rows: list[tuple[str, Sequence[str]]] = []
    for block, layers in layers_by_block(network):
        if block:
            total = sum(row.parameters for row in layers)
            rows.append(("px-block", (block, "", "", "", "", "", f"{total:,}")))
        rows += [("px-inner" if block else "", _row(row, block)) for row in layers]
    total = sum(p.numel() for p in network.parameters())
    rows.append(("px-total", ("total, including masked weights", "", "", "", "", "", f"{total:,}")))
    return _table(_COLUMNS, rows, "layers")


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
        return "<p>Not recorded: the card has no table of losses, and there is no metrics.jsonl of a training run.</p>"
    what = (
        "Negative log-likelihood in nats per sub-pixel: of the training images on average over each epoch, of the "
        "validation images after it."
    )
    return f"<p>{what}</p>{curve(served.losses)}"


def _section(title: str, content: str, *, wide: bool = False) -> str:
    spread = ' class="px-wide"' if wide else ""
    return f'<section{spread}><h3 class="px-heading">{html.escape(title)}</h3>{content}</section>'


def _key(*entries: tuple[str, str]) -> str:
    return f'<p class="px-legend">{"".join(f"<span class=px-key-{kind}>{name}</span>" for kind, name in entries)}</p>'


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], name: str) -> str:
    """Rows of text, each with its class; the name is what screen readers call the table."""
    lines = (
        f'<tr class="{kind}">{"".join(f"<td>{html.escape(cell)}</td>" for cell in cells)}</tr>' for kind, cells in rows
    )
    return parts.table(lines, head, name=name)
