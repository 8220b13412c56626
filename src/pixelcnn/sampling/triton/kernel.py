"""The kernel: a program draws one group of images after the other, all steps, channels and operations by itself.

`tables.py` lays out what it reads. The rows of a step are the front's pixels times the group's images, pixels
outermost; they are computed ROWS at a time.

An operation ends with a barrier, since the features that it wrote, all threads read in the next. That is enough
although they go through global memory: a program runs on one multiprocessor, in whose first-level cache its threads
meet; a CTA's barrier (PTX `bar.sync`) orders their loads and stores before and after it for each other; nothing that
changes is loaded by the non-coherent path (`ld.global.nc`), and no program reads what another one writes. Loads that
the compiler issues ahead of time (`cp.async`) stay within the loop over a product's depth, which stores nothing and
waits for all of them at its end.

Importing this module needs triton, which the package does not require. Its functions are compiled from their source,
in triton's subset of Python, and carry no annotations for a type checker.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

import triton
import triton.language as tl

from pixelcnn.sampling.triton.tables import HEADER, OPERATION

__all__ = ["draw_images"]

_HEADER = tl.constexpr(HEADER)
_FIELDS = tl.constexpr(OPERATION)


@triton.jit
def _uniform(state, subpixel):
    """The number of a sub-pixel, float64 in [0, 1), see randomness.py."""
    z = state.to(tl.uint64, bitcast=True) + (subpixel + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return ((z ^ (z >> 31)) >> 11).to(tl.float64) * (1.0 / (1 << 53))


@triton.jit
def _finish(y, op, rows, inside, tile, step, row, operands, sums, COLUMNS: tl.constexpr, UNIT: tl.constexpr):
    """ReLU and the other term of a sum; then to the terms of later sums and to the operands of later convolutions."""
    columns = tile + tl.arange(0, COLUMNS)
    mask = inside[:, None] & (columns < tl.multiple_of(tl.load(op + 2), UNIT))[None, :]
    columns += tl.multiple_of(tl.load(op + 1), UNIT)
    if tl.load(op + 3) != 0:
        y = tl.maximum(y, 0.0)
    if tl.load(op + 19) >= 0:
        start, stride = tl.multiple_of(tl.load(op + 19), UNIT), tl.multiple_of(tl.load(op + 20), UNIT)
        y += tl.load(sums + start + (rows * stride)[:, None] + columns[None, :], mask=mask, other=0.0)
    if tl.load(op + 21) >= 0:
        start, stride = tl.multiple_of(tl.load(op + 21), UNIT), tl.multiple_of(tl.load(op + 22), UNIT)
        tl.store(sums + start + (rows * stride)[:, None] + columns[None, :], y, mask=mask)
    if tl.load(op + 14) >= 0:
        start = tl.multiple_of(tl.load(op + 14), UNIT) + row * tl.multiple_of(tl.load(op + 16), UNIT)
        start += step % tl.load(op + 18) * tl.multiple_of(tl.load(op + 17), UNIT)
        stride = tl.multiple_of(tl.load(op + 15), UNIT)
        pointers = operands + start + (rows * stride)[:, None] + columns[None, :]
        tl.store(pointers, y.to(operands.dtype.element_ty), mask=mask)


@triton.jit
def _weights(op, weights, tile, k, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """Rows k .. k + DEPTH of a product's weights, zero beyond its columns."""
    pitch = tl.multiple_of(tl.load(op + 8), 16)
    columns = tile + tl.arange(0, COLUMNS)
    weights += tl.multiple_of(tl.load(op + 6), 16)
    pointers = weights + ((k + tl.arange(0, DEPTH)) * pitch)[:, None] + columns[None, :]
    return tl.load(pointers, mask=(columns < pitch)[None, :], other=0.0)


@triton.jit
def _bias(op, biases, tile, COLUMNS: tl.constexpr, ROWS: tl.constexpr):
    """What the sums of a product start from, (ROWS, COLUMNS)."""
    columns = tile + tl.arange(0, COLUMNS)
    pitch = tl.multiple_of(tl.load(op + 8), 16)
    bias = tl.load(biases + tl.multiple_of(tl.load(op + 7), 16) + columns, mask=columns < pitch, other=0.0)
    return tl.zeros((ROWS, COLUMNS), tl.float32) + bias[None, :]


