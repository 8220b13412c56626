"""Every operation: its number in operations.h, and a network of those that no family uses, exact in every engine."""

import ctypes
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pixelcnn
from pixelcnn import operations
from pixelcnn.layers import MaskedConv2d, PositionTable, Window
from pixelcnn.likelihoods import Bernoulli, Categorical, LogisticMixture
from pixelcnn.operations import Activation, Concat, Conv, FeatureScale, FullView, Norm, Operation, Position, Scale
from pixelcnn.sampling import Draw
from pixelcnn.sampling.native import structures

NATIVE = Path(structures.__file__).parent
SOURCE = "".join(path.read_text() for path in sorted(NATIVE.glob("*.[ch]")))


class Mixed(pixelcnn.PixelCNN):
    """A residual network with scales, activations and concatenations; its configuration is a PixelCNN's."""

    def __init__(self, *args, kinds=("elu", "silu", "gelu"), **kwargs):
        super().__init__(*args, **kwargs)
        c, filters = self.image_shape[0], self.config.filters
        generator = torch.Generator().manual_seed(1)
        self.kinds = kinds
        self.scales = nn.ModuleList(FeatureScale(filters) for _ in kinds)
        self.narrow = nn.ModuleList(
            MaskedConv2d(2 * filters, filters, 3, mask_type="B", groups=c, activation="none", generator=generator)
            for _ in kinds
        )
        with torch.no_grad():
            for scale in self.scales:
                scale.factor.normal_(1, 0.5, generator=generator)
            for layer in self.masked_layers:
                layer.weight.mul_(2)
                layer.bias.normal_(0, 0.3, generator=generator)

    def network(self, view):
        c = self.image_shape[0]
        x = first = view(Conv(self.input), view.image)
        for kind, scale, layer in zip(self.kinds, self.scales, self.narrow, strict=True):
            y = view(Activation(kind=kind, groups=c), view(Scale(layer=scale, groups=c), x))
            x = view(Conv(layer), view(Concat(groups=c), y, first))
        return view(Conv(self.output), x)


class Spread(pixelcnn.PixelCNN):
    """A network with dilated kernels, normalised features and a free map of biases."""

    def __init__(self, *args, kinds=("rms", "pono"), **kwargs):
        super().__init__(*args, **kwargs)
        (c, h, w), filters = self.image_shape, self.config.filters
        generator = torch.Generator().manual_seed(1)
        options = {"mask_type": "B", "groups": c, "dilation": 2, "generator": generator}
        self.kinds = kinds
        self.map = PositionTable(h, w, filters, generator, full=True)
        self.spread = nn.ModuleList(MaskedConv2d(filters, filters, 3, **options) for _ in kinds)
        self.input = MaskedConv2d(c, filters, 3, **options | {"mask_type": "A"})
        with torch.no_grad():
            for layer in self.masked_layers:
                layer.weight.mul_(2)
                layer.bias.normal_(0, 0.3, generator=generator)

    def network(self, view):
        c = self.image_shape[0]
        x = view(Conv(self.input), view.image, view(Position(table=self.map, groups=c)))
        for kind, layer in zip(self.kinds, self.spread, strict=True):
            x = x + view(Conv(layer), view(Norm(kind=kind, groups=c), x))
        return view(Conv(self.output), x)


