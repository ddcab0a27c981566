"""What each operator means: how many tensors it reads, its shape, and each of its limits."""

import dataclasses

import numpy as np
import pytest

from export.ir.operators import (
    OPERATORS,
    Add,
    Concatenate,
    Conv2D,
    DepthToSpace,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Logistic,
    Maximum,
    Minimum,
    Multiply,
    Pad,
    Pool2D,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    ScaleConstraint,
    Slice,
    Softmax,
    SpaceToDepth,
    Subtract,
    Transpose,
    TransposeConv2D,
)
from export.ir.provenance import TRAINED
from export.ir.tensors import Tensor
from wrpn_tf import QuantizationParameters

IMAGE = (1, 6, 5, 4)
PLAIN = QuantizationParameters.int8(scale=0.5, zero_point=3)
PROBABILITIES = QuantizationParameters.int8(scale=1 / 256, zero_point=-128)


def kernel(cls, *shape, **changes):
    """A sound operator of a class with a kernel of ones of a shape."""
    channels = shape[cls.channel_axis]
    fields = {
        "kernel": np.ones(shape, np.int8),
        "kernel_scale": np.full(channels, 0.01, np.float32),
        "bias": np.zeros(channels, np.int32),
    }
    return cls(inputs=("x",), output="y", **fields | changes)


def make(cls, **attributes):
    """An operator of a class without a kernel, over as many tensors as it reads."""
    return cls(inputs=tuple("abcd"[: cls.arity or 3]), output="y", **attributes)


def check(operator, shapes, output, *, source=PLAIN, target=PLAIN):
    """Checks an operator between tensors of these shapes; `source` may be one for each."""
    sources = source if isinstance(source, tuple) else (source,) * len(shapes)
    inputs = [
        Tensor(shape=shape, quantization=each) for shape, each in zip(shapes, sources, strict=True)
    ]
    operator.check(inputs, Tensor(shape=output, quantization=target))


# By name: an operator, the shapes that it reads, and the shape that it gives.
SOUND = {
    "valid": (kernel(Conv2D, 2, 3, 2, 4), [IMAGE], (1, 4, 4, 2)),
    "same": (kernel(Conv2D, 2, 3, 2, 4, padding="SAME", strides=(2, 1)), [IMAGE], (1, 3, 5, 2)),
    "dilated": (kernel(Conv2D, 2, 3, 2, 4, dilation=(2, 4)), [IMAGE], (1, 2, 1, 2)),
    "grouped": (kernel(GroupedConv2D, 6, 1, 1, 2), [IMAGE], (1, 6, 5, 6)),
    "depthwise": (kernel(DepthwiseConv2D, 1, 3, 3, 8), [IMAGE], (1, 4, 3, 8)),
    "transposed": (
        kernel(TransposeConv2D, 3, 3, 1, 4, strides=(2, 3)),
        [IMAGE],
        (1, 13, 15, 3),
    ),
    "transposed same": (
        kernel(TransposeConv2D, 3, 3, 1, 4, strides=(2, 3), padding="SAME"),
        [IMAGE],
        (1, 12, 15, 3),
    ),
    "dense": (kernel(FullyConnected, 3, 7), [(1, 7)], (1, 3)),
    "dense over images": (kernel(FullyConnected, 3, 4), [IMAGE], (1, 6, 5, 3)),
    "add": (make(Add), [IMAGE] * 2, IMAGE),
    "subtract": (make(Subtract, relu=True), [IMAGE] * 2, IMAGE),
    "maximum": (make(Maximum), [(1, 9)] * 2, (1, 9)),
    "minimum": (make(Minimum), [(1, 9)] * 2, (1, 9)),
    "multiply": (make(Multiply), [(1, 9)] * 2, (1, 9)),
    "gate": (make(Multiply), [IMAGE, (1, 1, 1, 4)], IMAGE),
    "gate of pixels": (make(Multiply), [IMAGE, (1, 6, 5, 1)], IMAGE),
    "gate of features": (make(Multiply), [(1, 9), (1, 1)], (1, 9)),
    "max": (
        make(Pool2D, kind="max", window=(3, 2), strides=(2, 1)),
        [IMAGE],
        (1, 2, 4, 4),
    ),
    "average": (
        make(Pool2D, kind="average", window=(3, 2), strides=(2, 1), padding="SAME"),
        [IMAGE],
        (1, 3, 5, 4),
    ),
    "concatenate": (
        make(Concatenate, axis=2),
        [IMAGE, (1, 6, 1, 4), (1, 6, 2, 4)],
        (1, 6, 8, 4),
    ),
    "pad": (make(Pad, padding=((0, 1), (2, 3))), [IMAGE], (1, 7, 10, 4)),
    "slice": (make(Slice, begin=(1, 0, 2)), [IMAGE], (1, 5, 5, 2)),
    "strides": (make(Slice, begin=(1, 4, 3), strides=(2, -4, -1)), [IMAGE], (1, 3, 2, 4)),
    "transpose": (make(Transpose, axes=(0, 3, 1, 2)), [IMAGE], (1, 4, 6, 5)),
    "transpose of 6 axes": (
        make(Transpose, axes=(0, 5, 4, 3, 2, 1)),
        [(1, 2, 3, 4, 5, 6)],
        (1, 6, 5, 4, 3, 2),
    ),
    "depth to space": (make(DepthToSpace, block_size=2), [IMAGE], (1, 12, 10, 1)),
    "space to depth": (make(SpaceToDepth, block_size=3), [(1, 6, 9, 2)], (1, 2, 3, 18)),
    "nearest": (make(ResizeNearest), [IMAGE], (1, 18, 5, 4)),
    "bilinear": (make(ResizeBilinear), [IMAGE], (1, 384, 10, 4)),
    "reshape": (make(Reshape), [IMAGE], (1, 120)),
    "logistic": (make(Logistic), [IMAGE], IMAGE),
    "softmax": (make(Softmax), [(1, 9)], (1, 9)),
}
FIXED = ("logistic", "softmax")


