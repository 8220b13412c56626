"""What was prepared from a model's weights is prepared again whenever they change, however they do, and only then."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import pixelcnn
from pixelcnn.layers import MaskedConv2d
from pixelcnn.sampling.weight_cache import WeightKeyedCache


class Negated(nn.Module):
    def __init__(self):
        super().__init__()
        self.sign = -1

    def forward(self, x):
        return self.sign * x


def cached():
    """A small model, and a function that returns how often something has been made from its weights."""
    model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1, generator=torch.Generator().manual_seed(0))
    cache, count = WeightKeyedCache(size=2), itertools.count(1)
    return model, lambda: cache.get(model, None, lambda: next(count))


def other_memory(weight):
    weight.data = weight.data + 1


def transposed(weight):
    weight.data = weight.data.transpose(0, 1)


def by_a_parameter(model):
    model.output.weight = nn.Parameter(model.output.weight.detach() + 1)


def by_another_activation(model):
    model.blocks[0].masked.activation = "none"


def by_a_dilated_layer(model):
    plain = model.blocks[0].masked
    model.blocks[0].masked = MaskedConv2d(plain.in_channels, plain.out_channels, 3, mask_type="B", dilation=2)
    model.blocks[0].masked.load_state_dict(plain.state_dict())


def by_pruning(model):
    prune.random_unstructured(model.output, "weight", 0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.output.weight.data.add_(1),
        lambda model: other_memory(model.output.weight),
        lambda model: transposed(model.blocks[0].conv1.weight),
        by_a_parameter,
        by_pruning,
        by_another_activation,
        by_a_dilated_layer,
        lambda model: model.double(),
        lambda model: model.bfloat16(),
    ],
    ids=[
        "in place",
        "other memory",
        "transposed",
        "other parameter",
        "pruned",
        "activation",
        "dilated",
        "double",
        "bfloat16",
    ],
)
def test_a_change_is_seen_once(change):
    model, made = cached()
    assert [made(), made(), made()] == [1, 1, 1]
    change(model)
    assert [made(), made(), made()] == [2, 2, 2]


def test_weights_of_any_layout_are_compared_as_they_are_now():
    """Those that are not contiguous are copied to be compared, each time anew."""
    model, made = cached()
    weight = model.blocks[0].masked.weight
    weight.data = weight.data.transpose(2, 3)
    assert not weight.is_contiguous()
    assert [made(), made()] == [1, 1]
    weight.data.add_(1)
    assert [made(), made()] == [2, 2]


def test_a_buffer_of_any_type_is_compared():
    model, made = cached()
    model.register_buffer("steps", torch.tensor(1))
    model.register_buffer("scale", torch.ones(3).to(torch.float8_e4m3fn))
    assert [made(), made()] == [1, 1]
    model.steps += 1
    assert [made(), made()] == [2, 2]
    model.scale.copy_(torch.zeros(3))
    assert made() == 3


def test_equal_weights_elsewhere_are_no_change():
    model, made = cached()
    made()
    model.share_memory()
    assert [made(), made()] == [1, 1]
    model.output.weight.data = model.output.weight.data.clone()
    assert made() == 1
    model.output.weight.data.add_(1)
    assert made() == 2


def test_a_parametrization_that_changes_is_seen():
    model, made = cached()
    negated = Negated()
    parametrize.register_parametrization(model.output, "weight", negated)
    made()
    negated.sign = 1
    assert made() == 2


def test_a_weight_that_is_not_finite_is_refused():
    model, made = cached()
    made()
    model.output.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        made()
