"""The native engine beyond the contract: recording, one order of summation, and threads."""

import ctypes
import itertools
import threading

import pytest
import torch

import pixelcnn
from native_models import attentive, needs_compiler, small
from pixelcnn.layers import MaskedConv2d
from pixelcnn.operations import Conv, Sum
from pixelcnn.randomness import mixed_seed, uniforms
from pixelcnn.sampling import Draw, engine_of, why_not_native
from pixelcnn.sampling.native import NativeSampler
from pixelcnn.sampling.native.compiler import native_library
from pixelcnn.sampling.program import record
from pixelcnn.sampling.reference import ReferenceSampler
from pixelcnn.sampling.wavefront import Wavefront
from streams import threads as torch_threads


def draw(model, n, **options):
    images = torch.zeros(n, *model.image_shape, dtype=torch.uint8)
    for _ in NativeSampler(model, Draw(n), **options).run(images, Draw(n, seed=4)):
        pass
    return images


def first_params(model, draws, threads):
    """The parameters of the first image's pixels, step by step."""
    sampler = NativeSampler(model, draws, threads=threads, lockstep=True)  # which stops after each step
    images = torch.zeros(draws.n, *model.image_shape, dtype=torch.uint8)
    found = []
    for step, _ in enumerate(sampler.run(images, draws)):
        member = sampler._walk._members[0]
        rows = len(sampler._walk.wavefront.rows(step))
        found.append(member.plan.raw_params(member.arena, rows).reshape(rows, member.plan.n, -1)[:, 0].copy())
    return found


def test_the_seed_network_is_recorded_as_it_is_written():
    program = record(pixelcnn.PixelCNN())
    assert [type(node.op) for node in program.nodes] == [Conv] * 19, "each residual's sum belongs to a convolution"
    assert [k for k, node in enumerate(program.nodes) if node.residual is not None] == [3, 6, 9, 12, 15]
    assert program.output == program.nodes[-1].target


class Plain(pixelcnn.PixelCNN):
    """Reads features twice and adds what no convolution has just made."""

    def network(self, view):
        h = view(Conv(self.input), view.image)
        a = self.blocks[0].forward(h, view)
        b = self.blocks[1].forward(a, view)
        for layer in self.head:
            b = view(Conv(layer), (a + b) + h)
        return view(Conv(self.output), b)