def target_of(name):
    return PROBABILITIES if name in FIXED else PLAIN


def test_every_class_has_a_sound_example():
    assert {type(operator) for operator, *_ in SOUND.values()} == set(OPERATORS.values())


@pytest.mark.parametrize("name", SOUND)
def test_the_shape_is_given_and_no_other_taken(name):
    operator, shapes, output = SOUND[name]
    assert operator.output_shape(shapes, output) == output
    check(operator, shapes, output, target=target_of(name))
    for axis in range(1, len(output)):
        # A slice may be shorter, and what resizes may give whole multiples: one more is neither.
        other = (*output[:axis], output[axis] + 1, *output[axis + 1 :])
        with pytest.raises(ValueError, match=r"shape|reshape|outside|enlarged"):
            check(operator, shapes, other, target=target_of(name))


@pytest.mark.parametrize("name", SOUND)
def test_the_number_of_inputs_is_fixed(name):
    operator, shapes, output = SOUND[name]
    wrong = [[]] if name == "concatenate" else [[], [shapes[0]] * (len(shapes) + 1)]
    wanted = "at least 1" if name == "concatenate" else str(len(shapes))
    for other in wrong:
        with pytest.raises(ValueError, match=f"has {len(other)} inputs, not {wanted}"):
            check(operator, other, output, target=target_of(name))


IMAGES = (Conv2D, GroupedConv2D, DepthwiseConv2D, TransposeConv2D)
IMAGES += (Pool2D, Pad, DepthToSpace, SpaceToDepth, ResizeNearest, ResizeBilinear)


@pytest.mark.parametrize("name", SOUND)
def test_some_take_images_only(name):
    operator, _, output = SOUND[name]
    assert operator.takes_images == isinstance(operator, IMAGES)
    if operator.takes_images:
        with pytest.raises(ValueError, match=r"input '\w' has shape \(1, 4\), not 4 dimensions"):
            check(operator, [(1, 4)], output)


SCALE_CONSTRAINTS = {
    ScaleConstraint.NONE: {
        *(Conv2D, GroupedConv2D, DepthwiseConv2D, TransposeConv2D, FullyConnected),
        *(Add, Subtract, Multiply),
    },
    ScaleConstraint.SAME_AS_INPUT: {
        *(Pool2D, Pad, Slice, ResizeNearest, ResizeBilinear, Reshape),
        *(Transpose, DepthToSpace, SpaceToDepth),
    },
    ScaleConstraint.ALL_EQUAL: {Maximum, Minimum, Concatenate},
    ScaleConstraint.FIXED_OUTPUT: {Logistic, Softmax},
}