class Units(pixelcnn.PixelCNN):
    """A network with the units of PixelCNN++ in colour groups."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        c, filters = self.image_shape[0], self.config.filters
        generator = torch.Generator().manual_seed(1)
        self.wide = MaskedConv2d(
            2 * filters, 2 * filters, 3, mask_type="B", groups=c, activation="none", generator=generator
        )
        with torch.no_grad():
            for layer in self.masked_layers:
                layer.weight.mul_(2)
                layer.bias.normal_(0, 0.3, generator=generator)

    def network(self, view):
        c = self.image_shape[0]
        x = view(operations.ConcatELU(groups=c), view(Conv(self.input), view.image))
        return view(Conv(self.output), view(operations.GLU(groups=c), view(Conv(self.wide), x)))


SHAPES = [((1, 6, 7), 2), ((3, 4, 5), 3), ((1, 1, 6), 4), ((2, 5, 1), 2)]


@pytest.mark.parametrize("network", [Mixed, Spread, Units])
@pytest.mark.parametrize(("shape", "levels"), SHAPES)
def test_new_operations_are_exact_in_every_engine(shape, levels, network):
    model = network(shape, levels=levels, filters=6 * shape[0], blocks=0)
    expected = model.double().sample(9, seed=3, engine="reference")
    for engine in ("native", "eager"):
        assert torch.equal(model.sample(9, seed=3, engine=engine), expected), engine
    assert 0 < expected.float().mean() < levels - 1
    native = model.float().sample(40, seed=4, engine="native")
    assert (native != model.sample(40, seed=4, engine="eager")).float().mean() < 0.01
    prepared = pixelcnn.exact.prepare(model)
    exact = [prepared.sample(9, seed=5, engine=engine) for engine in ("native", "eager", "reference")]
    assert torch.equal(exact[0], exact[1])
    assert torch.equal(exact[0], exact[2])
    data = pixelcnn.compress(model, native)
    assert torch.equal(pixelcnn.decompress(model, data), native)
    known = torch.zeros(shape, dtype=torch.bool)
    known.view(shape[0], -1)[:, -1] = True
    for engine in ("native", "eager", "reference"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = model.double().complete(expected[:2], known, n=2, particles=8, engine=engine, seed=0)
        assert torch.equal(done.images[..., -1, -1], expected[:2, None, :, -1, -1].expand(-1, 2, -1))


class Grouped(pixelcnn.PixelCNN):
    """Two convolutions in colour groups, the second of which sees further than the first one lets it."""

    def __init__(self, *args, kernels, whole=None, **kwargs):
        super().__init__(*args, **kwargs)
        c, filters = self.image_shape[0], self.config.filters
        generator = torch.Generator().manual_seed(1)
        one, other = ((kernel, "A" if k == 0 and isinstance(kernel, int) else "B") for k, kernel in enumerate(kernels))
        self.input, self.wide = (
            MaskedConv2d(inputs, filters, kernel, mask_type=mask, groups=c, generator=generator)
            for inputs, (kernel, mask) in ((c, one), (filters, other))
        )
        self.whole = None if whole is None else MaskedConv2d(c, filters, whole, mask_type="B", generator=generator)
        with torch.no_grad():
            for layer in self.masked_layers:
                layer.weight.mul_(3)
                layer.bias.normal_(0, 0.3, generator=generator)

    def network(self, view):
        added = None if self.whole is None else view(Conv(self.whole), view.image)
        return view(Conv(self.output), view(Conv(self.wide), view(Conv(self.input), view.image), added))


@pytest.mark.parametrize(
    "options",
    [
        {"kernels": (3, 5)},  # would be read in the step in which its later groups are still to come
        {"kernels": (Window(-1, -1, -1, 1), Window(-1, 0, -2, 2))},  # runs ahead of the pixels, all groups
        {"kernels": (3, 1), "whole": Window(-1, -1, -1, 1)},  # has a term that is not in groups
    ],
    ids=["wide", "ahead", "added"],
)
def test_colour_groups_are_complete_before_other_pixels_read_them(options):
    model = Grouped((3, 5, 6), levels=3, filters=6, blocks=0, **options).double()
    expected = model.sample(6, seed=3, engine="reference")
    for engine in ("native", "eager"):
        assert torch.equal(model.sample(6, seed=3, engine=engine), expected), engine
    assert torch.equal(pixelcnn.decompress(model, pixelcnn.compress(model, expected)), expected)


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("shape", [(1, 6, 7), (2, 4, 5)])
@pytest.mark.parametrize("network", [Mixed, Spread, Units])
def test_new_operations_in_onnx(shape, step, network):
    onnxruntime = pytest.importorskip("onnxruntime")
    from pixelcnn.onnx.full import full_graph
    from pixelcnn.onnx.step import step_graph

    model = network(shape, filters=6 * shape[0], blocks=0)
    session = onnxruntime.InferenceSession((step_graph if step else full_graph)(model))
    images = model.sample(3, seed=0)
    expected = model(images).detach().numpy()
    if not step:
        found = session.run(None, {"images": images.numpy()})[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
        return
    metadata = session.get_modelmeta().custom_metadata_map
    caches = {
        entry.name: np.zeros([3 if size == "N" else size for size in entry.shape], np.float32)
        for entry in session.get_inputs()
        if entry.name.startswith("cache")
    }
    seen = []
    for k in range(-int(metadata["prelude"]), int(metadata["steps"])):
        pixels, params, *kept = session.run(None, {"step": np.array(k), "images": images.numpy(), **caches})
        caches = dict(zip(caches, kept, strict=True))
        for row, pixel in enumerate(pixels):
            if k >= 0 and pixel < shape[1] * shape[2]:
                wanted = expected[:, :, pixel // shape[2], pixel % shape[2]]
                np.testing.assert_allclose(params[row], wanted, rtol=0, atol=2e-4)
                seen.append(int(pixel))
    assert sorted(seen) == list(range(shape[1] * shape[2]))


def test_a_dilated_kernel_is_a_larger_one_with_gaps():
    dilated = MaskedConv2d(2, 4, 3, mask_type="B", groups=2, dilation=3, activation="none").double()
    larger = MaskedConv2d(2, 4, 7, mask_type="B", groups=2, activation="none").double()
    with torch.no_grad():
        larger.weight.zero_()
        larger.weight[:, :, ::3, ::3] = dilated.weight
    assert dilated.taps == [(-3, -3), (-3, 0), (-3, 3), (0, -3), (0, 0)]
    assert dilated.window == larger.window
    view = FullView(torch.rand(2, 6, 8, 2, dtype=torch.float64))
    assert torch.allclose(view(Conv(dilated), view.image), view(Conv(larger), view.image))
    for wrong in ({"dilation": 0}, {"dilation": 2, "stride": 2}):
        with pytest.raises(ValueError, match="dilation"):
            MaskedConv2d(1, 1, 3, mask_type="B", **wrong)
    with pytest.raises(ValueError, match="dilation"):
        MaskedConv2d(1, 1, Window(-1, -1, -1, 1), mask_type="B", dilation=2)


@pytest.mark.parametrize("kind", ["rms", "pono"])
def test_norms_are_pytorchs(kind):
    x = torch.randn(3, 4, 5, 12, dtype=torch.float64)
    found = FullView(x)(Norm(kind=kind, groups=3), x).view(3, 4, 5, 3, 4)
    groups = x.view(3, 4, 5, 3, 4)
    assert FullView(x)(Norm(kind=kind, groups=3), x[:0]).shape == (0, 4, 5, 12)
    norm = nn.functional.rms_norm if kind == "rms" else nn.functional.layer_norm
    assert torch.allclose(found, norm(groups, (4,), eps=2.0**-16))


def test_a_walk_keeps_the_factors_that_it_began_with():
    model = Mixed((1, 4, 5), filters=6, blocks=0).double()
    sampler = pixelcnn.sampling.EagerSampler(model, Draw(5))
    expected = model.sample(5, seed=1, engine="eager")
    with torch.no_grad():
        model.scales[0].factor.mul_(-3)
    images = torch.zeros_like(expected)
    for _ in sampler.run(images, Draw(5, seed=1)):
        pass
    assert torch.equal(images, expected)
    assert not torch.equal(model.sample(5, seed=1, engine="eager"), expected), "made anew"
    assert torch.equal(model.sample(5, seed=1, engine="native"), model.sample(5, seed=1, engine="reference"))


# What Python and C have in common ------------------------------------------------------------------------------


def enumerated(first):
    """The names of the enum that begins with a name."""
    (body,) = re.findall(r"enum \{\s*(" + first + r"[^}]*)\}", SOURCE)
    return [name.strip() for name in body.split(",")]


def declared(name):
    """The fields of a struct, in order, with the kind of each: a pointer, or the type's name."""
    (body,) = re.findall(r"^struct " + name + r" \{(.*?)^\};", SOURCE, re.DOTALL | re.MULTILINE)
    fields = []
    for declaration in re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).split(";"):
        words = declaration.strip().removeprefix("const ").removeprefix("struct ")
        if words:
            kind, names = words.split(None, 1)
            fields += [(one.strip().lstrip("*"), "pointer" if "*" in one else kind) for one in names.split(",")]
    return fields


