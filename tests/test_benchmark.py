"""What the timings are held against; nothing here is timed."""

import pytest

import pixelcnn
from pixelcnn.benchmark import matrix_rate, multiply_adds, reference_seconds


def test_multiply_adds_of_the_seed_network():
    """24 of 49 taps, 5 of 9: counted by hand."""
    block = 128 * 128 + 5 * 128 * 64 + 64 * 128
    a_pixel = 24 * 128 + 5 * block + 2 * 128 * 128 + 128
    assert a_pixel == 363_648
    assert multiply_adds(pixelcnn.PixelCNN()) == 784 * a_pixel


def test_multiply_adds_of_a_colour_model_leave_out_later_groups():
    model = pixelcnn.PixelCNN((3, 2, 5), levels=2, filters=6, blocks=1)
    kernel = 24 * 3 * 6 + 2 * (0 + 1 + 2)  # two features a group; a group sees the earlier channels of its own pixel
    square = 2 * (2 + 4 + 6)  # its own group's features and earlier ones'
    block = square + (4 * 6 * 3 + (2 + 4 + 6)) + 2 * (1 + 2 + 3)
    assert multiply_adds(model) == 10 * (kernel + block + 2 * square + (2 + 4 + 6))


def test_reference_seconds_are_scaled_from_a_few_forwards(monkeypatch):
    model = pixelcnn.PixelCNN((1, 4, 5), filters=4, blocks=1)
    forwards = []
    raw_params = model.raw_params
    monkeypatch.setattr(model, "raw_params", lambda *given: forwards.append(1) or raw_params(*given))
    clock = iter(range(100))
    monkeypatch.setattr("pixelcnn.benchmark.time.perf_counter", lambda: next(clock))
    assert reference_seconds(model, 2, forwards=4) == pytest.approx(1 / 4 * 20)
    assert len(forwards) == 1 + 4


def test_matrix_rate_is_that_of_the_best_product(monkeypatch):
    of_matrices, of_convolutions = 2 * 1024**3, 2 * 16 * 24**2 * 128**2 * 25
    for slow, expected in ((4.0, of_matrices / 0.5 / 1e9), (0.25, of_convolutions / 0.25 / 1e9)):
        clock = iter([0.0, 1.0, 1.0, 1.5, 1.5, 3.0, 3.0, 3.0 + slow, 8.0, 8.0 + slow, 16.0, 16.0 + slow])
        monkeypatch.setattr("pixelcnn.benchmark.time.perf_counter", lambda clock=clock: next(clock))
        assert matrix_rate(seconds=0.0) == pytest.approx(expected)


def test_multiply_adds_of_a_context_are_counted_by_cells():
    plain, whole = (pixelcnn.GatedPixelCNN((1, 9, 10), filters=4, layers=2, context=context) for context in ((), (4,)))
    first, later, to_streams = 12 * 12 * 12, 3 * 6 * 12 * 12, 2 * 12 * 8  # 12 features a cell
    assert multiply_adds(whole) - multiply_adds(plain) == 3 * 3 * (first + later + to_streams)
