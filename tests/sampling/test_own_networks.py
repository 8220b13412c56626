"""Networks that no family has but a view allows: every engine draws what the reference does, or says that it cannot."""

import warnings

import pytest
import torch
from torch import nn

import pixelcnn
from pixelcnn.layers import MaskedConv2d, PositionTable, ScaledConv2d, Window
from pixelcnn.operations import (
    Activation,
    Attention,
    Concat,
    Conv,
    FeatureScale,
    FullView,
    Gate,
    Norm,
    Position,
    Scale,
    Upsample,
)
from pixelcnn.sampling import engine_of
from pixelcnn.sampling.program import RecordingError, record

BOTH = ("eager", "native")
BEFORE, TWO_LEFT, ABOVE = Window(-1, 0, -2, -1), Window(0, 0, -3, -2), Window(-2, -1, -2, 3)


class Own(pixelcnn.PixelCNN):
    """The network `of(model, view)`, whose layers are made where it first asks for them."""

    def __init__(self, shape, of):
        super().__init__(shape, levels=3, filters=2 * shape[0], blocks=0)
        c, h, w = shape
        self.of, self.made = of, nn.ModuleDict()
        with torch.no_grad():
            self.output.weight.mul_(3)
            self.network(FullView(torch.zeros(1, h, w, c)))

    def network(self, view):
        return view(Conv(self.output), self.of(self, view))

    def conv(self, view, name, x, kernel, mask="B", add=None, outputs=None, kind=MaskedConv2d, **options):
        c = self.image_shape[0]
        if name not in self.made:
            generator = torch.Generator().manual_seed(len(self.made))
            options = {"mask_type": mask, "groups": c, "activation": "none", "generator": generator} | options
            layer = self.made[name] = kind(x.shape[-1], outputs or 2 * c, kernel, **options)
            layer.weight.mul_(2)
            layer.bias.normal_(0, 0.3, generator=generator)
        return view(Conv(self.made[name]), x, add)

    def places(self, view, name, features, groups):
        if name not in self.made:
            _, h, w = self.image_shape
            self.made[name] = PositionTable(h, w, features, torch.Generator().manual_seed(7), full=True)
            self.made[name].table.mul_(20)
        return view(Position(table=self.made[name], groups=groups))

    def context(self, view, x, name="context", kernel=ABOVE):
        c = self.image_shape[0]
        cells = self.conv(view, f"{name}_cells", x, kernel, "A", groups=(c, 1), stride=2)
        return view(Upsample(cell=2, groups=c), self.conv(view, f"{name}_up", cells, 1, groups=(1, c)))


def two_to_the_left(m, view):
    x = m.conv(view, "first", view.image, 3, "A")
    return m.context(view, view.image) + m.conv(view, "left", x, TWO_LEFT)


def two_to_the_left_and_above(m, view):
    x = m.conv(view, "own", m.conv(view, "first", view.image, 3, "A"), 1)
    above = m.conv(view, "above", x, Window(-1, -1, -1, 1))  # is computed a row at a time
    return above + m.context(view, view.image) + m.conv(view, "left", x, TWO_LEFT)


def to_the_right(m, view):
    x = m.conv(view, "first", view.image, TWO_LEFT)
    return m.context(view, view.image) + m.conv(view, "right", x, Window(0, 0, 0, 1))


def to_the_right_a_step_late(m, view):
    x = m.conv(view, "right", m.conv(view, "first", view.image, Window(0, 0, -1, -1)), Window(0, 0, 0, 1))
    return m.context(view, view.image) + m.conv(view, "left", x, Window(0, 0, -1, -1))


def nothing_but_context(m, view):
    return m.context(view, view.image)


def context_of_finished_pixels(m, view):
    x = m.conv(view, "image", view.image, 1, "all", groups=(m.image_shape[0], 1))
    cells = m.conv(view, "cells", x, ABOVE, "A", groups=1, stride=2)
    return view(Upsample(cell=2, groups=1), m.conv(view, "up", cells, 1, groups=1))


def cells_of_their_own_row(m, view):
    return m.conv(view, "first", view.image, 3, "A") + m.context(view, view.image, kernel=Window(-1, 0, -2, -1))