def test_opcodes_are_those_of_the_enum():
    names = enumerated("PRODUCT")
    of_python = {"Conv": "PRODUCT"}
    for cls in _subclasses(Operation):
        if "opcode" in vars(cls) and cls.opcode >= 0:
            expected = of_python.get(cls.__name__, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper())
            assert names[cls.opcode] == expected, cls
    from pixelcnn.sampling.native import layout, packing

    assert len(names) == packing._OPERATIONS
    assert names[layout._KEEP_KEYS] == "KEEP_KEYS"
    assert names[layout._KEEP_VALUES] == "KEEP_VALUES"
    counted = {cls.opcode for cls in _subclasses(Operation) if getattr(cls, "opcode", -1) >= 0}
    assert counted | {layout._KEEP_KEYS, layout._KEEP_VALUES} == set(range(len(names)))
    assert [name.lower() for name in enumerated("ELU")] == list(operations.activation._KINDS)
    assert [name.lower() for name in enumerated("RMS")] == list(operations.norm._KINDS)
    assert enumerated("BERNOULLI") == ["BERNOULLI", "CATEGORICAL", "MIXTURE"]
    assert (Bernoulli.tag, Categorical.tag, LogisticMixture.tag) == (0, 1, 2)


def _subclasses(cls):
    return [
        each
        for sub in cls.__subclasses__()
        for each in (sub, *_subclasses(sub))
        if each.__module__.startswith("pixelcnn")
    ]


