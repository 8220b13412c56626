"""Streams of samples, which are the sample in chunks, and samples that begin with a later image."""

import pytest
import torch

import pixelcnn

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny():
    """In float64, where the images are the same for every batch."""
    generator = torch.Generator().manual_seed(0)
    return pixelcnn.PixelCNN((2, 3, 4), levels=3, filters=4, blocks=1, generator=generator).double()


# The stream ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 64, 100, 150, 1000])
def test_a_stream_is_the_sample_in_chunks(chunk):
    model = tiny()
    chunks = list(model.sample_stream(150, seed=3, temperature=1.5, chunk=chunk))
    assert [len(part) for part in chunks] == [min(chunk, 150 - k) for k in range(0, 150, chunk)]
    assert all(part.dtype == torch.uint8 and part.device.type == "cpu" for part in chunks)
    assert torch.equal(torch.cat(chunks), model.sample(150, seed=3, temperature=1.5))


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("first", [1, 64, 99])
def test_first_skips_images(engine, first):
    model = tiny()
    everything = model.sample(100, seed=3)
    wanted = everything[first:]
    assert torch.equal(model.sample(100 - first, seed=3, first=first, engine=engine), wanted)
    assert torch.equal(torch.cat(list(model.sample_stream(100 - first, seed=3, first=first, chunk=9))), wanted)
    *_, last = model.sample_steps(100 - first, seed=3, first=first)
    assert torch.equal(last, wanted)


def test_the_furthest_images_can_be_drawn():
    far = tiny().sample(3, seed=2**63 - 1, first=2**62)
    assert torch.equal(far, tiny().sample(3, seed=2**63 - 1, first=2**62, engine="reference"))
    assert torch.equal(far[:2], tiny().sample(3, seed=2**63 - 1, first=2**62 - 1)[1:])
    assert not torch.equal(far, tiny().sample(3, seed=2**63 - 1))


def test_a_streams_arguments_are_looked_at_before_it_is_read():
    for options, message in (
        ({"n": -1}, r"n must be an integer in 0\.\.2\*\*63-1, got -1"),
        ({"first": -1}, r"first must be an integer in 0\.\.2\*\*62, got -1"),
        ({"first": 2**62 + 1}, r"first must be an integer in 0\.\.2\*\*62, got 4611686018427387905"),
        ({"first": 1.0}, r"first must be an integer in 0\.\.2\*\*62, got 1.0"),
        ({"chunk": 0}, "chunk must be an integer of at least 1, got 0"),
        ({"chunk": 2.0}, "chunk must be an integer of at least 1, got 2.0"),
        ({"temperature": -1.0}, "temperature must be positive and finite, got -1.0"),
        ({"engine": "warp"}, "engine must be one of fast, native, graph, eager, reference, got 'warp'"),
        ({"labels": torch.tensor([1])}, "labels must be None"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny().sample_stream(**{"n": 5, **options})


def test_a_streams_progress_counts_images(capsys):
    assert len(list(tiny().sample_stream(150, chunk=100, progress=True, seed=0))) == 2
    assert "150/150" in capsys.readouterr().err
