"""Small trained layers as graphs, and what they compute by brute force, for the prover's tests."""

import dataclasses
import decimal
import itertools
import math
from fractions import Fraction

import numpy as np

from export.ir.graph import IntegerGraph
from export.ir.operators import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv2D
from export.ir.provenance import TRAINED, Provenance
from export.ir.tensors import Tensor
from export.ir.trained import TrainedGraph, TrainedKernel
from export.kernel_sets import ideal, rules
from export.realization import channels
from export.realization.context import RequantizationContext
from wrpn_tf import QuantizationParameters

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
    source = QuantizationParameters(scale=input_scale, low=0, high=input_high, bits=input_bits)
    target = QuantizationParameters(scale=output_scale, low=low, high=high, bits=output_bits)
    context = RequantizationContext(
        operator=operator,
        vector_product=rules.is_vector_product(codes, (1, CHANNELS)),
        source=source,
        target=target,
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
    return IntegerGraph(
        tensors={
            "input": Tensor(shape=input_shape, quantization=source),
            "output": Tensor(shape=output_shape, quantization=target),
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
        metadata={"codes": codes.tolist()},
        provenance=Provenance(quantization={"input": source, "output": target}),
    )


def wide_layer(seed, operator, count, taps):
    """A layer with 8 bits everywhere: accumulators with gaps, thresholds out of their reach."""
    random = np.random.default_rng(seed)
    codes = random.integers(-127, 128, (count, taps)).astype(np.int8)
    input_scale, output_scale = (float(np.float32(scale)) for scale in (0.1, 0.07))
    trained = np.zeros(count, TRAINED)
    spread = random.uniform(0.3, 2) * output_scale * 255
    trained["scale"] = np.float32(spread / (input_scale * 127 * np.sqrt(taps) * 255))
    trained["gain"], trained["variance"] = 1, 1
    trained["offset"] = random.normal(0, output_scale * 64, count).astype(np.float32)
    trained["digest"] = [ideal.digest(row) for row in codes]
    source, target = (
        QuantizationParameters(scale=scale, low=0, high=255, bits=8)
        for scale in (input_scale, output_scale)
    )
    context = RequantizationContext(
        operator=operator,
        vector_product=operator is FullyConnected,
        source=source,
        target=target,
    )
    fitted = channels.fit(codes, trained, context)
    one = () if operator is FullyConnected else (1, 1)
    node = operator(
        inputs=("input",),
        output="output",
        kernel=fitted.kernel.reshape(count, *one, taps),
        kernel_scale=fitted.scale,
        bias=fitted.bias,
        relu=fitted.relu,
        code_multiplier=fitted.code_multiplier,
        bits=8,
        trained=trained,
    )
    tensors = {
        "input": Tensor(shape=(1, *one, taps), quantization=source),
        "output": Tensor(shape=(1, *one, count), quantization=target),
    }
    return IntegerGraph(
        tensors=tensors, operators=[node], inputs=("input",), outputs=("output",), metadata={}
    )


def changed(graph, **fields):
    """The graph with other fields in its one operator."""
    return dataclasses.replace(graph, operators=[dataclasses.replace(graph.operators[0], **fields)])


def every_input(graph):
    """Every input code that one output channel can see, int64 ``[cases, taps]``, as steps."""
    source = graph.tensors["input"]
    taps = len(graph.metadata["codes"][0])
    trained = graph.provenance.quantization["input"]
    codes = range(trained.low, trained.high + 1)
    steps = np.array(list(itertools.product(codes, repeat=taps)), np.int64)
    return steps, steps + trained.zero_point - source.quantization.zero_point


def trained_codes(graph):
    """int8 output codes ``[cases, channels]`` as trained, one by one, in exact arithmetic."""
    steps, _ = every_input(graph)
    operator = graph.operators[0]
    source, target = (graph.provenance.quantization[name] for name in ("input", "output"))
    columns = []
    for record, codes in zip(operator.trained, graph.metadata["codes"], strict=True):
        accumulators = steps @ np.array(codes)
        known = {
            int(a): exact_code(record, source.scale, target.scale, target.low, target.high, int(a))
            for a in np.unique(accumulators)
        }
        columns.append([known[int(a)] + target.zero_point for a in accumulators])
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
    source, output = (graph.tensors[name].quantization for name in ("input", "output"))
    return rules.weighted_codes(accumulators, operator, source, output, target)


def trained_graph(graph):
    """What the graph of a layer was realized from."""
    (operator,) = graph.operators
    codes = np.array(graph.metadata["codes"], np.int8)
    is_depthwise = isinstance(operator, DepthwiseConv2D)
    kernel = TrainedKernel(
        inputs=operator.inputs,
        output=operator.output,
        form=type(operator),
        codes=codes,
        window=(1, codes.shape[1]) if is_depthwise else (1, 1),
        bits=operator.bits,
        parameters=operator.trained,
    )
    return TrainedGraph(
        tensors=graph.tensors,
        operators=[kernel],
        inputs=graph.inputs,
        outputs=graph.outputs,
        metadata=graph.metadata,
        provenance=graph.provenance,
    )


def clearance(graph, operator):
    """How near a channel's real output comes to the middle between two codes, at most.

    Every accumulator from the smallest to the largest is tried.

    Returns:
      float64 ``[channels]``, in output codes; infinite where all outputs are clipped.
    """
    names = (operator.inputs[0], operator.output)
    source, target = (graph.tensors[name].quantization for name in names)
    low = 0 if operator.relu else target.low
    nearest = []
    for record, row in zip(operator.trained, operator.rows, strict=True):
        codes = row.astype(np.int64) // operator.code_multiplier * (-1 if record["gain"] < 0 else 1)
        up, down = codes[codes > 0].sum(), codes[codes < 0].sum()
        least, most = up * source.low + down * source.high, up * source.high + down * source.low
        reals = record["scale"] * source.scale * np.arange(least, most + 1) + record["shift"]
        reals = record["gain"] * reals / np.sqrt(record["variance"]) + record["offset"]
        steps = reals / target.scale + 0.5
        levels = np.rint(steps)
        within = (levels > low) & (levels <= target.high)
        nearest.append(np.abs(steps - levels)[within].min(initial=np.inf))
    return np.array(nearest)


def needed_clearance(graph, operator):
    """What float32 may lose, in output codes: 2^-20 of the threshold that is farthest from 0."""
    target = graph.tensors[operator.output].quantization
    return 2.0**-20 * max(-target.low - 1, target.high)
