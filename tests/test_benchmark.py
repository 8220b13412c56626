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
    clock = iter([0.0, 1.0, 1.0, 1.5, 1.5, 3.0])
    monkeypatch.setattr("pixelcnn.benchmark.time.perf_counter", lambda: next(clock))
    assert matrix_rate(seconds=0.0) == pytest.approx(2 * 1024**3 / 0.5 / 1e9)