def test_every_class_says_which_scales_are_shared():
    for constraint, classes in SCALE_CONSTRAINTS.items():
        assert {c for c in OPERATORS.values() if c.scale_constraint is constraint} == classes


@pytest.mark.parametrize("name", SOUND)
def test_scales_that_are_shared_must_be_equal(name):
    operator, shapes, output = SOUND[name]
    target = target_of(name)
    shared = operator.scale_constraint
    others = (
        dataclasses.replace(PLAIN, scale=0.75),
        dataclasses.replace(PLAIN, low=PLAIN.low + 1, high=PLAIN.high + 1),
    )
    assert [(other.scale, other.zero_point) for other in others] == [(0.75, 3), (0.5, 2)]
    fewer_bits = dataclasses.replace(PLAIN, low=PLAIN.high - 15, bits=4)
    check(operator, shapes, output, source=fewer_bits, target=target)
    for other in others:
        for index in range(len(shapes)):
            source = tuple(other if at == index else PLAIN for at in range(len(shapes)))
            if shared in (ScaleConstraint.SAME_AS_INPUT, ScaleConstraint.ALL_EQUAL):
                with pytest.raises(ValueError, match=f"input '{operator.inputs[index]}' has scale"):
                    check(operator, shapes, output, source=source, target=target)
            else:
                check(operator, shapes, output, source=source, target=target)
        if shared is ScaleConstraint.FIXED_OUTPUT:
            with pytest.raises(ValueError, match=r"not scale 0\.00390625 and zero point -128"):
                check(operator, shapes, output, target=other)


