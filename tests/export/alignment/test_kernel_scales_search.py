"""The search for kernel scales, channel by channel, with a stand-in for the quantizer."""

import dataclasses
import itertools
import types

import numpy as np
import pytest

from export.alignment import kernel_scales
from export.ir.graph import IntegerGraph
from export.ir.operators import Conv2D, FullyConnected
from export.ir.provenance import TRAINED
from export.ir.tensors import Tensor
from export.kernel_sets import ideal
from export.realization import channels
from export.realization.accumulator_range import AccumulatorRange
from export.realization.context import RequantizationContext
from wrpn_tf import QuantizationParameters

SOURCE = QuantizationParameters(scale=0.5, low=0, high=3, bits=2)


def layer(codes, target, operator=Conv2D, **fields):
    """A graph of one operator without a bias; gains, offsets and scales are as given."""
    codes = np.array(codes, np.int8)
    trained = np.zeros(len(codes), TRAINED)
    trained["gain"] = trained["variance"] = 1
    for name, values in fields.items():
        trained[name] = values
    trained["digest"] = [ideal.digest(row) for row in codes]
    context = RequantizationContext(
        operator=operator, vector_product=False, source=SOURCE, target=target
    )
    fitted = channels.fit(codes, trained, context)
    one = () if operator is FullyConnected else (1, 1)
    node = operator(
        inputs=("input",),
        output="output",
        kernel=fitted.kernel.reshape(len(codes), *one, -1),
        kernel_scale=fitted.scale,
        bias=fitted.bias,
        relu=fitted.relu,
        code_multiplier=fitted.code_multiplier,
        trained=trained,
    )
    shapes = {"input": (1, 2, 2, codes.shape[1]), "output": (1, 2, 2, len(codes))}
    tensors = {
        "input": Tensor(shape=shapes["input"], quantization=SOURCE),
        "output": Tensor(shape=shapes["output"], quantization=target),
    }
    return IntegerGraph(
        tensors=tensors, operators=[node], inputs=("input",), outputs=("output",)
    ), context


def nearest(codes, trained, context):
    """The distance of one channel, over every input and every level."""
    steps = np.array(list(itertools.product(range(4), repeat=len(codes))))
    slope, start = ideal.line(trained, SOURCE.scale)
    reals = slope * (steps @ codes) + start
    ties = (context.levels - 0.5) * context.target.scale
    return np.abs(reals[:, None] - ties).min()


TARGET = QuantizationParameters(scale=0.25, low=-2, high=3, bits=3)
CODES = np.array([[1, -1], [2, 3], [-3, 2], [3, -3], [0, 1], [2, 2]])


def test_distances_are_those_of_every_input():
    random = np.random.default_rng(0)
    for _ in range(5):
        fields = {"scale": random.uniform(0.02, 0.9, 6), "offset": random.uniform(-0.6, 0.9, 6)}
        graph, context = layer(CODES, TARGET, **fields)
        accumulators = AccumulatorRange(CODES, 0, 3)
        trained = graph.operators[0].trained
        found = kernel_scales.distance(context, accumulators, trained)
        assert found.dtype == np.float64 and found.shape == (6,)
        for channel, row in enumerate(CODES):
            assert found[channel] == nearest(row, trained[channel : channel + 1], context)
    # At an accumulator of 2^40 they would be 1/8, a tie. In reach they are next to 0.
    graph, _ = layer(CODES, TARGET, scale=2.0**-42)
    flat = kernel_scales.distance(context, accumulators, graph.operators[0].trained)
    assert np.allclose(flat, 0.125, rtol=0, atol=1e-9)
    nothing = dataclasses.replace(context, target=dataclasses.replace(TARGET, low=3))
    assert (kernel_scales.distance(nothing, accumulators, trained) == np.inf).all()


