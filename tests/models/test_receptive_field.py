"""What a pixel sees, by the Jacobian: the gated network every earlier pixel of its window, the example's not."""

import pytest
import torch

import pixelcnn
from pixelcnn.models.summary import receptive_field, summary

SIDE, ROW, COLUMN = 15, 9, 7


def seen_by(model):
    """Whether the parameters of the pixel at (ROW, COLUMN) depend on each pixel: bool (SIDE, SIDE)."""
    model = model.double().eval()
    images = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    params = model.raw_params(images, model.condition_of(None, 1))
    weights = torch.rand_like(params[0, 0, ROW, COLUMN])
    (gradient,) = torch.autograd.grad((params[0, 0, ROW, COLUMN] * weights).sum(), images)
    return gradient[0, 0] != 0


def earlier_within(reach):
    """The pixels of the rows above up to `reach` away in both directions, and those to the left in the own row."""
    rows, columns = torch.meshgrid(torch.arange(SIDE) - ROW, torch.arange(SIDE) - COLUMN, indexing="ij")
    inside = (rows >= -reach) & (columns.abs() <= reach)
    return inside & ((rows < 0) | ((rows == 0) & (columns < 0)))


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"levels": 256}])
def test_the_gated_network_has_no_blind_spot(layers, options):
    model = pixelcnn.GatedPixelCNN((1, SIDE, SIDE), filters=8, layers=layers, **options)
    assert torch.equal(seen_by(model), earlier_within(layers + 2))


def test_nor_has_the_mixture_of_logistics():
    """What it sees of the rows above is a whole rectangle, and of the own row a piece that ends left of the pixel."""
    seen = seen_by(pixelcnn.PixelCNNPlusPlus((1, SIDE, SIDE), filters=8, blocks=1))
    above, own = seen[:ROW], seen[ROW]
    rows, columns = above.nonzero().T
    assert above[rows.min() : ROW, columns.min() : columns.max() + 1].all()
    assert columns.min() < COLUMN < columns.max()
    assert own[own.nonzero().min() : COLUMN].all()
    assert not own[COLUMN:].any()
    assert not seen[ROW + 1 :].any()


def test_the_examples_network_has_one():
    seen = seen_by(pixelcnn.PixelCNN((1, SIDE, SIDE), filters=32, blocks=2))
    window = earlier_within(3 + 2)
    assert (seen <= window).all()
    blind = window & ~seen
    assert blind.any()
    rows, columns = blind.nonzero().T - torch.tensor([[ROW], [COLUMN]])
    assert (columns > 0).all()
    assert (rows < 0).all()


@pytest.mark.parametrize(("first_kernel", "blocks"), [(3, 2), (5, 3), (7, 1)])
def test_no_pixel_of_the_network_for_photographs_is_left_out(first_kernel, blocks):
    """Its layers of differences have weights of both signs, whatever their parameters, by which a ReLU may be 0."""
    model = pixelcnn.PhotoPixelCNN((1, 8, 8), filters=4, blocks=blocks, mixtures=2, first_kernel=first_kernel)
    offsets = {(0, 0)}
    for layer in (model.input, *(first for first, _ in model.blocks)):
        offsets = {(y + dy, x + dx) for y, x in offsets for dy, dx in layer.taps}
    field = receptive_field(model)
    rows, columns = field.nonzero().T - torch.tensor([[len(field) - 1], [field.shape[1] // 2]])
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == offsets | set(model.linear.taps)


def test_a_mixture_has_none_of_its_own():
    symmetric = pixelcnn.Symmetrised(pixelcnn.PixelCNN((1, 3, 3), filters=4, blocks=1), "flip")
    with pytest.raises(ValueError, match="model must have one scan order"):
        receptive_field(symmetric)
    with pytest.raises(ValueError, match=r"model must be a pixelcnn\.AutoregressiveModel, got PreparedModel"):
        receptive_field(symmetric.networks[0].prepared())
    with pytest.raises(ValueError, match=r"model must be a pixelcnn\.AutoregressiveModel, got PreparedModel"):
        summary(symmetric.networks[0].prepared())