REFUSED = {
    "another depth": (kernel(Conv2D, 2, 1, 1, 3), [IMAGE], "does not fit 4 channels"),
    "groups": (kernel(Conv2D, 2, 1, 1, 2), [IMAGE], "does not fit 4 channels"),
    "one group": (kernel(GroupedConv2D, 4, 1, 1, 4), [IMAGE], "does not fit 4 channels"),
    "a rest": (kernel(GroupedConv2D, 4, 1, 1, 3), [(1, 6, 5, 7)], "does not fit 7 channels"),
    "outputs of groups": (kernel(GroupedConv2D, 3, 1, 1, 2), [IMAGE], "does not fit 4 channels"),
    "depth multiplier": (kernel(DepthwiseConv2D, 1, 1, 1, 6), [IMAGE], "does not fit 4 channels"),
    "first axis": (kernel(DepthwiseConv2D, 2, 1, 1, 4), [IMAGE], "does not fit 4 channels"),
    "transposed depth": (kernel(TransposeConv2D, 4, 1, 1, 3), [IMAGE], "does not fit 4 channels"),
    "dense depth": (kernel(FullyConnected, 2, 3), [IMAGE], "does not fit the input"),
    "window": (kernel(Conv2D, 2, 7, 1, 4), [IMAGE], "does not fit the input"),
    "dilated window": (kernel(Conv2D, 2, 1, 3, 4, dilation=(1, 3)), [IMAGE], "does not fit the"),
    "stride": (kernel(Conv2D, 2, 1, 1, 4, strides=(1, 0)), [IMAGE], "at least 1"),
    "dilation": (kernel(Conv2D, 2, 1, 1, 4, dilation=(0, 1)), [IMAGE], "at least 1"),
    "padding": (kernel(Conv2D, 2, 1, 1, 4, padding="FULL"), [IMAGE], "'FULL'"),
    "transposed stride": (
        kernel(TransposeConv2D, 2, 1, 1, 4, strides=(0, 1)),
        [IMAGE],
        "at least 1",
    ),
    "transposed padding": (kernel(TransposeConv2D, 2, 1, 1, 4, padding="FULL"), [IMAGE], "'FULL'"),
    "shapes of a sum": (make(Add), [IMAGE, (1, 1, 1, 4)], "differ"),
    "shapes of a maximum": (make(Maximum), [IMAGE, (1, 1, 1, 4)], "differ"),
    "gate of other channels": (make(Multiply), [IMAGE, (1, 1, 1, 2)], "differ"),
    "gate first": (make(Multiply), [(1, 1, 1, 4), IMAGE], "differ"),
    "gate of two axes": (make(Multiply), [(1, 4), (1, 1, 1, 4)], "differ"),
    "kind": (make(Pool2D, kind="sum", window=(1, 1), strides=(1, 1)), [IMAGE], "'sum'"),
    "pool": (make(Pool2D, kind="max", window=(7, 1), strides=(1, 1)), [IMAGE], "does not fit"),
    "pool window": (make(Pool2D, kind="max", window=(0, 1), strides=(1, 1)), [IMAGE], "at least 1"),
    "axis of the batch": (make(Concatenate, axis=0), [IMAGE], r"axis 0 is outside \[1, 3\]"),
    "axis": (make(Concatenate, axis=4), [IMAGE], r"axis 4 is outside \[1, 3\]"),
    "other axes": (make(Concatenate, axis=3), [IMAGE, (1, 5, 5, 4)], "do not concatenate"),
    "ranks": (make(Concatenate, axis=1), [(1, 4), (1, 4, 4)], "do not concatenate"),
    "negative padding": (make(Pad, padding=((0, 0), (-1, 0))), [IMAGE], "negative"),
    "negative begin": (make(Slice, begin=(0, -1, 0)), [IMAGE], "outside"),
    "slice": (make(Slice, begin=(6, 0, 0)), [IMAGE], "outside"),
    "begin of two axes": (make(Slice, begin=(0, 0)), [IMAGE], "does not give"),
    "stride 0": (make(Slice, begin=(0, 0, 0), strides=(1, 0, 1)), [IMAGE], "not 0"),
    "two strides": (make(Slice, begin=(0, 0, 0), strides=(1, 1)), [IMAGE], "as many as"),
    "the batch moved": (make(Transpose, axes=(1, 0, 2, 3)), [IMAGE], "the batch first"),
    "an axis twice": (make(Transpose, axes=(0, 1, 1, 3)), [IMAGE], "no order"),
    "seven axes": (make(Transpose, axes=tuple(range(7))), [(1,) * 7], "more than 6 axes"),
    "a product of seven axes": (make(Multiply), [(1,) * 7] * 2, "more than 6 axes"),
    "parts of seven axes": (make(Concatenate, axis=1), [(1,) * 7] * 2, "more than 6 axes"),
    "blocks of channels": (make(DepthToSpace, block_size=3), [IMAGE], "4 channels are not"),
    "blocks of 1": (make(DepthToSpace, block_size=1), [IMAGE], "blocks of 1"),
    "rows of blocks": (make(SpaceToDepth, block_size=2), [(1, 3, 2, 1)], "is not made of"),
    "columns of blocks": (make(SpaceToDepth, block_size=2), [(1, 2, 3, 1)], "is not made of"),
    "a gate of two channels": (make(Multiply), [IMAGE, (1, 6, 5, 2)], "differ"),
    "a gate that is larger": (make(Multiply), [(1, 6, 5, 1), IMAGE], "differ"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_shapes_and_attributes_that_do_not_fit_are_refused(name):
    operator, shapes, message = REFUSED[name]
    source = (PLAIN,) * len(shapes)
    operator = dataclasses.replace(operator, inputs=tuple("abcd"[: len(shapes)]))
    with pytest.raises(ValueError, match=message):
        check(operator, shapes, IMAGE, source=source)


@pytest.mark.parametrize(
    ("operator", "output", "message"),
    [
        (make(ResizeNearest), (1, 9, 5, 4), "whole factors"),
        (make(ResizeNearest), (1, 6, 5, 8), "whole factors"),
        (make(ResizeNearest), (1, 6, 20), "whole factors"),
        (make(ResizeBilinear), (1, 18, 5, 4), "only powers of 2 up to 64"),
        (make(ResizeBilinear), (1, 6, 5 * 128, 4), "only powers of 2 up to 64"),
        (make(ResizeNearest), (1, 6 * 2**20, 5, 4), "6 rows times 1048576"),
        (make(Reshape), (1, 119), "does not reshape"),
        (make(Slice, begin=(0, 0, 1)), (1, 6, 5, 4), "outside"),
        (make(Slice, begin=(0, 0, 0)), (1, 6, 5), "does not give"),
        (make(Slice, begin=(0, 0, 0), strides=(2, 1, 1)), (1, 4, 5, 4), "outside"),
        (make(Slice, begin=(5, 0, 0), strides=(-2, 1, 1)), (1, 4, 5, 4), "outside"),
    ],
)
def test_declared_shapes_are_checked(operator, output, message):
    with pytest.raises(ValueError, match=message):
        check(operator, [IMAGE], output)


DENSE = {"shapes": [(1, 4)], "output": (1, 2)}


def dense(**changes):
    return kernel(FullyConnected, 2, 4, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": np.ones((2, 4), np.int32)}, "the kernel is int32"),
        ({"kernel": np.ones((2, 4, 1), np.int8)}, "not int8 with 2 dimensions"),
        ({"kernel": np.ones((2, 0), np.int8)}, "not int8 with 2 dimensions"),
        ({"kernel": np.full((2, 4), -128, np.int8)}, "holds -128"),
        ({"kernel_scale": np.ones(2)}, r"kernel_scale is float64 \(2,\), not float32 \(2,\)"),
        ({"kernel_scale": np.ones(3, np.float32)}, "kernel_scale is float32"),
        ({"kernel_scale": np.array([1, 0], np.float32)}, "not positive and finite"),
        ({"kernel_scale": np.array([1, np.inf], np.float32)}, "not positive and finite"),
        ({"bias": np.zeros(2, np.int64)}, r"the bias is int64 \(2,\), not int32 \(2,\)"),
        ({"bias": np.zeros(1, np.int32)}, "the bias is int32"),
        ({"dtype_bits": 3}, "storage of 3 bits"),
        ({"code_multiplier": 0}, "code multiplier 0 is below 1"),
        ({"trained": np.zeros(2)}, "what was trained is float64"),
        ({"trained": np.zeros(1, TRAINED)}, "what was trained is"),
    ],
)
def test_kernels_that_are_not_sound_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(dense(**changes), **DENSE)


def test_kernels_of_images_have_four_dimensions():
    operator = kernel(Conv2D, 2, 1, 1, 4, kernel=np.ones((2, 4), np.int8))
    with pytest.raises(ValueError, match="not int8 with 4 dimensions"):
        check(operator, [IMAGE], (1, 6, 5, 2))


def test_smallest_kernels_are_taken():
    check(dense(trained=np.zeros(2, TRAINED), code_multiplier=1), **DENSE)
    check(dense(kernel=np.full((2, 4), -127, np.int8)), **DENSE)


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (4, 7), (2, 1)])
def test_codes_fit_their_storage(bits, largest):
    for sign in (-1, 1):
        check(dense(kernel=np.full((2, 4), sign * largest, np.int8), dtype_bits=bits), **DENSE)
        if bits < 8:
            wrong = np.full((2, 4), sign * (largest + 1), np.int8)
            with pytest.raises(ValueError, match=f"does not fit its storage of {bits} bits"):
                check(dense(kernel=wrong, dtype_bits=bits), **DENSE)


