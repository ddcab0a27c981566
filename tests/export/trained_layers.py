"""Small trained layers as graphs, and what they compute by brute force, for the prover's tests."""

import dataclasses
import decimal
import itertools
import math
from fractions import Fraction

import numpy as np

from export.ir.graph import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Grid,
    IntegerGraph,
    Tensor,
    TransposeConv2D,
)
from export.ir.provenance import TRAINED
from export.kernel_sets import ideal, rules
from export.realization import channels
from export.realization.context import RequantizationContext

OPERATORS = (Conv2D, DepthwiseConv2D, TransposeConv2D, FullyConnected)
CHANNELS = 9  # One more than the optimized depthwise kernel takes at a time.


def float32(value):
    return float(np.float32(value))


def layer(
    seed, *, operator=Conv2D, weight_bits=2, input_bits=2, output_bits=2, taps=3, linear=False
):
    """A graph of one weighted operator with random trained parameters; `linear`: 8 bits, no ReLU.

    Gains are negative, zero and positive; offsets and shifts are such that outputs fill the grid.
    """
    random = np.random.default_rng(seed)
    depthwise = operator is DepthwiseConv2D
    limit = max(1, 2 ** (weight_bits - 1) - 1)
    codes = random.integers(-limit, limit + 1, (CHANNELS, taps))
    if weight_bits == 1:
        codes = np.where(codes == 0, 1, codes)
    output_bits = 8 if linear else output_bits
    low = -int(random.integers(1, 2**output_bits)) if linear else 0
    high = low + 2**output_bits - 1
    input_high = 2**input_bits - 1
    input_scale = float32(random.choice([1 / input_high, 0.25, random.uniform(0.01, 1)]))
    output_scale = float32(random.choice([1 / max(1, high), 0.5, random.uniform(0.01, 1)]))
    trained = np.zeros(CHANNELS, TRAINED)
    spread = random.uniform(0.3, 2, CHANNELS) * output_scale * 2**output_bits
    trained["scale"] = np.float32(spread / (input_scale * limit * taps * input_high))
    gain = random.uniform(0.3, 1.5, CHANNELS) * random.choice([-1, 1, 1], CHANNELS)
    gain[:1] = 0
    trained["gain"] = np.float32(gain)
    trained["variance"] = random.choice(
        [1.0, 0.25, float32(random.uniform(0.2, 2)) + 1e-3], CHANNELS
    )
    trained["shift"] = np.float32(random.normal(0, 0.5, CHANNELS) * spread)
    trained["offset"] = np.float32(random.uniform(low, high + 1, CHANNELS) * output_scale)
    trained["digest"] = [ideal.digest(row) for row in codes]
    context = RequantizationContext(
        operator=operator,
        vector_product=rules.is_vector_product(codes, (1, CHANNELS)),
        input_scale=input_scale,
        input_low=0,
        input_high=input_high,
        output_scale=output_scale,
        output_low=low,
        output_high=high,
    )
    fitted = channels.fit(codes, trained, context)
    shapes = {
        Conv2D: ((CHANNELS, 1, 1, taps), (1, 1, 1, taps), (1, 1, 1, CHANNELS)),
        DepthwiseConv2D: ((1, 1, taps, CHANNELS), (1, 1, taps, CHANNELS), (1, 1, 1, CHANNELS)),
        TransposeConv2D: ((CHANNELS, 1, 1, taps), (1, 1, 1, taps), (1, 1, 1, CHANNELS)),
        FullyConnected: ((CHANNELS, taps), (1, taps), (1, CHANNELS)),
    }
    kernel_shape, input_shape, output_shape = shapes[operator]
    kernel = np.ascontiguousarray(fitted.kernel.T if depthwise else fitted.kernel)
    output_grid = Grid(scale=output_scale, zero_point=127 - high)
    return IntegerGraph(
        tensors={
            "input": Tensor(
                shape=input_shape,
                grid=Grid(scale=input_scale, zero_point=127 - input_high),
                bits=input_bits,
            ),
            "output": Tensor(shape=output_shape, grid=output_grid, bits=output_bits),
        },
        operators=[
            operator(
                inputs=("input",),
                output="output",
                kernel=kernel.reshape(kernel_shape),
                kernel_scale=fitted.scale,
                bias=fitted.bias,
                relu=fitted.relu,
                code_multiplier=fitted.code_multiplier,
                bits=weight_bits,
                trained=trained,
            )
        ],
        inputs=("input",),
        outputs=("output",),
        metadata={
            "codes": codes.tolist(),
            "trained_grids": {
                "input": [input_scale, 0, input_high],
                "output": [output_scale, low, high],
            },
        },
    )


def changed(graph, **fields):
    """The graph with other fields in its one operator."""
    return dataclasses.replace(graph, operators=[dataclasses.replace(graph.operators[0], **fields)])


def every_input(graph):
    """Every input code that one output channel can see, int64 ``[cases, taps]``, as steps."""
    source = graph.tensors["input"]
    taps = len(graph.metadata["codes"][0])
    _, low, high = graph.metadata["trained_grids"]["input"]
    zero_point = 127 - high
    steps = np.array(list(itertools.product(range(low, high + 1), repeat=taps)), np.int64)
    return steps, steps + zero_point - source.grid.zero_point


def trained_codes(graph):
    """int8 output codes ``[cases, channels]`` as trained, one by one, in exact arithmetic."""
    steps, _ = every_input(graph)
    operator = graph.operators[0]
    scale, low, high = graph.metadata["trained_grids"]["output"]
    input_scale = graph.metadata["trained_grids"]["input"][0]
    columns = []
    for record, codes in zip(operator.trained, graph.metadata["codes"], strict=True):
        accumulators = steps @ np.array(codes)
        known = {
            int(a): exact_code(record, input_scale, scale, low, high, int(a))
            for a in np.unique(accumulators)
        }
        columns.append([known[int(a)] + 127 - high for a in accumulators])
    return np.array(columns).T


def exact_code(record, input_scale, output_scale, low, high, accumulator):
    """A channel's code: fractions where the root is rational, else decimals of 200 digits."""
    names = ("scale", "shift", "gain", "variance", "offset")
    scale, shift, gain, variance, offset = (Fraction(float(record[name])) for name in names)
    inner = gain * (scale * Fraction(input_scale) * accumulator + shift)
    top, bottom = math.isqrt(variance.numerator), math.isqrt(variance.denominator)
    if Fraction(top, bottom) ** 2 == variance:
        real = inner / Fraction(top, bottom) + offset
        code = math.floor(real / Fraction(output_scale) + Fraction(1, 2))
    else:
        with decimal.localcontext(prec=200):
            one = decimal.Decimal(1)
            root = (one * variance.numerator / variance.denominator).sqrt()
            real = one * inner.numerator / inner.denominator / root
            real += one * offset.numerator / offset.denominator
            code = math.floor(real / decimal.Decimal(output_scale) + one / 2)
    return min(max(code, low), high)


def device_codes(graph, target):
    """int8 output codes ``[cases, channels]`` of a kernel, one by one."""
    _, steps = every_input(graph)
    operator = graph.operators[0]
    rows = operator.kernel.reshape(-1, CHANNELS).T
    if not isinstance(operator, DepthwiseConv2D):
        rows = operator.kernel.reshape(CHANNELS, -1)
    accumulators = steps @ rows.T.astype(np.int64) + operator.bias
    source, output = graph.tensors["input"].grid, graph.tensors["output"].grid
    return rules.weighted_codes(accumulators, operator, source, output, target)