class Foreign(pixelcnn.PixelCNN):
    """Does what a program has no word for."""

    def network(self, view):
        return view(Conv(self.output), torch.tanh(view(Conv(self.input), view.image)))


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "dtype"), list(itertools.product(((1, 5, 6), (3, 4, 5)), (torch.float32, torch.float64)))
)
def test_sums_of_any_two_values(shape, dtype):
    model = Plain(shape, levels=3, filters=19, blocks=2, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert sum(isinstance(node.op, Sum) for node in record(model).nodes) == 3
    assert torch.equal(draw(model, 5), model.sample(5, seed=4, engine="reference"))


def test_what_cannot_be_recorded_is_sampled_by_the_reference():
    model = Foreign((1, 3, 3), filters=4, blocks=1)
    assert why_not_native(model) is not None
    assert engine_of(model, "fast") is ReferenceSampler
    assert torch.equal(model.sample(3, seed=0), model.sample(3, engine="reference", seed=0))
    for engine in ("native", "eager"):
        with pytest.raises(ValueError, match=f"engine '{engine}' cannot run this model here: "):
            model.sample(1, engine=engine, seed=0)


class Huge(pixelcnn.PixelCNN):
    """A network whose hidden layer has a kernel of 33 x 33."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.huge = MaskedConv2d(2, 2, 33, mask_type="B")

    def network(self, view):
        return view(Conv(self.output), view(Conv(self.huge), view(Conv(self.input), view.image)))


@needs_compiler
def test_kernels_of_more_taps_than_it_has_room_for():
    assert "at most 512" in why_not_native(Huge((1, 17, 17), filters=2, blocks=0))
    small = Huge((1, 5, 6), filters=2, blocks=0)  # few of the taps lie within the image
    assert torch.equal(small.sample(3, seed=0), small.sample(3, seed=0, engine="reference"))


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("build", "slope"), [(small, 4), (attentive, 11)])
def test_batch_and_threads_do_not_change_a_bit(build, slope, dtype):
    """The parameters themselves, not the draws: a uniform that never meets them could hide a difference."""
    model = build((1, 9, 11), levels=5, dtype=dtype)

    expected = first_params(model, Draw(1, seed=4), 1)
    assert len(expected) == slope * 8 + 11
    for n, threads in ((2, 1), (5, 1), (4, 2), (13, 2), (31, 3)):
        found = first_params(model, Draw(n, seed=4), threads)
        assert all((a == b).all() for a, b in zip(found, expected, strict=True)), (n, threads)


@needs_compiler
@pytest.mark.parametrize(
    ("options", "size"),
    [({"condition_dim": 37}, (37,)), ({"condition_channels": 3}, (3, 4, 4)), ({"num_classes": 5}, None)],
)
def test_batch_and_threads_do_not_change_what_images_are_conditioned_on(options, size):
    generator = torch.Generator().manual_seed(3)
    model = pixelcnn.GatedPixelCNN((1, 8, 8), filters=24, layers=2, **options, generator=generator)
    condition = None if size is None else torch.randn(33, *size, generator=generator)
    labels = torch.arange(33) % 5 if size is None else None
    draws = Draw(33, labels, seed=4, condition=condition)
    expected = first_params(model, draws.part(0, 1), 1)
    for n, threads in ((2, 1), (3, 2), (33, 2)):
        found = first_params(model, draws.part(0, n), threads)
        assert all((a == b).all() for a, b in zip(found, expected, strict=True)), (n, threads)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("lockstep", [False, True])
def test_threads(threads, lockstep):
    model = small()
    assert torch.equal(draw(model, 11, threads=threads, lockstep=lockstep), model.sample(11, seed=4, engine="eager"))


@needs_compiler
def test_a_sampler_that_lacks_a_thread_leaves_none(monkeypatch):
    """Those already started would go on writing to memory that is freed."""
    model, started = small((1, 40, 40)), []

    class Scarce(threading.Thread):
        def start(self):
            if len(started) == 1:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr("pixelcnn.sampling.native.threading.Thread", Scarce)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        draw(model, 60, threads=3)
    assert not started[0].is_alive()


@needs_compiler
def test_a_sampler_serves_many_batches():
    model = small()
    sampler = NativeSampler(model, Draw(3))
    for first in (0, 3):
        images = torch.zeros(3, *model.image_shape, dtype=torch.uint8)
        for _ in sampler.run(images, Draw(3, seed=4, first=first)):
            pass
        assert torch.equal(images, model.sample(6, seed=4, engine="eager")[first : first + 3])


@needs_compiler
def test_in_lockstep_every_image_has_the_step_and_no_more():
    model = small((1, 6, 9), levels=2)
    wavefront = Wavefront(6, 9, 4)
    images = torch.zeros(5, 1, 6, 9, dtype=torch.uint8)
    final = model.sample(5, seed=4)
    for step, _ in enumerate(NativeSampler(model, Draw(5), threads=3, lockstep=True).run(images, Draw(5, seed=4))):
        drawn = torch.tensor([[j + wavefront.slope * i <= step for j in range(9)] for i in range(6)])
        assert torch.equal(images, torch.where(drawn, final, 0))
    assert step == wavefront.steps - 1


@needs_compiler
def test_a_sampler_that_is_dropped_leaves_no_thread():
    before = threading.active_count()
    with torch_threads(3):  # with one, as each process of the suite may have, it starts none
        steps = small().sample_steps(8, seed=0)
        next(steps)
        assert threading.active_count() == before + 2
        steps.close()
    assert threading.active_count() == before


@needs_compiler
def test_raster_order_draws_the_same():
    model = small((1, 5, 7))
    assert NativeSampler(model, Draw(3), slope=7).steps == 35
    assert torch.equal(draw(model, 3, slope=7), model.sample(3, seed=4, engine="reference"))


@needs_compiler
def test_changed_weights_are_seen():
    """However they are changed: `.data` goes past the tensor's version counter."""
    model = small()
    model.sample(3, seed=0)
    model.output.bias.data += torch.linspace(-2, 2, len(model.output.bias))
    assert torch.equal(model.sample(3, seed=0), model.sample(3, engine="reference", seed=0))
    model.double()
    assert torch.equal(model.sample(3, seed=0), model.sample(3, engine="reference", seed=0))


@needs_compiler
@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_uniforms_are_those_of_the_package(seed):
    library = native_library(torch.float32)
    library.uniform.restype = ctypes.c_double
    expected = uniforms(seed, 2**40, 2, 5)
    for i, k in itertools.product(range(2), range(5)):
        found = library.uniform(ctypes.c_uint64(mixed_seed(seed)), ctypes.c_int64(2**40 + i), ctypes.c_int64(k))
        assert found == expected[i, k].item()


@needs_compiler
def test_large_images_are_drawn_a_few_at_a_time():
    model = small((1, 40, 160), levels=2, filters=6, blocks=1)
    assert NativeSampler.batch(model) == 5 * torch.get_num_threads(), "40 rows in the widest front"
    images = draw(model, 23, threads=1)
    assert torch.equal(images[:2], model.sample(2, seed=4, engine="eager"))
    assert torch.equal(images, draw(model, 23, threads=2))


@needs_compiler
def test_gates_are_as_exact_as_float32_is():
    """Parameters of a network whose gates are driven far into saturation, against float64."""
    model = pixelcnn.GatedPixelCNN(
        (1, 6, 9), levels=5, filters=37, layers=3, generator=torch.Generator().manual_seed(3)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    sampler = NativeSampler(model, Draw(3), threads=1)
    images = torch.zeros(3, 1, 6, 9, dtype=torch.uint8)
    for _ in sampler.run(images, Draw(3)):
        pass
    member = sampler._walk._members[0]
    plan, arena = member.plan, member.arena
    exact = model.double()(images)[:, 0, -1, -1]
    found = torch.from_numpy(plan.raw_params(arena, 1)).double()
    assert exact.abs().max() > 10
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_attention_is_as_exact_as_float32_is():
    """Parameters of the last pixel, which attends to all the others by weights far from equal, against float64."""
    model = attentive((1, 9, 7), levels=5)
    sampler = NativeSampler(model, Draw(3), threads=1)
    images = torch.zeros(3, 1, 9, 7, dtype=torch.uint8)
    for _ in sampler.run(images, Draw(3)):
        pass
    member = sampler._walk._members[0]
    plan, arena = member.plan, member.arena
    found = torch.from_numpy(plan.raw_params(arena, 1)).double()
    torch.testing.assert_close(found, model.double()(images)[:, 0, -1, -1], rtol=1e-5, atol=1e-5)