def test_bilinear_rows_are_fewer_than_kernels_place_exactly():
    for axis in (1, 2):
        source, output = [1, 1, 1, 1], [1, 1, 1, 1]
        source[axis], output[axis] = 2**16 - 1, 2**22 - 64
        check(make(ResizeBilinear), [tuple(source)], tuple(output))
        source[axis], output[axis] = 2**16, 2**22
        with pytest.raises(ValueError, match="exact below 4194304 rows or columns"):
            check(make(ResizeBilinear), [tuple(source)], tuple(output))


def test_the_accumulator_fits_32_bits():
    # 4 codes of -1, times 255 steps, leave 2 ** 31 - 1 - 1020 to the bias.
    ones = np.full((2, 4), -1, np.int8)
    for sign in (-1, 1):
        bias = np.array([0, sign * 2147482627], np.int32)
        check(dense(kernel=ones, bias=bias), **DENSE)
        with pytest.raises(ValueError, match="channel 1 reaches 2147483648, beyond int32"):
            check(dense(kernel=ones, bias=bias + sign), **DENSE)


def test_int4_accumulators_times_16_fit_32_bits():
    ones = np.full((2, 4), -1, np.int8)
    for sign in (-1, 1):
        bias = np.array([0, sign * (2**27 - 1 - 1020)], np.int32)
        check(dense(kernel=ones, bias=bias, dtype_bits=4), **DENSE)
        with pytest.raises(ValueError, match="134217728, beyond the 134217727 of INT4 kernels"):
            check(dense(kernel=ones, bias=bias + sign, dtype_bits=4), **DENSE)
        for bits in (8, 2):
            check(dense(kernel=ones, bias=bias + sign, dtype_bits=bits), **DENSE)


