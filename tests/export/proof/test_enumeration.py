"""Proofs case by case: what is trained, what is asked of kernels, and how differences count."""

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from export.ir.graph import IntegerGraph
from export.ir.operators import Add, Multiply, Pool2D, ResizeBilinear, Subtract
from export.ir.tensors import Tensor
from export.kernel_sets import requantization
from export.kernel_sets.rules import TARGETS
from export.proof import enumeration
from export.proof.result import OperatorProof
from wrpn_tf import QuantizationParameters

COMMON = OperatorProof(name="output", kind="kind", output_bits=3, problems=("Known before.",))


def grid(scale, low, high):
    return QuantizationParameters(scale=float(np.float32(scale)), low=low, high=high, bits=8)


def graph_of(operator, grids, shapes=None):
    names = (*operator.inputs, operator.output)
    shapes = shapes or [(1, 2, 2, 1)] * len(names)
    return IntegerGraph(
        tensors={
            name: Tensor(shape=shape, quantization=each)
            for name, shape, each in zip(names, shapes, grids, strict=True)
        },
        operators=[operator],
        inputs=operator.inputs,
        outputs=("output",),
    )


# Input scales within what XNNPACK takes: 2^-10 to 2^8 output scales.
GRIDS = [
    (grid(0.3, 0, 4), grid(0.7, -2, 1), grid(0.2, -3, 5)),
    (grid(0.5, -1, 3), grid(0.25, 0, 4), grid(0.5, 0, 6)),  # Ties.
    (grid(2.0, -1, 3), grid(4.0, 0, 4), grid(0.05, -100, 100)),  # The output's unit is the least.
    (grid(0.01, -7, 8), grid(3.0, -2, 2), grid(2.0, -9, 9)),
]


def trained_code(kind, codes, grids):
    """By fractions: halves up."""
    one, other, output = grids
    left, right = (
        Fraction(each.scale) * (code - each.zero_point)
        for code, each in zip(codes, (one, other), strict=True)
    )
    real = {Add: left + right, Subtract: left - right, Multiply: left * right}[kind]
    step = math.floor(real / Fraction(output.scale) + Fraction(1, 2))
    return min(max(step, output.low), output.high) + output.zero_point


@pytest.mark.parametrize("grids", GRIDS)
@pytest.mark.parametrize("kind", [Add, Subtract, Multiply])
def test_pairs_are_held_against_fractions(monkeypatch, kind, grids):
    """Kernels that are wrong where the test says: by 2 in one pair, and by 3 in two others."""
    operator = kind(inputs=("a", "b"), output="output")
    graph = graph_of(operator, grids)
    pairs = list(
        itertools.product(
            *(
                range(each.low + each.zero_point, each.high + each.zero_point + 1)
                for each in grids[:2]
            )
        )
    )
    wanted = np.array([trained_code(kind, pair, grids) for pair in pairs])
    planted = {"xnnpack": {3: 2}, "optimized": {3: -2}, "reference": {3: 1, 0: -3, 5: 3}}
    planted["tflm"] = planted["reference"]
    planted["xnnpack_arm"] = {4: -1}
    asked = []

    def rule(given, left, right, triple, kernel_set):
        assert given is operator and triple == grids
        assert left.dtype == right.dtype == np.int8
        assert left.size == right.size == 16 * math.ceil(len(pairs) / 16)  # Whole vectors.
        found = list(zip(left.tolist(), right.tolist(), strict=True))
        assert found == [pairs[index % len(pairs)] for index in range(left.size)]
        asked.append(kernel_set)
        codes = np.resize(wanted, left.size)
        for index, error in planted[kernel_set].items():
            codes[index] += error
        codes[len(pairs) :] += 7  # What is left over does not count.
        return codes

    monkeypatch.setitem(enumeration.PAIRS, kind, (rule, enumeration.PAIRS[kind][1]))
    trained = dict(zip(("a", "b", "output"), grids, strict=True))
    row = enumeration.prove_pairs(graph, operator, trained, COMMON)
    # What the optimized kernel does not do wrong, the reference at the end of a tensor may.
    # XNNPACK has two products, of which the default is either.
    by_default = ["xnnpack", "xnnpack_arm"] if kind is Multiply else ["xnnpack"]
    assert row.different == dict.fromkeys(TARGETS, 3) | {"xnnpack": len(by_default)}
    assert row.worst == dict.fromkeys(TARGETS, 3) | {"xnnpack": 2}
    assert asked == [*by_default, *["optimized", "reference"] * 2, *["reference"] * 2, "tflm"]
    assert type(row.worst["reference"]) is type(row.different["reference"]) is int
    assert row.cases == len(pairs)
    assert dataclasses.replace(row, cases=0, different={}, worst={}) == COMMON


