"""The order of layers, found by merging those of each class."""

import itertools

import numpy as np
import pytest

from pixelcnn.keras.network import Convolution, interleaved, layers


def network(filters, blocks):
    """Convolutions in the network's order, named by it."""
    return [Convolution(name, np.zeros(shape), np.zeros(shape[3])) for name, shape in layers(filters, blocks).items()]


def by_class(convolutions, blocks, flat):
    """As a network has them whose residual blocks are layers, or whose convolutions all are."""
    masked = [0, *range(2, 3 * blocks + 1, 3), len(convolutions) - 3, len(convolutions) - 2]
    if not flat:
        masked = [masked[0], *masked[-2:]]
    in_blocks = [] if flat else list(range(1, 3 * blocks + 1))
    others = [k for k in range(len(convolutions)) if k not in masked and k not in in_blocks]
    names = {"masked": masked, "block": in_blocks, "conv2d": others}
    return {name: [convolutions[k] for k in places] for name, places in names.items()}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 2, 50])
@pytest.mark.parametrize("filters", [2, 3, 8])
def test_the_order_is_found(filters, blocks, flat):
    convolutions = network(filters, blocks)
    queues = by_class(convolutions, blocks, flat)
    for names in itertools.permutations(queues):
        assert interleaved([queues[name] for name in names]) == convolutions


def test_an_order_that_is_not_unique():
    *others, before, last, out = network(8, 1)
    with pytest.raises(ValueError, match=r"the order of the layers is not unique; a \.keras file states it"):
        interleaved([[*others, before, out], [last]])


def test_no_order():
    first, *others = network(8, 2)
    with pytest.raises(ValueError, match=r"no convolution of shape \(3, 3, 8, 4\) for blocks\.0\.masked"):
        interleaved([[first, others[0], *reversed(others[1:])]])
    with pytest.raises(ValueError, match="it has 9 convolutions, which is not 4 and 3 per block"):
        interleaved([others])
    with pytest.raises(ValueError, match="2 kernels of shape"):
        interleaved([[first, first, *others[1:]]])
