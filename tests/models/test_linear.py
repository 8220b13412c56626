"""The linear layer of a PixelCNN++ from the image to its mixtures."""

import pytest
import torch

import pixelcnn


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (3, 256), (1, 65536)])
def test_it_begins_as_the_prediction_of_lossless_formats(channels, levels):
    model = pixelcnn.PixelCNNPlusPlus((channels, 5, 6), levels=levels, filters=4, blocks=0, mixtures=1, linear_kernel=3)
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
    model = pixelcnn.PixelCNNPlusPlus((3, 2, 2), levels=2, filters=4, blocks=1, mixtures=2, linear_kernel=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    assert pixelcnn.verify(model).ok


def test_widths_are_odd():
    with pytest.raises(ValueError, match="linear_kernel"):
        pixelcnn.PixelCNNPlusPlus((3, 4, 4), linear_kernel=4)