def cells_of_cells(m, view):
    c = m.image_shape[0]
    x = m.conv(view, "cells", view.image, ABOVE, "A", groups=(c, 1), stride=2)
    x = m.conv(view, "more", x, Window(-1, 0, -1, 2), groups=1, stride=2)
    x = view(Upsample(cell=4, groups=c), m.conv(view, "up", x, 1, groups=(1, c)))
    return x + m.conv(view, "first", view.image, 3, "A")


def pixels_first(m, view):
    c = m.image_shape[0]
    x = m.conv(view, "image", view.image, 1, "B" if c == 1 else "all", groups=(c, 1), activation="relu")
    return m.conv(view, "neighbours", m.conv(view, "more", x, 1, "all", groups=1), 3, "A", groups=(1, c))


def one_layer_often(m, view):
    x = m.conv(view, "first", view.image, Window(-1, -1, -1, 1))
    for _ in range(4):
        x = m.conv(view, "again", x, Window(-1, 0, -1, 1), activation="relu")
    return x


def keys_with_heads_of_two_sizes(m, view):
    c = m.image_shape[0]
    x = m.conv(view, "first", view.image, 3, "A")
    keys = m.conv(view, "own", view.image, 1, "all", outputs=2, groups=(c, 1))
    return x + view(Attention(heads=1, groups=c), x, keys, keys) + view(Attention(heads=2, groups=c), x, keys, keys)


def keys_of_places(m, view):
    c = m.image_shape[0]
    x = m.conv(view, "first", view.image, 3, "A")
    values = m.conv(view, "own", view.image, 1, "all", outputs=2, groups=(c, 1))
    found = view(Attention(heads=2, groups=c), m.places(view, "asked", 2 * c, c), m.places(view, "kept", 2, 1), values)
    return m.conv(view, "found", found, BEFORE) + (x + m.context(view, view.image) if m.image_shape[1] > 1 else x)


def smooth_pixels(m, view):
    return m.conv(view, "first", view(Activation(kind="silu"), view.image), 3, "A")


def smooth_pixels_in_context(m, view):
    return smooth_pixels(m, view) + m.context(view, view(Activation(kind="gelu"), view.image))


def places_beside(m, view):
    c = m.image_shape[0]
    places = m.conv(view, "of_places", m.places(view, "places", 2 * c, c), 1)
    x = view(Concat(groups=c), m.conv(view, "first", view.image, 3, "A"), places)
    return m.conv(view, "both", x, 1)


def ungrouped_with_a_grouped_term(m, view):
    c = m.image_shape[0]
    x = m.conv(view, "first", view.image, 3, "A")
    whole = m.conv(view, "whole", view.image, BEFORE, add=x, groups=(c, 1))
    return m.conv(view, "both", whole, BEFORE, groups=(1, c))


def beyond_the_image(m, view):
    x = m.conv(view, "far", view.image, Window(0, 0, -9, -8), add=m.conv(view, "first", view.image, 3, "A"))
    return m.conv(view, "up", x, Window(-9, -8, -1, 1)) + m.conv(view, "right", x, Window(-1, -1, 8, 9)) + x


def nothing_of_a_single_channel(m, view):
    x = m.conv(view, "first", view.image, 3, "A")
    return x + m.conv(view, "coupling", view.image, 1, "A")


def scaled_and_dilated(m, view):
    x = m.conv(view, "first", view.image, 3, "A")
    return m.context(view, view.image) + m.conv(
        view, "wide", x, 3, "A", kind=ScaledConv2d, scale=torch.ones(2), dilation=2
    )