@pytest.mark.parametrize("sign", [-1, 1])
def test_output_steps_fit_32_bits(sign):
    """Of 4 for an accumulator, which may be 2^29 - 2^8."""
    scale = np.array([0.5, 4], np.float32)
    bias = np.array([2**30, sign * (2**29 - 2**8 - 1020)], np.int32)
    check(dense(kernel_scale=scale, bias=bias), **DENSE, target=scaled(0.5))
    with pytest.raises(ValueError, match="channel 1 reaches 2147482628 output steps"):
        check(dense(kernel_scale=scale, bias=bias + sign), **DENSE, target=scaled(0.5))


def test_one_accumulator_step_is_less_than_256_output_steps():
    below = np.nextafter(np.float32(256), np.float32(0))
    check(dense(kernel_scale=np.array([1, below], np.float32)), **DENSE)
    with pytest.raises(ValueError, match="channel 1 is 256 output steps"):
        check(dense(kernel_scale=np.array([1, 256], np.float32)), **DENSE)
    check(dense(kernel_scale=np.full(2, 256, np.float32)), **DENSE, target=scaled(0.75))


def scaled(scale, zero_point=3):
    return QuantizationParameters.int8(scale=scale, zero_point=zero_point)


@pytest.mark.parametrize("operator", [Add, Subtract])
def test_sums_keep_16_bits(operator):
    # 2 * 255 steps of the inputs, and the output's zero point.
    two, output = {"shapes": [(1, 4)] * 2, "output": (1, 4)}, scaled(1.0, 7)
    source = (scaled(64.0, -128), scaled(64.0, 127))
    check(make(operator), **two, source=source, target=output)  # 7 + 255 * 128 = 32647
    check(make(operator), **two, source=source, target=scaled(1.0, 127))  # 32767
    with pytest.raises(ValueError, match="reaches 32768 output steps"):
        check(make(operator), **two, source=source, target=scaled(1.0, -128))
    # The farther end of each input counts: 131 steps with a zero point of 3.
    near = (scaled(64.0), scaled(186.0))
    check(make(operator), **two, source=near, target=scaled(1.0, 17))  # 131 * 250 + 17
    with pytest.raises(ValueError, match="reaches 32768 output steps"):
        check(make(operator), **two, source=near, target=scaled(1.0, 18))


def test_products_step_by_less_than_one_code():
    two = {"shapes": [(1, 4)] * 2, "output": (1, 4)}
    output = float(np.nextafter(np.float32(0.25), np.float32(1)))
    check(make(Multiply), **two, target=scaled(output))
    with pytest.raises(ValueError, match="one step of the product is 1 output steps"):
        check(make(Multiply), **two, target=scaled(0.25))


@pytest.mark.parametrize("cls", [Conv2D, GroupedConv2D, TransposeConv2D, DepthwiseConv2D])
def test_rows_are_the_codes_of_each_channel(cls):
    codes = np.arange(30, dtype=np.int8).reshape(5, 6)
    depth = 1 if cls is DepthwiseConv2D else 2
    window = (3, 2) if depth == 1 else (3, 1)
    found = cls.kernel_of(codes, window)
    assert found.shape == ((1, 3, 2, 5) if depth == 1 else (5, 3, 1, 2))
    assert np.array_equal(kernel(cls, *found.shape, kernel=found).rows, codes)


def test_rows_of_dense_layers_are_the_kernel():
    codes = np.arange(30, dtype=np.int8).reshape(5, 6)
    operator = dense(kernel=FullyConnected.kernel_of(codes, ()))
    assert np.array_equal(operator.kernel, codes)
    assert np.array_equal(operator.rows, codes)
    assert operator.row_length == 6


def test_groups_share_the_input_channels():
    assert kernel(GroupedConv2D, 6, 1, 1, 2).groups(4) == 2
    assert kernel(GroupedConv2D, 6, 1, 1, 2).groups(6) == 3


def test_signs_and_factors():
    assert (Add.sign, Subtract.sign) == (1, -1)
    assert make(ResizeNearest).factors(IMAGE, (1, 18, 10, 4)) == (3, 2)
