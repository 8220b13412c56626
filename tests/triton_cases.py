"""The triton engine's kernel without a GPU, one case a call: `TRITON_INTERPRET=1 python triton_cases.py CASE`.

A program of its own, since triton reads the variable when it is imported; `test_triton.py` starts it. The case
`compiled` is to be run without the variable.
"""

import dataclasses
import os
import re
import sys

import torch
import triton.language as tl
from triton.runtime import interpreter

import pixelcnn
from pixelcnn.randomness import image_states, uniforms
from pixelcnn.sampling import engine_of, why_not_triton
from pixelcnn.sampling import triton as triton_engine
from pixelcnn.sampling.program import Sum, record
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.triton import Tile, TritonSampler


def repair():
    """Three things that triton's interpreter (3.6 to 3.8) does not do right, and one that takes half of its time."""
    builder, patch_tensor = interpreter.InterpreterBuilder, interpreter._patch_lang_tensor
    dot, cast = builder.create_dot, builder.cast_impl

    def with_index(tensor, scope):  # it makes an int of an array with one entry, which NumPy 2.4 refuses
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    def widened(self, a, b, *others):  # it multiplies the bits of bfloat16 as if they were integers
        if a.dtype.scalar == tl.bfloat16:
            a, b = (self.cast_impl(x, tl.block_type(tl.float32, list(x.data.shape))) for x in (a, b))
        return dot(self, a, b, *others)

    def rounded(self, source, kind):  # it cuts float32 off to bfloat16, where a GPU rounds to nearest
        if (source.dtype.scalar, kind.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, source, kind)
        bits = torch.from_numpy(source.data).bfloat16().view(torch.uint16).numpy()
        return interpreter.TensorHandle(bits, tl.bfloat16)

    interpreter._patch_lang_tensor = with_index
    builder.create_dot, builder.cast_impl = widened, rounded
    options = dataclasses.replace(interpreter.interpreter_builder.options, sanitize_overflow=False)
    interpreter.interpreter_builder.options = options


if os.environ.get("TRITON_INTERPRET") == "1":
    repair()


class Plain(pixelcnn.PixelCNN):
    """Reads features twice and adds what no convolution has just made."""

    def network(self, view):
        h = view.input_conv(self.input)
        a = self.blocks[0].forward(h, view)
        for layer in self.head:
            b = view.conv(layer, (a + h) + h)
        return view.conv(self.output, b)


class Gate(pixelcnn.PixelCNN):
    """Asks for what the kernel does not know."""

    def network(self, view):
        h = view.input_conv(self.input)
        return view.conv(self.output, h + view.gate(view.concat_elu(h), 1))


class Added(pixelcnn.PixelCNN):
    """Adds before an activation."""

    def network(self, view):
        h = view.input_conv(self.input)
        return view.conv(self.output, view.conv(self.head[0], h, h))


def build(shape, levels, cls=pixelcnn.PixelCNN, **sizes):
    """Weights large enough for the probabilities to be far from uniform."""
    generator = torch.Generator().manual_seed(1)
    model = cls(shape, levels=levels, **({"filters": 7, "blocks": 1} | sizes), generator=generator)
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight.mul_(1.5 if layer.activation == "relu" else 0.5)
            layer.bias.add_(torch.randn(layer.bias.shape, generator=generator) * 0.2 + 0.1)
    return model


def same(model, n, precision=None, **options):
    """Whether the kernel draws n images as the reference does."""
    found = model.sample(n, seed=7, engine="triton", precision=precision, **options)
    expected = model.sample(n, seed=7, engine="reference", precision=precision, **options)
    assert torch.equal(found, expected), f"{(found != expected).sum()} of {found.numel()} differ"
    return found


def shape(name):
    """Case CxHxW-levels-n."""
    size, levels, n = name.split("-")
    images = same(build(tuple(map(int, size.split("x"))), int(levels)), int(n))
    assert images.unique().numel() > 1


def sums():
    model = build((2, 3, 4), 3, Plain)
    assert sum(isinstance(op, Sum) for op in record(model).operations) == 2
    same(model, 3)


def aligned():
    """Features that the compiler may take for multiples of 16, in several tiles of columns and of depth."""
    model = build((1, 2, 4), 2, filters=96)
    sampler = TritonSampler(model, 2)
    assert sampler._tables.unit == 16
    assert max(sampler._tile.columns, sampler._tile.depth) < 96
    same(model, 2)


def bf16():
    """In so few images no sum falls to the other side of a rounding; features that are cut off change two pixels."""
    model = build((1, 4, 5), 3, filters=32)
    tables = TritonSampler(model, 3, precision="bf16")._tables
    assert tables.weights.dtype == tables.scale.dtype == torch.bfloat16
    found = same(model, 3, precision="bf16")
    assert not torch.equal(model(found), model(found, precision="bf16"))