def test_a_product_that_arm_alone_rounds_otherwise_counts():
    """Half a step less 2^-47 is a tie in float32: to even, which is below, on x86; up on ARM."""
    grids = grid(1 + 2.0**-23, 0, 1), grid(1 - 2.0**-23, 0, 4), grid(8, 0, 1)
    operator = Multiply(inputs=("a", "b"), output="output")
    trained = dict(zip(("a", "b", "output"), grids, strict=True))
    row = enumeration.prove_pairs(graph_of(operator, grids), operator, trained, COMMON)
    assert (row.cases, row.different["xnnpack"], row.worst["xnnpack"]) == (10, 1, 1)


def test_sums_are_exact_to_the_last_bit(monkeypatch):
    """1 - 2^-60 in steps of 2 rounds down, which float64 does not tell from 1."""
    grids = grid(1, 0, 3), grid(2.0**-60, -2, 2), grid(2, 0, 2)
    operator = Add(inputs=("a", "b"), output="output")

    def rule(given, left, right, triple, kernel_set):
        pairs = zip(left.tolist(), right.tolist(), strict=True)
        return np.array([trained_code(Add, pair, grids) for pair in pairs])

    assert trained_code(Add, (125, 124), grids) == 125  # Zero points 124, 125 and 125.
    monkeypatch.setitem(enumeration.PAIRS, Add, (rule, enumeration.PAIRS[Add][1]))
    trained = dict(zip(("a", "b", "output"), grids, strict=True))
    row = enumeration.prove_pairs(graph_of(operator, grids), operator, trained, COMMON)
    assert row.different == dict.fromkeys(TARGETS, 0)


def test_trained_grids_decide_what_is_right():
    """Codes 0 to 4 in 0.5, trained as 0.25: half of what the kernels compute, halves up."""
    same = grid(0.5, 0, 4)
    operator = Add(inputs=("a", "b"), output="output")
    graph = graph_of(operator, (same, same, grid(0.5, 0, 8)))
    finer = grid(0.25, 0, 4)
    trained = {"a": finer, "b": finer, "output": grid(0.5, 0, 8)}
    row = enumeration.prove_pairs(graph, operator, trained, COMMON)
    # Sums s and (s + 1) // 2 differ from 2 on: all pairs but three; at most 8 and 4.
    assert row.different == dict.fromkeys(TARGETS, 25 - 3)
    assert row.worst == dict.fromkeys(TARGETS, 4)


def test_the_output_is_clipped_as_trained():
    """Sums of codes 0 to 4, trained to be 2 at least."""
    same = grid(0.5, 0, 4)
    operator = Add(inputs=("a", "b"), output="output")
    graph = graph_of(operator, (same, same, grid(0.5, 0, 8)))
    trained = {"a": same, "b": same, "output": grid(0.5, 2, 8)}
    row = enumeration.prove_pairs(graph, operator, trained, COMMON)
    assert row.different == dict.fromkeys(TARGETS, 3)  # 0 + 0, 0 + 1 and 1 + 0.
    assert row.worst == dict.fromkeys(TARGETS, 2)


def test_every_pair_of_codes():
    """The zero points are 127 - 2 and 127 - 126."""
    left, right = enumeration.every_pair(grid(1, 0, 2), grid(1, -1, 0))
    assert left.dtype == right.dtype == np.int8
    assert left.tolist() == [125, 125, 126, 126, 127, 127]
    assert right.tolist() == [126, 127] * 3
    left, right = enumeration.every_pair(grid(1, -129, 126), grid(1, -128, 127))
    assert left.size == 65536
    assert (left.min(), left.max(), right.min(), right.max()) == (-128, 127, -128, 127)


def pool(**fields):
    known = {"kind": "average", "window": (2, 3), "strides": (1, 2), "padding": "SAME"}
    return Pool2D(inputs=("image",), output="output", **known | fields)