CASES = [
    (two_to_the_left, (3, 4, 6), BOTH),
    (two_to_the_left_and_above, (1, 6, 4), BOTH),
    (two_to_the_left_and_above, (3, 4, 5), BOTH),
    (to_the_right, (1, 4, 5), ()),
    (to_the_right_a_step_late, (1, 4, 4), ()),
    (nothing_but_context, (2, 5, 4), BOTH),
    (context_of_finished_pixels, (1, 5, 4), ("eager",)),
    (cells_of_their_own_row, (1, 4, 4), ()),
    (cells_of_cells, (2, 9, 6), ("eager",)),
    (pixels_first, (1, 5, 6), BOTH),
    (pixels_first, (3, 4, 5), BOTH),
    (pixels_first, (1, 1, 1), BOTH),
    (one_layer_often, (1, 5, 6), BOTH),
    (one_layer_often, (3, 4, 5), BOTH),
    (keys_with_heads_of_two_sizes, (2, 4, 3), BOTH),
    (keys_of_places, (2, 4, 3), BOTH),
    (keys_of_places, (1, 1, 6), BOTH),
    (smooth_pixels, (1, 4, 5), BOTH),
    (smooth_pixels_in_context, (1, 4, 5), ("eager",)),
    (places_beside, (2, 3, 4), BOTH),
    (ungrouped_with_a_grouped_term, (3, 4, 5), BOTH),
    (beyond_the_image, (1, 3, 2), BOTH),
    (nothing_of_a_single_channel, (1, 4, 3), BOTH),
    (scaled_and_dilated, (1, 5, 6), BOTH),
]


@pytest.mark.parametrize(("of", "shape", "engines"), CASES)
def test_engines_agree_or_refuse(of, shape, engines):
    model = Own(shape, of).double()
    expected = model.sample(4, seed=3, engine="reference")
    for engine in BOTH:
        if engine in engines:
            assert torch.equal(model.sample(4, seed=3, engine=engine), expected), engine
        else:
            with pytest.raises(ValueError, match="cannot run this model"):
                engine_of(model, engine)
    if engines:
        exact = model.prepared()
        drawn = exact.sample(2, seed=4, engine="reference")
        for engine in engines:
            assert torch.equal(exact.sample(2, seed=4, engine=engine), drawn), engine


def test_without_a_schedule_the_reference_draws():
    model = Own((1, 3, 3), to_the_right).double()
    with pytest.warns(UserWarning, match="slower"):
        images = model.sample(2, seed=0)
    assert torch.equal(images, model.sample(2, seed=0, engine="reference"))


class Half(Gate):
    """A gate of half the size, without a case in operations.h."""

    def compute(self, arithmetic, part, *inputs):
        return super().compute(arithmetic, part, *inputs) / 2


def test_what_compiled_code_does_not_know_is_left_to_pytorch():
    def halved(m, view):
        return view(Half(groups=1), m.conv(view, "first", view.image, 3, "A", outputs=4))

    model = Own((1, 4, 4), halved).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(model.sample(3, seed=1), model.sample(3, seed=1, engine="reference"))
    with pytest.raises(ValueError, match="Half"):
        engine_of(model, "native")


def attended(m, view, x):
    return view(Attention(heads=1), m.conv(view, "query", x, 1, outputs=1), view.image, view.image)


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda m, view, x: view(Scale(layer=FeatureScale(1)), x), "1 factors"),
        (lambda m, view, x: x + m.conv(view, "one", x, 1, outputs=1), r"\(2, 1\)"),
        (lambda m, view, x: m.conv(view, "out", attended(m, view, x), 1), "attention"),
    ],
    ids=["factor", "term", "image"],
)
def test_what_only_whole_images_allow_is_not_recorded(ask, named):
    model = Own((1, 3, 3), lambda m, view: ask(m, view, m.conv(view, "first", view.image, 3, "A")))
    with pytest.raises(RecordingError, match=named):
        record(model)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Activation(kind="relu"), "kind .*'relu'"),
        (lambda: Norm(kind="layer"), "kind .*'layer'"),
        (lambda: MaskedConv2d(1, 2, 4, mask_type="A"), "kernel .*4"),
        (lambda: MaskedConv2d(1, 2, Window(-1, 1, 0, 0), mask_type="A"), "kernel .*bottom=1"),
        (lambda: MaskedConv2d(1, 2, 3, mask_type="C"), "mask_type .*'C'"),
        (lambda: MaskedConv2d(1, 2, 3, mask_type="A", activation="gelu"), "activation .*'gelu'"),
        (lambda: MaskedConv2d(3, 6, 1, mask_type="all", groups=3), "groups .*3"),
    ],
)
def test_options_that_there_are_not_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
