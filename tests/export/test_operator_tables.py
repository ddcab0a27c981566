"""The tables from an operator's class to what is done with it: who is in them, and who is not."""

import numpy as np
import pytest

from export.c99 import generator
from export.executor import accumulators, execution
from export.flatbuffer import opcodes
from export.ir.operators import (
    OPERATORS,
    Add,
    Conv2D,
    DepthToSpace,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Logistic,
    Multiply,
    Pad,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Softmax,
    Subtract,
    Transpose,
    TransposeConv2D,
    Weighted,
)
from export.kernel_sets import narrow_weights, rules
from export.proof import enumeration, prover

KERNELS = {Conv2D, GroupedConv2D, DepthwiseConv2D, TransposeConv2D, FullyConnected}
# By table, the classes that have no entry, and why.
WITHOUT = {
    "execution": (execution.FUNCTIONS, set()),
    "TFLite": (opcodes.FORMS, set()),
    "XNNPACK": (rules.TAKEN_BY_XNNPACK, set()),
    "proof": (prover.RULES, {Logistic, Softmax}),  # Every kernel approximates them, in its own way.
    "C": (generator.CALLS, set()),
    # Only what has a kernel has an accumulator, a rounding of it, and a storage.
    "accumulators": (accumulators.ACCUMULATORS, set(OPERATORS.values()) - KERNELS),
    "rounding": (rules.ROUNDING, set(OPERATORS.values()) - KERNELS),
    "weight dtypes": (narrow_weights.DTYPE_BITS, set(OPERATORS.values()) - KERNELS),
}


@pytest.mark.parametrize("table", WITHOUT)
def test_every_class_has_an_entry_or_is_known_to_have_none(table):
    entries, without = WITHOUT[table]
    assert set(OPERATORS.values()) - set(entries) == without
    assert set(entries) <= set(OPERATORS.values())


def test_classes_that_are_special():
    assert {c for c in OPERATORS.values() if issubclass(c, Weighted)} == KERNELS
    assert execution.WHOLE == {Add, Subtract, Multiply}  # Round by position in the tensor.
    assert set(enumeration.PAIRS) == {Add, Subtract, Multiply}  # Proven pair by pair.
    assert rules.XNNPACK_ARM == {Multiply}  # Rounds otherwise on ARM.
    assert rules.ONE_SCALE == {FullyConnected}  # Has one scale where all are equal.
    assert narrow_weights.DELEGATED == {FullyConnected}  # XNNPACK takes it with INT4 and INT2.


def test_constants_and_runtime_versions():
    forms = opcodes.FORMS.items()
    assert {c for c, form in forms if form.constants is not opcodes.no_constants} == {
        *(TransposeConv2D, Pad, Slice, Transpose, ResizeNearest, ResizeBilinear, Reshape)
    }
    newer = {
        **{GroupedConv2D: (2, 9, 0), TransposeConv2D: (2, 3, 0)},
        **{ResizeBilinear: (2, 2, 0), DepthToSpace: (2, 1, 0)},
    }
    assert {c: f.runtime_version for c, f in forms if f.runtime_version != (1, 14, 0)} == newer


@pytest.mark.parametrize(
    ("operator", "bits"),
    [
        (Conv2D, (8, 4)),
        (GroupedConv2D, (8,)),
        (DepthwiseConv2D, (8, 4)),
        (TransposeConv2D, (8,)),
        (FullyConnected, (8, 4, 2)),
    ],
)
def test_storage_that_runs(operator, bits):
    ones = np.ones((3, 3), np.int8)
    assert narrow_weights.DTYPE_BITS[operator] == bits
    assert narrow_weights.narrowest("int2", operator, ones) == min(bits)
    assert narrow_weights.narrowest("int4", operator, ones) == max(4, min(bits))
    assert narrow_weights.narrowest("int8", operator, ones) == 8
    assert narrow_weights.narrowest("int2", operator, 7 * ones) == max(4, min(bits))
    assert narrow_weights.narrowest("int2", operator, 8 * ones) == 8


@pytest.mark.parametrize(
    ("operator", "targets"),
    [
        (Conv2D, "float_even double_up single_up double_away"),
        (GroupedConv2D, "float_even double_away double_away double_away"),
        (DepthwiseConv2D, "float_even double_mixed double_mixed double_away"),
        (TransposeConv2D, "float_even double_mixed double_mixed double_away"),
        (FullyConnected, "float_even double_up single_up real_away"),
    ],
)
def test_rounding_by_target(operator, targets):
    older = ["double_away", "double_away"]  # 2.14 and TFLM, for all.
    wanted = dict(zip(rules.TARGETS, [*targets.split(), *older], strict=True))
    assert rules.rounding_rules(operator, False) == wanted
    if operator in (Conv2D, FullyConnected):
        wanted["optimized_arm"] = "double_up"
    assert rules.rounding_rules(operator, True) == wanted