@triton.jit
def _apply(
    op, plan, step, row, i, j, inside, pixel, images, scale, weights, biases, operands, sums,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, UNIT: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    """One operation of one colour group, for ROWS rows."""
    rows = tl.arange(0, ROWS)
    kind = tl.load(op)
    columns = tl.load(op + 2)
    first = tl.load(op + 4)
    count = tl.load(op + 5)
    height, width, group = tl.load(plan + 1), tl.load(plan + 2), tl.load(plan + 5)
    if kind == 0:  # a convolution that reads the image, each pixel for itself
        for tile in range(0, columns, COLUMNS):
            y = _bias(op, biases, tile, COLUMNS, ROWS)
            for k in range(0, count, DEPTH):
                number = k + tl.arange(0, DEPTH)
                tap = plan + first + 3 * number
                dy = tl.load(tap, mask=number < count, other=0)
                dx = tl.load(tap + 1, mask=number < count, other=0)
                channel = tl.load(tap + 2, mask=number < count, other=0)
                seen = inside[:, None] & (number < count)[None, :]
                seen = seen & (i[:, None] + dy[None, :] >= 0)
                seen = seen & (j[:, None] + dx[None, :] >= 0) & (j[:, None] + dx[None, :] < width)
                ahead = channel * height * width + dy * width + dx
                level = tl.load(images + pixel[:, None] + ahead[None, :], mask=seen, other=0).to(tl.int32)
                x = tl.load(scale + level, mask=seen, other=0.0)
                y = tl.dot(x, _weights(op, weights, tile, k, COLUMNS, DEPTH), y, input_precision=PRODUCT)
            _finish(y, op, rows, inside, tile, step, row, operands, sums, COLUMNS, UNIT)
    elif kind == 1:  # one that reads features: a block is a part of one tap's
        source, stride = tl.multiple_of(tl.load(op + 9), UNIT), tl.multiple_of(tl.load(op + 10), UNIT)
        per_row, per_step = tl.multiple_of(tl.load(op + 11), UNIT), tl.multiple_of(tl.load(op + 12), UNIT)
        slots = tl.load(op + 13)
        for tile in range(0, columns, COLUMNS):
            y = _bias(op, biases, tile, COLUMNS, ROWS)
            for number in range(0, count):
                block = plan + first + 5 * number
                dy, dx, delay = tl.load(block), tl.load(block + 1), tl.load(block + 2)
                k = tl.multiple_of(tl.load(block + 3), UNIT) + tl.arange(0, DEPTH)
                start = source + (row + dy * group) * per_row + (step + slots - delay) % slots * per_step
                seen = inside & (i + dy >= 0) & (j + dx >= 0) & (j + dx < width)
                mask = seen[:, None] & (k < tl.multiple_of(tl.load(block + 4), UNIT))[None, :]
                x = tl.load(operands + start + (rows * stride)[:, None] + k[None, :], mask=mask, other=0.0)
                w = _weights(op, weights, tile, number * DEPTH, COLUMNS, DEPTH)
                y = tl.dot(x, w, y, input_precision=PRODUCT)
            _finish(y, op, rows, inside, tile, step, row, operands, sums, COLUMNS, UNIT)
    else:  # the sum of two values
        start, stride = tl.multiple_of(tl.load(op + 9), UNIT), tl.multiple_of(tl.load(op + 10), UNIT)
        for tile in range(0, columns, COLUMNS):
            column = tile + tl.arange(0, COLUMNS)
            mask = inside[:, None] & (column < tl.multiple_of(tl.load(op + 2), UNIT))[None, :]
            column += tl.multiple_of(tl.load(op + 1), UNIT)
            y = tl.load(sums + start + (rows * stride)[:, None] + column[None, :], mask=mask, other=0.0)
            _finish(y, op, rows, inside, tile, step, row, operands, sums, COLUMNS, UNIT)


@triton.jit
def _pixels(numbers, plan, step, top, total, first, n):
    """What stands in rows of the step: row and column in the image, which image, and whether there is one."""
    group = tl.load(plan + 5)
    i = top + numbers // group
    j = step - tl.load(plan + 3) * i
    image = first + numbers % group
    return i, j, image, (numbers < total) & (image < n)


@triton.jit
def _draw(
    params, stride, numbers, plan, step, top, total, first, n, channel, images, states, heat,
    PARAMS: tl.constexpr, WIDTH: tl.constexpr, DRAWS: tl.constexpr,
):  # fmt: skip
    """Draws DRAWS sub-pixels, in float64, see likelihoods.py."""
    channels, height, width = tl.load(plan), tl.load(plan + 1), tl.load(plan + 2)
    i, j, image, inside = _pixels(numbers, plan, step, top, total, first, n)
    place = i * width + j
    u = _uniform(tl.load(states + image, mask=inside, other=0), place * channels + channel)
    rows = tl.arange(0, DRAWS) * stride
    if PARAMS == 1:
        logit = tl.load(params + rows, mask=inside, other=0.0).to(tl.float64)
        level = (u >= 1.0 / (1.0 + tl.exp(logit / heat))).to(tl.int32)
    else:
        k = tl.arange(0, WIDTH)
        mask = inside[:, None] & (k < PARAMS)[None, :]
        logits = tl.load(params + rows[:, None] + k[None, :], mask=mask, other=0.0).to(tl.float64)
        logits = tl.where((k < PARAMS)[None, :], logits, -float("inf"))
        terms = tl.exp((logits - tl.max(logits, 1)[:, None]) / heat)
        cdf = tl.cumsum(terms / tl.sum(terms, 1)[:, None], 1)
        level = tl.sum(((u[:, None] >= cdf) & (k < PARAMS - 1)[None, :]).to(tl.int32), 1)
    pixel = (image.to(tl.int64) * channels + channel) * height * width + place
    tl.store(images + pixel, level.to(tl.uint8), mask=inside)


@triton.jit(do_not_specialize=["n"])
def draw_images(
    images, states, temperature, scale, weights, biases, operands, sums, plan, n,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, UNIT: tl.constexpr, PRODUCT: tl.constexpr,
    PARAMS: tl.constexpr, WIDTH: tl.constexpr, DRAWS: tl.constexpr,
):  # fmt: skip
    """Draws n images.

    images      uint8 (n, channels, height, width), to be filled
    states      int64 (n,), of each image's uniforms
    temperature float64 (1,)
    scale       (levels,), what each level is as an operand
    weights     of all products, rounded as operands
    biases      float32
    operands    memory for features as operands, a piece for each program
    sums        memory for features as terms of sums, float32, a piece for each program
    plan        int32, see `tables.py`
    ROWS, COLUMNS, DEPTH    the tile of a product
    UNIT        what every number of features and every offset is a multiple of: 16, else 1
    PRODUCT     how float32 is multiplied, see `tl.dot`
    PARAMS, WIDTH           raw parameters of a sub-pixel, and the next power of two
    DRAWS       sub-pixels drawn at a time
    """
    channels, height, width = tl.load(plan), tl.load(plan + 1), tl.load(plan + 2)
    steps, group, count = tl.load(plan + 4), tl.load(plan + 5), tl.load(plan + 6)
    output, output_stride = tl.load(plan + 7), tl.load(plan + 8)
    program = tl.program_id(0).to(tl.int64)
    operands += program * tl.multiple_of(tl.load(plan + 9), 16)
    sums += program * tl.multiple_of(tl.load(plan + 10), 16)
    heat = tl.load(temperature)
    for first in range(tl.program_id(0) * group, n, tl.num_programs(0) * group):
        for step in range(0, steps):
            top = tl.load(plan + _HEADER + 2 * step)
            total = (tl.load(plan + _HEADER + 2 * step + 1) - top) * group
            for start in range(0, total, ROWS):
                i, j, image, inside = _pixels(start + tl.arange(0, ROWS), plan, step, top, total, first, n)
                pixel = image.to(tl.int64) * channels * height * width + i * width + j
                for channel in range(0, channels):
                    ops = plan + _HEADER + 2 * steps + channel * count * _FIELDS
                    for k in range(0, count):
                        _apply(
                            ops + k * _FIELDS, plan, step, top * group + start, i, j, inside, pixel,
                            images, scale, weights, biases, operands, sums,
                            ROWS, COLUMNS, DEPTH, UNIT, PRODUCT,
                        )  # fmt: skip
                        tl.debug_barrier()
                    for part in range(0, ROWS, DRAWS):
                        params = sums + output + part * output_stride + channel * PARAMS
                        numbers = start + part + tl.arange(0, DRAWS)
                        _draw(
                            params, output_stride, numbers, plan, step, top, total, first, n, channel,
                            images, states, heat, PARAMS, WIDTH, DRAWS,
                        )  # fmt: skip
                    tl.debug_barrier()
