"""PhotoPixelCNN: its linear prediction, and its options."""

import math

import pytest
import torch

import pixelcnn


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (3, 256), (1, 65536)])
def test_it_begins_as_the_prediction_of_lossless_formats(channels, levels):
    model = pixelcnn.PhotoPixelCNN((channels, 5, 6), levels=levels, filters=4, blocks=0, mixtures=1, linear_kernel=3)
    with torch.no_grad():
        model.output.weight.zero_()  # of the network's own corrections
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    plane = (levels // 16 * (rows + 2 * columns)).expand(1, channels, 5, 6)
    plane = plane.to(torch.int32 if levels > 256 else torch.uint8)
    with torch.no_grad():
        means = model(plane)[..., 1]
    scaled = 2 * plane.double() / (levels - 1) - 1
    assert (means - scaled)[..., 1:, 1:].abs().max() < 0.03


def test_it_is_causal_and_normalised():
    model = pixelcnn.PhotoPixelCNN((3, 2, 2), levels=2, filters=4, blocks=1, mixtures=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    assert pixelcnn.verify(model).ok


@pytest.mark.parametrize("option", ["first_kernel", "kernel_size", "linear_kernel"])
def test_widths_are_odd(option):
    with pytest.raises(ValueError, match=option):
        pixelcnn.PhotoPixelCNN((3, 4, 4), **{option: 4})


def test_it_takes_pictures_of_any_size():
    model = pixelcnn.PhotoPixelCNN((3, 8, 8), filters=4, blocks=1, mixtures=2)
    picture = torch.randint(256, (1, 3, 5, 70), dtype=torch.uint8)
    resized = model.resized((5, 70))
    assert torch.equal(pixelcnn.decompress(resized, pixelcnn.compress(resized, picture)), picture)


@pytest.mark.parametrize("embedding", [1, 4])
def test_levels_that_are_categories_begin_about_equally_likely(embedding):
    """All but the first and the last, which have what lies beyond them: their vectors, also of a single number, are not
    read as if they grew with the level.
    """
    model = pixelcnn.PhotoPixelCNN((3, 6, 6), filters=4, blocks=1, embedding=embedding)
    images = torch.tensor([1, 64, 128, 192, 254], dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 6, 6)
    with torch.no_grad():
        bits = -model.log_prob(images) / model.subpixels / math.log(2)
    assert ((bits - 7.6).abs() < 0.5).all()