@pytest.mark.parametrize("name", ["plan", "share", "coder", "team"])
def test_structures_are_those_of_c(name):
    kinds = {
        "int64_t": ctypes.c_int64,
        "uint64_t": ctypes.c_uint64,
        "double": ctypes.c_double,
        "pointer": ctypes.c_void_p,
    }
    struct = getattr(structures, f"{name.capitalize()}Struct")
    assert [(field, kinds[kind]) for field, kind in declared(name)] == list(struct._fields_)


def test_rows_of_integers_are_those_of_c():
    for name, fields in (("slot", structures.SLOT_FIELDS), ("op", structures.OP_FIELDS)):
        assert [(field, "int64_t") for field in fields] == declared(name)
    assert declared("run") == [("delay", "int64_t"), ("up", "int64_t"), ("length", "int64_t")]


def test_limits_are_those_of_c():
    from pixelcnn.arithmetic.mixture import MAX_MIXTURES
    from pixelcnn.frequencies import TOTAL_BITS
    from pixelcnn.sampling.native import packing

    defined = dict(re.findall(r"#define (\w+) (\d+)\b", SOURCE))
    assert int(defined["MAX_RUNS"]) == packing._MAX_RUNS
    assert int(defined["MAX_MIXTURES"]) == MAX_MIXTURES
    assert int(defined["SLOT_BITS"]) == TOTAL_BITS
    assert int(defined["BLOCK"]) == packing.ALIGNMENT
