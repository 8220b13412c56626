"""PixelCNNs of plain PyTorch, as people write them: a correct one, and the same with faults."""

import torch
import torch.nn.functional as F
from torch import nn


class Masked(nn.Conv2d):
    """A convolution whose mask may be transposed, applied once only, or have its colours in the wrong order."""

    def __init__(self, kind, c_in, c_out, size, groups=1, *, transposed=False, once=False, reverse=False):
        super().__init__(c_in, c_out, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2 + 1 :] = 0
        mask[size // 2, size // 2 :] = 0
        mask = (mask.t() if transposed else mask).expand(c_out, c_in, size, size).clone()
        source, target = torch.arange(c_in) * groups // c_in, torch.arange(c_out) * groups // c_out
        source, target = (groups - 1 - source, groups - 1 - target) if reverse else (source, target)
        late = source[None] < target[:, None] if kind == "A" else source[None] <= target[:, None]
        mask[:, :, size // 2, size // 2] = late.float()
        self.register_buffer("mask", mask)
        self.once = once
        if once:
            self.weight.data *= mask

    def forward(self, x):
        return F.conv2d(x, self.weight if self.once else self.weight * self.mask, self.bias, padding=self.padding)


class Network(nn.Module):
    """Masked convolutions, to logits (N, levels, C, H, W), or (N, 1, H, W) for two levels.

    Faults: "mask B first", "transposed mask", "batch normalisation", "channel order", "unmasked after a step",
    "dropout left on".
    """

    def __init__(self, shape=(1, 6, 6), levels=2, fault=None, filters=12):
        super().__init__()
        c = shape[0]
        self.shape, self.levels, self.fault = shape, levels, fault
        options = {"groups": c, "transposed": fault == "transposed mask", "once": fault == "unmasked after a step",
                   "reverse": fault == "channel order"}  # fmt: skip
        self.first = Masked("B" if fault == "mask B first" else "A", c, filters, 5, **options)
        self.norm = nn.BatchNorm2d(filters) if fault == "batch normalisation" else nn.Identity()
        self.hidden = Masked("B", filters, filters, 3, **options)
        self.last = Masked("B", filters, c * (1 if levels == 2 else levels), 1, **options)

    def forward(self, x):
        x = torch.tanh(self.norm(self.first(x)))
        x = F.dropout(x, 0.2, training=self.fault == "dropout left on")
        x = self.last(torch.tanh(self.hidden(x)))
        return x if self.levels == 2 else x.unflatten(1, (self.shape[0], self.levels)).transpose(1, 2)


class Stacks(nn.Module):
    """Rows above through a convolution that ends in the row above, and pixels to the left through one of this row.

    Faults: "look-ahead by padding" (a row too few above), "off-by-one shift" (the row's pixels are not shifted).
    """

    def __init__(self, fault=None, filters=8):
        super().__init__()
        self.fault = fault
        self.above, self.left = nn.Conv2d(1, filters, (2, 3)), nn.Conv2d(1, filters, (1, 2))
        self.last = nn.Conv2d(filters, 1, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        top = 1 if self.fault == "look-ahead by padding" else 2
        left = 1 if self.fault == "off-by-one shift" else 2
        above = self.above(F.pad(x, (1, 1, top, 2)))[:, :, :h]
        before = self.left(F.pad(x, (left, 0, 0, 0)))[:, :, :, :w]
        return self.last(torch.relu(above + before))


def logistic_mixture(fault=None):
    """Log-probabilities by a mixture of logistics over 0 .. 255, of which means and scales are outputs (N, 6, H, W).

    Faults: "unnormalised mixture" (its weights do not sum to 1), "clamp at level 255" (the last level lacks what lies
    beyond it).
    """

    def log_prob(outputs, images):
        weights, means, scales = (each.unsqueeze(1) for each in outputs.chunk(3, 1))
        x = (images / 127.5 - 1).unsqueeze(2)
        upper, lower = ((x + side - means) * torch.exp(-scales) for side in (1 / 255, -1 / 255))
        last = torch.zeros_like(x) if fault == "clamp at level 255" else (x > 0.999)
        upper = torch.where(last.bool(), torch.ones_like(upper), torch.sigmoid(upper))
        lower = torch.where(x < -0.999, torch.zeros_like(lower), torch.sigmoid(lower))
        weights = torch.sigmoid(weights) if fault == "unnormalised mixture" else torch.softmax(weights, 2)
        return (weights * (upper - lower)).sum(2).clamp_min(1e-30).log()

    return log_prob


class Embedded(nn.Module):
    """Levels looked up in a table, so that there is no gradient with respect to images."""

    def __init__(self, kind="A"):
        super().__init__()
        self.table, self.first = nn.Embedding(3, 4), Masked(kind, 4, 6, 3)
        self.last = nn.Conv2d(6, 3, 1)

    def forward(self, levels):
        return self.last(torch.tanh(self.first(self.table(levels[:, 0]).permute(0, 3, 1, 2))))
