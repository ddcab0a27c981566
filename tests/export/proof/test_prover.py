"""The prover against brute force: every input of small layers, and planted errors."""

import dataclasses
import types
from fractions import Fraction

import numpy as np
import pytest
import trained_layers
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_layers import (
    CHANNELS,
    OPERATORS,
    changed,
    device_codes,
    every_input,
    layer,
    trained_codes,
)

import export
from export.executor import execution
from export.flatbuffer import writer
from export.ir.graph import IntegerGraph
from export.ir.operators import (
    Add,
    Concatenate,
    Conv2D,
    Multiply,
    Pool2D,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Softmax,
    TransposeConv2D,
)
from export.ir.provenance import TRAINED, Provenance
from export.ir.tensors import Tensor
from export.kernel_sets import ideal
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.rules import TARGETS
from export.proof import prover
from export.proof.training import training_problems
from export.realization.channels import moved_scale
from export.runtime import runner
from wrpn_tf import QuantizationParameters

BITS = st.integers(1, 8)
SEED = st.integers(0, 2**32 - 1)


def int8(scale, zero_point, bits=8):
    return QuantizationParameters.int8(scale=scale, zero_point=zero_point, bits=bits)


def as_trained(tensors):
    """The provenance of tensors that are as they were trained."""
    return Provenance(quantization={name: each.quantization for name, each in tensors.items()})


def verdict(graph):
    """Per target, the channels that the prover does not find equal, and its worst difference."""
    row = export.prove(graph).operators[-1]
    return row.channels, row.worst, row.problems


def assert_is_brute_force(graph):
    """The prover's verdict, both ways, and its worst difference."""
    channels, worst, problems = verdict(graph)
    assert problems == ()
    wanted = trained_codes(graph)
    for target in TARGETS:
        gaps = np.abs(device_codes(graph, target).astype(int) - wanted)
        assert channels[target] == tuple(np.flatnonzero(gaps.any(axis=0))), target
        assert worst[target] == gaps.max(), target


