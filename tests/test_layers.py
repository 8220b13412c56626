"""The masks, the initial weights and the full view's convolution."""

import math

import pytest
import torch
import torch.nn.functional as F

from pixelcnn.layers import DifferenceConv2d, MaskedConv2d, ScaledConv2d, Window, group_bounds
from pixelcnn.operations import Conv, FullView, Gate


def test_group_bounds():
    assert group_bounds(7, 3) == [(0, 3), (3, 5), (5, 7)]
    assert group_bounds(6, 1) == [(0, 6)]


def test_seed_masks_have_24_and_5_taps():
    first = MaskedConv2d(1, 4, 7, mask_type="A")
    assert first.mask[0, 0].sum() == 24
    assert (0, 0) not in first.taps
    later = MaskedConv2d(4, 4, 3, mask_type="B")
    assert later.taps == [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)]
    assert later.mask.sum() == 4 * 4 * 5


@pytest.mark.parametrize(("mask_type", "groups"), [("A", 1), ("A", 3), ("B", 1), ("B", 3)])
def test_taps_are_where_the_mask_is_not_zero(mask_type, groups):
    for kernel_size in (1, 3, 7):
        layer = MaskedConv2d(3, 3, kernel_size, mask_type=mask_type, groups=groups)
        seen = layer.mask.amax((0, 1)).nonzero() - kernel_size // 2
        assert layer.taps == [tuple(tap) for tap in seen.tolist()]


@pytest.mark.parametrize(("mask_type", "centre"), [("A", "000100110"), ("B", "100110111")])
def test_colour_groups_at_the_centre(mask_type, centre):
    layer = MaskedConv2d(3, 3, 3, mask_type=mask_type, groups=3)
    assert "".join(str(int(v)) for v in layer.mask[:, :, 1, 1].flatten()) == centre
    assert layer.mask[:, :, 0].eq(1).all()
    assert layer.mask[:, :, 2].eq(0).all()


def test_weights_are_glorot_uniform_over_the_unmasked_fans():
    layer = MaskedConv2d(64, 32, 3, mask_type="B", generator=torch.Generator().manual_seed(0))
    bound = math.sqrt(6 / (9 * (64 + 32)))
    seen = layer.weight[layer.mask == 1]
    assert seen.abs().max() <= bound
    # the standard deviation of n uniform numbers is within 5 standard errors: false alarm under 1e-6
    assert abs(seen.std().item() / (bound / math.sqrt(3)) - 1) < 5 * math.sqrt(0.2 / seen.numel())
    assert layer.weight[layer.mask == 0].eq(0).all()
    assert layer.bias.eq(0).all()


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_full_view_is_the_masked_same_convolution(kernel_size, activation):
    """Cropping the kernel to its causal rows changes nothing."""
    layer = MaskedConv2d(3, 6, kernel_size, mask_type="B", groups=3, activation=activation).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    expected = F.conv2d(x, layer.weight * layer.mask, layer.bias, padding=kernel_size // 2)
    if activation == "relu":
        expected = expected.relu()
    found = FullView(x.permute(0, 2, 3, 1))(Conv(layer), x.permute(0, 2, 3, 1))
    torch.testing.assert_close(found.permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize(
    "window",
    [Window(-2, 0, -2, 2), Window(-3, -1, -3, 3), Window(0, 0, -3, -1), Window(0, 0, -1, 0), Window(-1, 0, -1, 0)],
)
@pytest.mark.parametrize("activation", ["relu", "none"])
def test_full_view_with_a_window(window, activation):
    """Each tap by itself: the image moved by (-dy, -dx), zeros coming in."""
    layer = MaskedConv2d(3, 4, window, mask_type="B", activation=activation).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    assert layer.taps == window.taps()
    x, add = torch.randn(2, 5, 6, 3, dtype=torch.float64), torch.randn(2, 5, 6, 4, dtype=torch.float64)
    expected = layer.bias + add
    for dy, dx in layer.taps:
        moved = torch.zeros_like(x)
        for i in range(5):
            for j in range(6):
                if 0 <= i + dy < 5 and 0 <= j + dx < 6:
                    moved[:, i, j] = x[:, i + dy, j + dx]
        expected = expected + moved @ layer.kernel_at(dy, dx).t()
    if activation == "relu":
        expected = expected.relu()
    torch.testing.assert_close(FullView(x)(Conv(layer), x, add), expected)


def test_an_input_of_one_group_is_seen_whole():
    layer = MaskedConv2d(4, 6, 1, mask_type="B", groups=(1, 3))
    assert layer.seen == [4, 4, 4]
    assert layer.mask.eq(1).all()


def test_gate_takes_the_halves_of_each_group():
    x = torch.randn(5, 12, dtype=torch.float64)
    a, b = x[:, [0, 1, 4, 5, 8, 9]], x[:, [2, 3, 6, 7, 10, 11]]
    torch.testing.assert_close(FullView(x)(Gate(groups=3), x), torch.tanh(a) * torch.sigmoid(b))


def test_differences_are_a_kernel_of_the_values():
    layer = DifferenceConv2d(2, 3, 5, mask_type="A", scale=4.0, generator=torch.Generator().manual_seed(0)).double()
    x = torch.rand(1, 2, 6, 7, dtype=torch.float64)
    padded = F.pad(x, (2, 2, 2, 0))

    def at(dy, dx):
        return padded[:, :, 2 + dy : 8 + dy, 2 + dx : 9 + dx]

    with torch.no_grad():
        found = F.conv2d(padded, layer.causal_weight())
        expected = torch.zeros_like(found)
        for dy, dx in layer.taps:
            read = at(0, -1) / 2 if (dy, dx) == (0, -1) else 4 * (at(dy, dx) - at(0, -1))
            expected += torch.einsum("nihw,oi->nohw", read, layer.weight[:, :, 2 + dy, 2 + dx])
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("cls", [DifferenceConv2d, ScaledConv2d])
def test_a_settled_layer_has_the_same_kernel(cls):
    scale = torch.tensor([1.0, 0.25, 3.0]) if cls is ScaledConv2d else 16.0
    layer = cls(2, 3, 5, mask_type="A", scale=scale)
    kernel = layer.masked_weight().detach().clone()
    assert not torch.equal(layer.weight, kernel)
    for dy, dx in layer.taps:
        assert torch.equal(layer.kernel_at(dy, dx), kernel[:, :, 2 + dy, 2 + dx])
    layer.settle()
    assert torch.equal(layer.weight, kernel)
    assert torch.equal(layer.masked_weight(), kernel)


def test_a_layer_of_differences_starts_from_a_kernel():
    layer = DifferenceConv2d(1, 4, 3, mask_type="A", scale=0.5)
    kernel = torch.randn(4, 1, 3, 3) * layer.mask
    layer.start_from(kernel)
    assert torch.allclose(layer.masked_weight(), kernel, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_type": "b"}, "mask_type must be one of A, B, all, got 'b'"),
        ({"activation": "gelu"}, "activation must be one of relu, none, got 'gelu'"),
        ({"kernel": 4}, "kernel must be an odd integer .* got 4"),
        ({"kernel": 0}, "kernel must be an odd integer .* got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"mask_type": "all", "groups": 3}, "groups must be .* got 3"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MaskedConv2d(3, 3, **{"kernel": 3, "mask_type": "B"} | options)