def expected(graph, context, margin):
    """The nearest scale of each channel that serves, one channel and one scale at a time."""
    (node,) = graph.operators
    factors = []
    for channel, row in enumerate(node.rows):
        trained = node.trained[channel : channel + 1]
        codes = row[None] // node.code_multiplier
        plain = codes * ideal.signs(trained)

        def exact(scaled, plain=plain):
            known = channels.fit(plain, scaled, context).exact
            return known["xnnpack"][0], known["optimized_arm"][0]

        _, arm = exact(trained)
        steps = [step * sign * 2.0**-16 for step in range(1, 65) for sign in (1, -1)]
        tried = 0
        for step in [0, *steps]:
            scaled = trained.copy()
            scaled["scale"] *= np.float32(1 + step)
            if not codes.any() or tried == 16:
                step = 0
                break
            if nearest(codes[0], scaled, context) < margin:
                continue
            now = exact(scaled)
            if step == 0 and now[0]:
                break
            tried += step != 0
            if step and now[0] and (now[1] or not arm):
                break
        else:
            step = 0
        factors.append(np.float32(1 + step))
    return np.array(factors)


WIDE = QuantizationParameters(scale=0.25, low=0, high=255, bits=8)


@pytest.mark.parametrize("seed", range(4))
def test_scales_are_the_nearest_that_serve(seed):
    """Half an output code, or a quarter or an eighth, for an accumulator; give or take a little."""
    random = np.random.default_rng(seed)
    # A code of 3 in every channel: alone or with others, it has the same code multiplier.
    codes = np.resize([[3, -1], [2, 3], [-3, 2], [3, -3], [0, 3], [3, 2]], (24, 2))
    codes[5] = 0
    scale = 0.25 * random.choice([0.5, 0.25, 1, 0.125], 24) / SOURCE.scale
    scale *= 1 + random.choice([0, 2.0**-13, -(2.0**-12), 0.2], 24)
    offset = 0.25 * random.integers(0, 256, 24)
    gain = random.choice([1, -1, 2], 24)
    fields = {"scale": scale.astype(np.float32), "offset": offset, "gain": gain}
    graph, context = layer(codes, WIDE, **fields)
    found = kernel_scales._factors(graph, graph.operators[0])
    wanted = expected(graph, context, 2.0**-20 * 0.25 * 255)
    assert found.dtype == np.float32
    assert found.tolist() == wanted.tolist()
    assert 3 < np.count_nonzero(wanted != 1) < 24


def test_a_tie_moves_by_as_much_as_float32_needs():
    """A code of 201 is met by accumulator 1 of half a code: margin 255 / 2^20 codes.

    Half a code moves by that much for a share of 510 / 2^20: 31.9 of the steps of 2^-16.
    """
    graph, _ = layer([[1, 0], [1, 0]], WIDE, scale=0.25, offset=[0.25 * 200, 0])
    (node,) = graph.operators
    found = kernel_scales._factors(graph, node)
    assert found.tolist() == [np.float32(1 + 2.0**-11)] * 2


def test_exact_for_the_first_target_and_for_arm_where_it_was(monkeypatch):
    """Whether a scale serves, by how often it was tried, with what is exact as a stand-in says."""
    graph, _ = layer([[1, 0]] * 3, WIDE, scale=0.25, offset=[50.0] * 3)
    tried = []
    answers = [
        {"xnnpack": [True, True, False], "optimized_arm": [True, False, True]},
        {"xnnpack": [False, True, True], "optimized_arm": [True, False, False]},
        {"xnnpack": [True, True, True], "optimized_arm": [False, True, False]},
        {"xnnpack": [True, True, True], "optimized_arm": [True, True, True]},
    ]

    def fit(codes, trained, context):
        tried.append(trained["scale"].tolist())
        known = answers[len(tried) - 1]
        exact = {name: np.array(values) for name, values in known.items()}
        return types.SimpleNamespace(exact=exact)

    monkeypatch.setattr(channels, "fit", fit)
    found = kernel_scales._factors(graph, graph.operators[0])
    steps = [32, -32, 33]  # The first three that are far enough.
    shares = [np.float32(1 + step * 2.0**-16) for step in steps]
    # The second serves at once: it was not exact for ARM. The others are tried again.
    assert found.tolist() == [shares[2], shares[0], shares[2]]
    scales = [np.float32(0.25) * share for share in shares]
    assert tried == [
        [0.25] * 3,
        [scales[0]] * 3,
        [scales[1], scales[0], scales[1]],
        [scales[2], scales[0], scales[2]],
    ]