@st.composite
def layers(draw):
    """Layers of every kind and bit-width with at most some thousand inputs."""
    input_bits = draw(BITS)
    taps = draw(st.integers(1, {1: 8, 2: 5, 3: 3, 4: 2}.get(input_bits, 1)))
    return layer(
        draw(SEED),
        operator=draw(st.sampled_from(OPERATORS)),
        weight_bits=draw(BITS),
        input_bits=input_bits,
        output_bits=draw(BITS),
        taps=taps,
        linear=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(layers())
def test_the_verdict_on_fitted_layers_is_that_of_every_input(graph):
    assert_is_brute_force(graph)


@settings(max_examples=120, deadline=None)
@given(layers(), st.integers(0, CHANNELS - 1), st.data())
def test_the_verdict_on_planted_errors_is_that_of_every_input(graph, channel, data):
    operator = graph.operators[0]
    bias, scale = operator.bias.copy(), operator.kernel_scale.copy()
    plant = data.draw(st.sampled_from(["bias", "step", "ulp", "scale", "swap", "relu", "offset"]))
    sign = data.draw(st.sampled_from([-1, 1]))
    match plant:
        case "bias":
            bias[channel] += sign
        case "step":
            bias[channel] += sign * operator.code_multiplier
        case "ulp":
            scale = moved_scale(scale, sign * data.draw(st.integers(1, 64)))
        case "scale":
            scale[channel] *= np.float32(2.0**sign)
        case "swap":
            bias[[0, channel]] = bias[[channel, 0]]
        case "relu":
            graph = changed(graph, relu=not operator.relu)
        case "offset":
            trained = operator.trained.copy()
            trained["offset"][channel] += sign * graph.tensors["output"].quantization.scale / 2
            graph = changed(graph, trained=trained)
    assert_is_brute_force(changed(graph, bias=bias, kernel_scale=scale))


@settings(max_examples=60, deadline=None)
@given(layers(), st.integers(0, CHANNELS - 1), st.integers(1, CHANNELS - 1))
def test_other_codes_are_reported_wherever_they_change_an_output(graph, channel, distance):
    operator = graph.operators[0]
    axis = 3 if isinstance(operator, trained_layers.DepthwiseConv2D) else 0
    kernel = np.moveaxis(operator.kernel.copy(), axis, 0)
    other = (channel + distance) % CHANNELS
    negated, swapped, zeroed, code = (kernel.copy() for _ in range(4))
    negated[channel] *= -1
    swapped[[channel, other]] = swapped[[other, channel]]
    zeroed[channel] = 0
    code[channel].flat[0] = (
        operator.code_multiplier if code[channel].flat[0] <= 0 else -operator.code_multiplier
    )
    wanted = trained_codes(graph)
    for planted in (negated, swapped, zeroed, code):
        wrong = changed(graph, kernel=np.ascontiguousarray(np.moveaxis(planted, 0, axis)))
        channels, _, problems = verdict(wrong)
        for target in TARGETS:
            different = (device_codes(wrong, target) != wanted).any(axis=0)
            assert problems or set(np.flatnonzero(different)) <= set(channels[target])


@settings(max_examples=30, deadline=None)
@given(layers(), st.sampled_from(["input", "output"]), st.sampled_from([-1, 1]), st.booleans())
def test_other_grids_are_reported(graph, name, sign, scale):
    tensor = graph.tensors[name]
    known = tensor.quantization
    quantization = QuantizationParameters.int8(
        scale=trained_layers.float32(np.nextafter(np.float32(known.scale), np.float32(9)))
        if scale
        else known.scale,
        zero_point=known.zero_point + (0 if scale else sign),
        bits=known.bits,
    )
    moved = dataclasses.replace(tensor, quantization=quantization)
    proof = export.prove(dataclasses.replace(graph, tensors={**graph.tensors, name: moved}))
    wrong = [row.name for row in proof.operators if row.problems]
    assert wrong == [name]
    assert "trained were" in proof.failures(("xnnpack",))[0]


@pytest.mark.parametrize("relu", [True, False])
def test_another_relu_than_trained_is_found(relu):
    """Of 2 bits from 0 on, and of 8 bits from below 0 on."""
    graph = layer(1, operator=Conv2D, weight_bits=2, input_bits=2, taps=3, linear=relu)
    assert graph.operators[0].relu != relu
    assert_is_brute_force(changed(graph, relu=relu))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_low_bit_layers_are_proven_with_every_kernel(bits):
    for operator in OPERATORS:
        graph = layer(bits, operator=operator, weight_bits=bits, input_bits=2, output_bits=bits)
        assert export.prove(graph).operators[-1].proven(), operator


def saturated(bias, multiplier):
    """Ternary channels with these biases; an accumulator step is `multiplier` output codes.

    As trained, far from 0 all codes are the largest that the output has, or the smallest.
    """
    graph = layer(0, operator=Conv2D, weight_bits=2, input_bits=2, taps=3, linear=True)
    scales = {"input": 0.25, "output": 0.5}  # Powers of 2, so that nothing is rounded.
    codes = np.ones((CHANNELS, 3), np.int64)
    kernel_scale = np.full(CHANNELS, multiplier * 0.5 / 0.25, np.float32)
    trained = np.zeros(CHANNELS, TRAINED)
    trained["scale"] = 127 * kernel_scale
    trained["gain"] = trained["variance"] = 1
    trained["offset"] = np.array(bias) * multiplier * 0.5
    trained["digest"] = ideal.digest(codes[0])
    graph = changed(
        graph,
        kernel=np.full_like(graph.operators[0].kernel, 127),
        kernel_scale=kernel_scale,
        bias=np.array(bias, np.int64).astype(np.int32),
        code_multiplier=127,
        relu=False,
        trained=trained,
    )
    quantizations = {
        name: dataclasses.replace(trained, scale=scales[name])
        for name, trained in graph.provenance.quantization.items()
    }
    return dataclasses.replace(
        graph,
        tensors={
            name: dataclasses.replace(tensor, quantization=quantizations[name])
            for name, tensor in graph.tensors.items()
        },
        metadata={"codes": codes.tolist()},
        provenance=Provenance(quantization=quantizations),
    )


@pytest.mark.parametrize(
    ("multiplier", "limit", "targets"),
    [
        # Shifted left by 8 bits, or by 2, before it is multiplied.
        (128.0, 2**23 - 1, {"optimized", "reference", "reference_2_14"}),
        (2.5, 2**29 - 1, {"optimized", "reference", "reference_2_14"}),
        # A product that becomes an int32, with room for a zero point.
        (128.0, (2**31 - 2**10) // 128, {"xnnpack", "optimized_arm"}),
        # The accumulator itself.
        (0.3125, 2**31 - 1, set(TARGETS)),
    ],
)
def test_an_overflow_of_int32_is_not_proven(multiplier, limit, targets):
    """The largest accumulator is 3 steps times 3 codes of 127 above the bias."""
    bias = [limit - 1143, limit - 1142, -limit, -limit - 1, *[2**20] * (CHANNELS - 4)]
    channels, worst, problems = verdict(saturated(bias, multiplier))
    assert problems == ()
    for target in targets:
        assert channels[target] == (1, 3), target
        assert worst[target] == 255


def test_kernels_are_wrong_where_their_int32_overflows():
    """What the prover warns of happens: in its rules, and in the Interpreter."""
    bias = [
        2**23 - 1 - 1143,
        2**23 - 1142,
        -(2**23) + 1,
        -(2**23) - 1143,
        *[2**20] * (CHANNELS - 4),
    ]
    graph = saturated(bias, 128.0)
    steps, codes = every_input(graph)
    images = (codes + graph.tensors["input"].quantization.zero_point).astype(np.int8)
    wanted = trained_codes(graph)
    for target, wrong in (("optimized", [1, 3]), ("reference", [1, 3]), ("xnnpack", [])):
        found = runner.run(
            writer.to_flatbuffer(graph), {"input": images.reshape(-1, 1, 1, 3)}, target
        )["output"].reshape(len(steps), CHANNELS)
        assert np.array_equal(found, device_codes(graph, target)), target
        assert np.flatnonzero((found != wanted).any(axis=0)).tolist() == wrong


def two_inputs(operator, grids, output, *, bits=8, shapes=(), **fields):
    """A graph of one operator that reads two tensors, grids as (scale, zero point)."""
    shapes = dict.fromkeys(("a", "b", "output"), (1, 2, 2, 4)) | dict(shapes)
    tensors = {
        name: Tensor(shape=shapes[name], quantization=int8(trained_layers.float32(scale), zero))
        for name, (scale, zero) in zip("ab", grids, strict=True)
    }
    quantization = int8(trained_layers.float32(output[0]), output[1], bits)
    tensors["output"] = Tensor(shape=shapes["output"], quantization=quantization)
    return IntegerGraph(
        tensors=tensors,
        operators=[operator(inputs=("a", "b"), output="output", **fields)],
        inputs=("a", "b"),
        outputs=("output",),
        provenance=as_trained(tensors),
    )


def pair_codes(graph):
    """Trained codes of an operator with two inputs for every pair of int8 codes, by fractions."""
    (s1, z1), (s2, z2) = (
        (tensor.quantization.scale, tensor.quantization.zero_point)
        for tensor in map(graph.tensors.get, "ab")
    )
    s1, s2, scale = map(Fraction, (s1, s2, graph.tensors["output"].quantization.scale))
    unit = Fraction(1, s1.denominator * s2.denominator)
    codes = np.arange(-128, 128).astype(object)
    left, right = (codes - z1)[:, None], (codes - z2)[None, :]
    if isinstance(graph.operators[0], Add):
        real = left * int(s1 / unit) + right * int(s2 / unit)
    else:
        real = left * right * int(s1 * s2 / unit)
    step = scale / unit  # A code at most rounds down to what is below real / step + 1/2.
    steps = (2 * real * step.denominator + step.numerator) // (2 * step.numerator)
    output = graph.tensors["output"].quantization
    return np.clip(steps, output.low, output.high).astype(int) + output.zero_point


@pytest.mark.parametrize("operator", [Add, Multiply])
@settings(max_examples=6, deadline=None)
@given(SEED, st.booleans())
def test_pairs_of_codes_are_compared_one_by_one(operator, seed, relu):
    random = np.random.default_rng(seed)
    grids = [(random.uniform(0.01, 0.2), int(random.integers(-40, 40))) for _ in range(2)]
    graph = two_inputs(operator, grids, (random.uniform(0.02, 0.3), 112), bits=4, relu=relu)
    row = export.prove(graph).operators[-1]
    assert row.cases == 256 * 256
    wanted = pair_codes(graph)
    codes = np.arange(-128, 128).astype(np.int8)
    inputs = [np.ascontiguousarray(x)[None] for x in np.meshgrid(codes, codes, indexing="ij")]
    for kernel_set in ("xnnpack", "reference"):
        found = execution.run_operator(graph, graph.operators[0], inputs, kernel_set)[0].astype(int)
        assert row.different[kernel_set] == np.count_nonzero(found != wanted)
        assert row.worst[kernel_set] == np.abs(found - wanted).max()


@pytest.mark.parametrize(
    ("other", "counts"), [((1, 2, 2, 16), True), ((1, 1, 1, 16), True), ((1, 1, 1, 15), False)]
)
def test_products_that_leave_16_bits_count_where_they_do(other, counts):
    """255 * 255 steps of .75, and a zero point of 127: see `multiplication`."""
    grids = [(0.75, -128), (1.0, -128)]
    image = (1, 2, 2, other[-1])
    shapes = {"a": image, "b": other, "output": image}
    graph = two_inputs(Multiply, grids, (1.0, 127), relu=False, shapes=shapes)
    proof = export.prove(graph)
    row = proof.operators[-1]
    codes = np.arange(256)
    beyond = np.count_nonzero(np.outer(codes, codes) * 0.75 + 127 >= 2**15 - 0.5)
    assert beyond == 4111
    wrong = ("optimized", "optimized_arm") if counts else ()
    none = dict.fromkeys(TARGETS, 0)
    assert row.different == none | dict.fromkeys(wrong, beyond)
    assert row.worst == none | dict.fromkeys(wrong, 255)
    assert proof.failures(("xnnpack", "reference")) == []
    assert proof.failures(("optimized",)) == [
        "output: 4,111 of 65,536 cases differ from the training (optimized), by up to 255."
        for _ in wrong[:1]
    ]


@pytest.mark.parametrize("operator", [Add, Multiply])
def test_a_pair_on_another_grid_than_trained_is_reported(operator):
    graph = two_inputs(operator, [(0.1, 0), (0.2, 3)], (0.2, 112), bits=4, relu=False)
    trained = dict(graph.provenance.quantization)
    trained["output"] = dataclasses.replace(trained["output"], scale=trained_layers.float32(0.21))
    graph = dataclasses.replace(graph, provenance=Provenance(quantization=trained))
    row = export.prove(graph).operators[-1]
    assert row.problems and row.different["xnnpack"] > 0


@pytest.mark.parametrize("operator", [Add, Multiply])
def test_a_missing_relu_is_found(operator):
    graph = two_inputs(operator, [(0.1, 0), (0.2, 3)], (0.2, 112), bits=4, relu=False)
    row = export.prove(graph).operators[-1]
    assert row.different["xnnpack"] > 10_000


def test_concatenation_needs_one_grid():
    same = two_inputs(
        Concatenate, [(0.1, 0)] * 2, (0.1, 0), axis=3, shapes={"output": (1, 2, 2, 8)}
    )
    assert export.prove(same).operators[-1].proven()
    other = two_inputs(
        Concatenate, [(0.1, 0), (0.1, 1)], (0.1, 0), axis=3, shapes={"output": (1, 2, 2, 8)}
    )
    assert not export.prove(other).operators[-1].proven()


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        (Slice(inputs=("image",), output="output", begin=(1, 0, 0)), (1, 2, 3, 4)),
        (ResizeNearest(inputs=("image",), output="output"), (1, 6, 6, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_operators_that_copy_codes_need_one_grid(operator, shape):
    image = int8(0.25, 112, 4)

    def proof(quantization, trained):
        tensors = {
            "image": Tensor(shape=(1, 3, 3, 4), quantization=image),
            "output": Tensor(shape=shape, quantization=quantization),
        }
        return export.prove(
            IntegerGraph(
                tensors=tensors,
                operators=[operator],
                inputs=("image",),
                outputs=("output",),
                provenance=Provenance(quantization={"image": image, "output": trained}),
            )
        ).operators[-1]

    assert proof(image, image).proven()
    moved = proof(int8(0.5, 112, 4), int8(0.5, 112, 4))
    assert not moved.proven() and "another grid than the output" in moved.problems[0]
    moved = proof(int8(0.25, 111, 4), image)
    assert not moved.proven() and len(moved.problems) == 2


def test_a_training_is_compared_operator_by_operator():
    graph = layer(0, operator=Conv2D)
    operator = graph.operators[0]
    assert training_problems(changed(graph, bias=operator.bias + 1), graph) == []
    trained = operator.trained.copy()
    trained["offset"][3] += 1
    assert "output" in training_problems(changed(graph, trained=trained), graph)[0]
    assert training_problems(changed(graph, relu=not operator.relu), graph)
    trained = {**graph.provenance.quantization, "input": int8(0.5, 124, 2)}
    other = dataclasses.replace(graph, provenance=Provenance(quantization=trained))
    assert "another grid" in training_problems(other, graph)[0]
    assert "0 operators" in training_problems(graph, dataclasses.replace(graph, operators=[]))[-1]
    other = dataclasses.replace(graph, outputs=graph.inputs)
    assert "other inputs or outputs" in training_problems(other, graph)[0]


def test_a_graph_of_other_shapes_is_not_the_training():
    """The digest of a kernel is that of its codes, whatever the window that they lie in."""
    graph = layer(0, operator=Conv2D, taps=3)
    kernel = graph.operators[0].kernel
    assert kernel.shape == (CHANNELS, 1, 1, 3)
    tall = changed(graph, kernel=kernel.reshape(CHANNELS, 3, 1, 1))
    assert "output" in training_problems(tall, graph)[0]
    tensors = {
        name: dataclasses.replace(tensor, shape=(*tensor.shape[:-1], 1 + tensor.shape[-1]))
        for name, tensor in graph.tensors.items()
    }
    problems = training_problems(dataclasses.replace(graph, tensors=tensors), graph)
    assert ["its shape is" in problem for problem in problems] == [True, True]


def test_average_pooling_is_proven_for_every_sum():
    tensor = Tensor(shape=(1, 5, 5, 2), quantization=int8(0.25, 112, 4))
    tensors = {"image": tensor, "output": tensor}
    pool = Pool2D(
        inputs=("image",),
        output="output",
        kind="average",
        window=(3, 3),
        strides=(1, 1),
        padding="SAME",
    )
    graph = IntegerGraph(
        tensors=tensors,
        operators=[pool],
        inputs=("image",),
        outputs=("output",),
        provenance=as_trained(tensors),
    )
    row = export.prove(graph).operators[-1]
    assert row.proven()
    assert row.cases == sum(15 * count + 1 for count in (4, 6, 9))


@pytest.mark.parametrize(("bits", "ties"), [(4, 0), (7, 0), (8, 128)])
def test_upsampling_is_proven_where_kernels_round_alike(bits, ties):
    high = 2**bits - 1
    quantization = int8(0.25, 127 - high, bits)
    tensors = {
        "image": Tensor(shape=(1, 3, 3, 2), quantization=quantization),
        "output": Tensor(shape=(1, 6, 3, 2), quantization=quantization),
    }
    graph = IntegerGraph(
        tensors=tensors,
        operators=[ResizeBilinear(inputs=("image",), output="output")],
        inputs=("image",),
        outputs=("output",),
        provenance=as_trained(tensors),
    )
    row = export.prove(graph).operators[-1]
    assert row.cases == 8 * high + 1
    assert row.different == dict.fromkeys(TARGETS, ties) | {"xnnpack": 0}
    assert row.worst["reference"] == bool(ties)


def test_what_xnnpack_leaves_is_proven_for_the_optimized_kernels():
    for seed in range(8):
        graph = layer(seed, operator=TransposeConv2D, weight_bits=8, input_bits=2, linear=True)
        rows = [
            export.prove(changed(graph, strides=(1, step), padding="SAME")).operators[-1]
            for step in (1, 2)
        ]
        taken, left = (row.channels for row in rows)
        optimized = set(taken["optimized"]) | set(taken["optimized_arm"])
        assert left == taken | {"xnnpack": tuple(sorted(optimized))}
        worst = max(rows[0].worst["optimized"], rows[0].worst["optimized_arm"])
        assert rows[1].worst == rows[0].worst | {"xnnpack": worst}
        assert rows[1].different == rows[0].different | {"xnnpack": len(optimized)}


def test_clips_are_thresholds_too():
    """Levels 1 to 5 of an output that is clipped to codes from 2 to 4."""
    positions, levels = np.full((5, 2), 7), np.arange(1, 6)[:, None]
    found = prover._clipped(positions, levels, 2, 4)
    assert found.tolist() == [[-BEYOND] * 2] * 2 + [[7] * 2] * 2 + [[BEYOND] * 2]


@pytest.mark.parametrize(
    ("wanted", "found", "gap"),
    [
        ([1, 5, 9], [1, 5, 9], 0),
        ([1, 5, 9], [1, 5, 8], 1),
        ([1, 5, 9], [2, 5, 9], 1),
        ([1, 5, 9], [6, 7, 9], 2),
        ([6, 7, 9], [1, 5, 9], 2),
        ([9, 1, 5], [1, 9, 5], 0),  # In no order.
        ([-BEYOND, 3, BEYOND], [3, 3, 3], 1),
        ([-BEYOND] * 3, [BEYOND] * 3, 3),
        ([BEYOND] * 3, [BEYOND] * 3, 0),
        ([4, 4, BEYOND], [BEYOND] * 3, 2),
    ],
)
def test_the_largest_gap_of_step_functions(wanted, found, gap):
    largest = prover._largest_gap(np.array(wanted), np.array(found))
    assert (largest, type(largest)) == (gap, int)


def test_channels_that_do_not_hold_the_trained_codes_are_named():
    """A negated channel is right where its gain is negative; all 0 is right everywhere."""
    codes = np.array([[1, -2], [1, -2], [1, -2], [1, -2], [1, -2], [0, 0]], np.int8)
    trained = np.zeros(6, TRAINED)
    trained["gain"] = [1, -1, 1, 1, -1, 0]
    trained["digest"] = [ideal.digest(row) for row in codes]
    rows = 3 * codes * np.array([[1], [-1], [0], [1], [1], [1]], np.int8)
    rows[3, 1] += 1
    operator = types.SimpleNamespace(code_multiplier=3, trained=trained)
    assert prover._code_problems(operator, rows) == [
        "The kernel does not hold the trained codes in channels [3, 4]."
    ]
    assert (
        prover._code_problems(operator, 3 * codes * np.array([[1], [-1], [0], [1], [-1], [1]]))
        == []
    )
    rows = 3 * codes * np.array([[1], [-1], [0], [1], [-1], [1]])
    rows[0] += 1  # The codes are the trained ones, times 3 and 1 more.
    assert "[0]" in prover._code_problems(operator, rows)[0]


@pytest.mark.parametrize(("low", "bound"), [(-4, 2 * 31 * 5), (-9, 2 * 31 * 9)])
def test_unknown_codes_may_be_as_large_as_the_code_multiplier_allows(low, bound):
    """127 // 4 = 31; the third channel is known to have codes of 0."""
    trained = np.zeros(3, TRAINED)
    trained["digest"] = [1, 1, ideal.digest(np.zeros(2))]
    rows = np.array([[4, -8], [0, 0], [0, 0]], np.int8)
    operator = types.SimpleNamespace(code_multiplier=4, dtype_bits=8, trained=trained)
    source = QuantizationParameters(scale=1.0, low=low, high=5, bits=4)
    found = prover._trained_accumulators(operator, rows, source)
    assert found.least.tolist() == [low - 10, -bound, 0]
    assert found.most.tolist() == [5 - 2 * low, bound, 0]
    operator.dtype_bits, operator.code_multiplier = 4, 2
    found = prover._trained_accumulators(operator, rows, source)
    assert found.most[1] == bound * 3 // 31


def test_what_is_known_of_every_operator():
    graph = layer(3, operator=Conv2D, weight_bits=3, output_bits=4)
    source, row = export.prove(graph).operators
    assert (source.name, source.kind, source.output_bits) == ("input", "Input", 2)
    assert (source.cases, source.weight_bits, source.problems) == (0, None, ())
    assert (row.name, row.kind, row.output_bits) == ("output", "Conv2D", 4)
    assert (row.cases, row.weight_bits) == (CHANNELS, 3)
    assert row.covered and source.covered
    moved = dataclasses.replace(
        graph,
        tensors={
            name: dataclasses.replace(tensor, quantization=int8(0.5, 3))
            for name, tensor in graph.tensors.items()
        },
    )
    for found, name in zip(export.prove(moved).operators, ("input", "output"), strict=True):
        trained = graph.provenance.quantization[name]
        assert found.problems[0] == (
            "The tensor has scale 0.5 and zero point 3, trained were "
            f"{trained.scale} and {trained.zero_point}."
        )


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pools_copy_codes_or_average_them(kind):
    pool = Pool2D(inputs=("image",), output="output", kind=kind, window=(2, 2), strides=(1, 1))
    tensors = {
        "image": Tensor(shape=(1, 3, 3, 1), quantization=int8(0.25, 112, 4)),
        "output": Tensor(shape=(1, 2, 2, 1), quantization=int8(0.25, 111, 4)),
    }
    graph = IntegerGraph(
        tensors=tensors,
        operators=[pool],
        inputs=("image",),
        outputs=("output",),
        provenance=as_trained(tensors),
    )
    row = export.prove(graph).operators[-1]
    assert row.problems == (
        ("Input 'image' is on another grid than the output.",)
        if kind == "max"
        else ("Input and output are on different grids.",)
    )
    assert row.cases == (0 if kind == "max" else 4 * 15 + 1)
    assert row.output_bits == 4 and row.kind == "Pool2D"


def test_a_softmax_is_outside_the_proof():
    tensor = Tensor(shape=(1, 4), quantization=int8(1 / 256, -128))
    tensors = {"logits": tensor, "output": tensor}
    graph = IntegerGraph(
        tensors=tensors,
        operators=[Softmax(inputs=("logits",), output="output")],
        inputs=("logits",),
        outputs=("output",),
        provenance=as_trained(tensors),
    )
    row = export.prove(graph).operators[-1]
    assert row.kind == Softmax.__name__
    assert not row.covered and not row.proven(())


def test_a_graph_without_a_training_is_refused():
    graph = layer(0, operator=Conv2D)
    for bare in (changed(graph, trained=None), dataclasses.replace(graph, provenance=Provenance())):
        with pytest.raises(ValueError, match="does not carry what was trained"):
            export.prove(bare)


def test_every_channel_counts_in_the_progress(capfd):
    export.prove(layer(0), progress=True)
    assert "100%" in capfd.readouterr().err