def chunks():
    """More images than two programs take at a time."""
    model = build((1, 3, 5), 2, filters=4)
    many = TritonSampler(model, 70)
    assert many._programs * many._tables.group < 70
    images = torch.zeros(70, *model.image_shape, dtype=torch.uint8)
    assert len(list(many.run(images, 7, 0, 1.0))) == many.steps
    assert torch.equal(images, model.sample(70, seed=7, engine="eager"))
    few = TritonSampler(model, 2)
    assert few._tables.group == 1
    assert torch.equal(model.sample(2, seed=7, engine="triton"), images[:2])


def rows():
    """Fronts of more pixels than a tile has rows; tiles smaller than any layer."""
    triton_engine._TILES[torch.float32] = (Tile(rows=1, columns=4, depth=4, warps=1, stages=1),)
    model = build((1, 2, 6), 2, filters=6)
    assert max(len(schedule_of(model).wavefront.rows(step)) for step in range(10)) == 2
    same(model, 1)


def temperature():
    model = build((1, 3, 4), 4)
    found = same(model, 6, temperature=0.7)
    assert not torch.equal(found, model.sample(6, seed=7))


def changed():
    """However weights are changed, the next images are drawn with them."""
    model = build((1, 2, 4), 2)
    before = same(model, 8)
    model.output.bias.data += 3
    assert not torch.equal(same(model, 8), before)


def first():
    """Images far along a seed's row, a seed of 63 bits."""
    model = build((1, 2, 3), 3)
    images = torch.zeros(2, 1, 2, 3, dtype=torch.uint8)
    list(TritonSampler(model, 2).run(images, 2**63 - 1, 2**40, 1.0))
    expected = torch.zeros_like(images)
    list(engine_of(model, "eager")(model, 2).run(expected, 2**63 - 1, 2**40, 1.0))
    assert torch.equal(images, expected)
    assert image_states(3, 5, 4).dtype == torch.int64
    assert torch.equal(uniforms(3, 5, 4, 6)[1:], uniforms(3, 6, 3, 6))


def refused():
    model = build((1, 2, 3), 2)
    assert why_not_triton(model) is None
    assert "models in float32" in why_not_triton(model.double())
    assert engine_of(model.float(), "triton") is TritonSampler
    gated = pixelcnn.GatedPixelCNN((1, 3, 4), filters=4, layers=2, num_classes=3)
    assert why_not_triton(gated) == "it does not know features that are computed ahead of the pixels"
    assert why_not_triton(gated, conditional=True) == "it does not know conditions"
    plusplus = pixelcnn.PixelCNNPlusPlus((1, 3, 4), 5, filters=4, blocks=1, mixtures=2)
    assert why_not_triton(plusplus) == "it does not know the likelihood LogisticMixture"
    assert why_not_triton(build((1, 2, 3), 2, Gate)) == "it knows convolutions, ReLU and sums, not concat_elu"
    assert why_not_triton(build((1, 2, 3), 2, Added)) == "it does not add to a convolution before its activation"


def compiled():
    """For an H100: what the kernel's docstring says about memory, and that the tiles fit into a multiprocessor."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from pixelcnn.sampling.triton.kernel import draw_images

    for kind, params, unit, tile in (
        ("fp32", 1, 16, triton_engine._TILES[torch.float32][0]),
        ("fp32", 3, 1, triton_engine._TILES[torch.float32][-1]),
        ("bf16", 1, 16, triton_engine._TILES[torch.bfloat16][-1]),
    ):
        constants = triton_engine.constants(tile, unit, params, "ieee")
        pointers = {"images": "*u8", "states": "*i64", "temperature": "*fp64", "biases": "*fp32", "sums": "*fp32"}
        kinds = dict.fromkeys(("scale", "weights", "operands"), f"*{kind}") | {"plan": "*i32", "n": "i32"}
        signature = pointers | kinds | dict.fromkeys(constants, "constexpr")
        names = draw_images.arg_names
        source = ASTSource(
            fn=draw_images,
            signature={name: signature[name] for name in names},
            constexprs={(names.index(name),): value for name, value in constants.items()},
            attrs={(k,): [["tt.divisibility", 16]] for k, name in enumerate(names) if signature[name][0] == "*"},
        )
        options = {"num_warps": tile.warps, "num_stages": tile.stages}
        kernel = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        ptx = kernel.asm["ptx"]
        assert "ld.global.nc" not in ptx
        assert ptx.count("bar.sync") >= 2
        assert ("mma" in ptx) == (kind == "bf16"), "float32 is multiplied exactly, bf16 on the tensor cores"
        assert bool(re.search(r"st\.global\S*\.v4", ptx)) == (unit == 16), "aligned features move several at a time"
        assert ("cvt.rn.bf16" in ptx) == (kind == "bf16"), "rounded to nearest"
        assert kernel.metadata.shared <= 227 * 1024
        print(kind, tile, "shared memory", kernel.metadata.shared)


if __name__ == "__main__":
    case = sys.argv[1]
    shape(case) if case[0].isdigit() else globals()[case]()