def test_channels_that_nothing_serves_keep_their_scale(monkeypatch):
    graph, _ = layer([[1, 0], [0, 0]], WIDE, scale=0.25, offset=50.0, gain=-1)
    tried, nothing = [], np.zeros(2, bool)

    def fit(codes, trained, context):
        assert codes.tolist() == [[1, 0], [0, 0]]  # As trained.
        tried.append(trained["scale"].tolist())
        return types.SimpleNamespace(exact={"xnnpack": nothing, "optimized_arm": nothing})

    monkeypatch.setattr(channels, "fit", fit)
    assert kernel_scales._factors(graph, graph.operators[0]).tolist() == [1, 1]
    assert len(tried) == 1 + 16
    assert {scales[1] for scales in tried} == {0.25}


def test_one_scale_of_a_dense_layer_stays():
    fields = {"scale": 0.25, "offset": 50.0}
    graph, _ = layer([[1, 0]] * 2, WIDE, FullyConnected, **fields)
    assert kernel_scales._factors(graph, graph.operators[0]).tolist() == [1, 1]
    graph, _ = layer([[1, 0]] * 2, WIDE, FullyConnected, scale=[0.25, 0.125], offset=50.0)
    assert kernel_scales._factors(graph, graph.operators[0])[0] != 1


class Variable:
    def __init__(self, values):
        self.values = np.float32(values)

    def numpy(self):
        return self.values.copy()

    def assign(self, values):
        self.values = np.float32(values)


class Quantizer:
    """Codes of three channels: kernel over scale, rounded; the third channel's change if moved."""

    rescaled = 0

    def __init__(self, has_free_scale, axes):
        self.has_free_scale, self.axes = has_free_scale, axes
        (self.axis,) = {2, 3}.difference(axes)

    def codes(self, kernel, variables):
        assert isinstance(kernel, np.ndarray)
        scale = variables["scale"].numpy()
        codes = np.rint(kernel / scale)
        np.moveaxis(codes, self.axis, 0)[2].flat[1] += scale.flat[2] != 1
        return codes, scale

    def rescale(self, kernel, variables, factors):
        assert factors.shape == variables["scale"].numpy().shape
        self.rescaled += 1
        for each in (kernel, *variables.values()):
            each.assign(each.numpy() * factors)


@pytest.mark.parametrize(
    ("free", "factors", "scale", "rescaled"),
    [
        (True, [2, 1, 4], [2, 1, 1], 1),
        (True, [1, 0.5, 1], [1, 0.5, 1], 1),
        (True, [1, 1, 1], [1, 1, 1], 0),
        (False, [2, 1, 4], [1, 1, 1], 0),
    ],
)
@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 1, 3)], ids=["last", "transposed"])
def test_scales_move_where_codes_stay(monkeypatch, axes, free, factors, scale, rescaled):
    known = {("graph", "operator", ("tflm",)): np.float32(factors)}
    monkeypatch.setattr(kernel_scales, "_factors", lambda *given: known[given])
    values, ones = np.float32([[[[1, 2, 3], [-1, 0, 5]]]]), np.ones((1, 1, 1, 3), np.float32)
    moved = values * np.float32(scale)
    if axes == (0, 1, 3):
        values, ones, moved = (each.swapaxes(2, 3) for each in (values, ones, moved))
    kernel, variables = Variable(values), {"scale": Variable(ones)}
    quantizer = Quantizer(free, axes)
    kernel_scales.settle_scales("graph", "operator", quantizer, kernel, variables, ("tflm",))
    assert quantizer.rescaled == rescaled
    assert variables["scale"].values.ravel().tolist() == scale
    assert kernel.values.tolist() == moved.tolist()