SHAPES = [(1, 3, 4, 2), (1, 3, 2, 2)]


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        # Columns 0-2 and 2-3 of 4, rows 0-1, 1-2 and 2 of 3.
        ({}, (2, 3, 4, 6)),
        ({"padding": "VALID"}, (6,)),
        ({"window": (1, 1)}, (1,)),
        ({"window": (3, 4), "padding": "VALID"}, (12,)),
    ],
)
def test_averages_are_of_every_sum_of_every_window(monkeypatch, fields, counts):
    """Int8 codes 107 to 127; wrong by 1 at the first sum, by 5 at the last two."""
    image = grid(0.5, -13, 7)
    seen = []

    def planted(total, count):
        seen.append((int(count), int(total[0]), int(total[-1]), total.size))
        magnitude = [math.floor(Fraction(abs(int(t)), int(count)) + Fraction(1, 2)) for t in total]
        codes = np.sign(total) * np.array(magnitude)
        codes[0] -= 1
        codes[-2:] += 5
        return codes

    monkeypatch.setattr(requantization, "average_codes", planted)
    operator = pool(**fields)
    graph = graph_of(operator, (image, image), SHAPES)
    row = enumeration.prove_average(graph, operator, {}, COMMON)
    assert seen == [(n, 107 * n, 127 * n, 20 * n + 1) for n in counts]
    assert row.cases == sum(20 * n + 1 for n in counts)
    assert row.different == dict.fromkeys(TARGETS, 3 * len(counts))
    assert row.worst == dict.fromkeys(TARGETS, 5)
    assert dataclasses.replace(row, cases=0, different={}, worst={}) == COMMON


@pytest.mark.parametrize("zero_point", [-3, 0, 2])
def test_averages_of_either_sign_are_exact(zero_point):
    image = grid(0.5, -4 - zero_point, 127 - zero_point)
    operator = pool()
    row = enumeration.prove_average(
        graph_of(operator, (image, image), SHAPES), operator, {}, COMMON
    )
    assert row.different == row.worst == dict.fromkeys(TARGETS, 0)


@pytest.mark.parametrize("output", [grid(0.5, 0, 8), grid(0.25, 0, 7)])
def test_averages_and_upsampling_need_one_grid(output):
    image = grid(0.5, 0, 7)
    upsampling = ResizeBilinear(inputs=("image",), output="output")
    for operator, prove, shapes in (
        (pool(), enumeration.prove_average, SHAPES),
        (upsampling, enumeration.prove_bilinear, [(1, 3, 3, 1), (1, 6, 12, 1)]),
    ):
        row = prove(graph_of(operator, (image, output), shapes), operator, {}, COMMON)
        assert row.problems == ("Known before.", "Input and output are on different grids.")
        row = prove(graph_of(operator, (image, image), shapes), operator, {}, COMMON)
        assert row.problems == ("Known before.",)


@pytest.mark.parametrize(("size", "divisor"), [((6, 12), 32), ((3, 6), 8), ((3, 3), 4)])
def test_upsampling_is_of_every_value_between_codes(monkeypatch, size, divisor):
    """Factors 2 and 4 need eighths of 4: 4 * 2 * 4. Kernels wrong by 3 at some values."""
    image = grid(0.5, -13, 7)  # Int8 codes 107 to 127.
    planted = {"xnnpack": [0], "optimized": [], "reference": [1, 4, 5]}
    seen = {}

    def codes(total, given, target):
        seen[target] = (int(total[0]), int(total[-1]), total.size, given)
        found = np.array([math.floor(Fraction(int(t), divisor) + Fraction(1, 2)) for t in total])
        found[planted.get(target, [])] -= 3
        return found

    monkeypatch.setattr(requantization, "bilinear_codes", codes)
    operator = ResizeBilinear(inputs=("image",), output="output")
    graph = graph_of(operator, (image, image), [(1, 3, 3, 1), (1, *size, 1)])
    row = enumeration.prove_bilinear(graph, operator, {}, COMMON)
    cases = 20 * divisor + 1
    assert seen == dict.fromkeys(TARGETS, (107 * divisor, 127 * divisor, cases, divisor))
    assert row.cases == cases
    assert row.different == dict.fromkeys(TARGETS, 0) | {"xnnpack": 1, "reference": 3}
    assert row.worst == dict.fromkeys(TARGETS, 0) | {"xnnpack": 3, "reference": 3}
    assert dataclasses.replace(row, cases=0, different={}, worst={}) == COMMON
