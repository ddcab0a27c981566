"""The quantizers in `keras.ops`: values of the NumPy twins, gradients of the TensorFlow forms.

With ``KERAS_BACKEND=torch`` the same tests hold the eager functions of PyTorch; JAX: `test_jax`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from equality import assert_same

from wrpn_tf.arithmetic import numpy_twins, portable, quantizers, related_work, scales

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(size=(37, 3, 2, 11)).astype(np.float32)
SCALES = np.abs(RANDOM.normal(size=(1, 1, 1, 11))).astype(np.float32) / 5
AXES = (0, 1, 2)
CLIP = np.float32(1.37)

# By name: portable form, its arguments, the twin's values, and the TensorFlow form.
FORMS = {
    **{
        f"{function.__name__}, {name}": (
            lambda x, scale, function=function, limits=limits: function(x, scale, *limits),
            (KERNEL, scale),
            numpy_twins.fake_quantize_np(KERNEL, scale, *limits[:2]),
            lambda x, scale, limits=limits: quantizers.fake_quantize(x, scale, *limits),
        )
        for function in (portable.fake_quantize, portable.fake_quantize_by_ops)
        for name, scale, limits in (
            ("a scale each", SCALES, (-7, 7, 0.25)),
            ("one scale", np.float32(0.1), (0, 15)),
        )
    },
    "int8": (
        lambda x: portable.fake_quantize_to_int8(x, np.float32(0.02), np.float32(-10)),
        (KERNEL,),
        numpy_twins.fake_quantize_np(KERNEL, np.float32(0.02), -118, 137),
        lambda x: quantizers.fake_quantize_to_int8(x, np.float32(0.02), np.float32(-10)),
    ),
    "binarize": (
        lambda x: portable.binarize(x, portable.mean_magnitude(x, AXES)),
        (KERNEL,),
        numpy_twins.binarize_np(KERNEL, numpy_twins.mean_magnitude_np(KERNEL, AXES)),
        lambda x: quantizers.binarize(x, quantizers.mean_magnitude(x, AXES)),
    ),
    "xnor": (
        lambda x: portable.xnor_weights(x, AXES),
        (KERNEL,),
        numpy_twins.binarize_np(KERNEL, numpy_twins.mean_magnitude_np(KERNEL, AXES)),
        lambda x: related_work.xnor_weights(x, AXES),
    ),
    "dynamic": (
        lambda x: portable.fake_quantize(x, portable.dynamic_scale(x, 7, AXES), -7, 7),
        (KERNEL,),
        numpy_twins.fake_quantize_np(KERNEL, scales.dynamic_scale_np(KERNEL, 7, AXES), -7, 7),
        lambda x: quantizers.fake_quantize(x, related_work.dynamic_scale(x, 7, AXES), -7, 7),
    ),
    "pact": (
        lambda x, clip: portable.pact(x, clip, 15),
        (KERNEL, CLIP),
        numpy_twins.pact_np(KERNEL, CLIP, 15),
        lambda x, clip: related_work.pact(x, clip, 15),
    ),
    "straight_through": (
        lambda x: portable.straight_through(x, keras.ops.floor(x)),
        (KERNEL,),
        np.floor(KERNEL),
        lambda x: quantizers.straight_through(x, tf.floor(x)),
    ),
    **{
        f"dorefa, {bits} bits": (
            lambda x, bits=bits: portable.dorefa_weights(x, bits),
            (KERNEL,),
            numpy_twins.dorefa_codes_np(KERNEL, bits).astype(np.float32)
            * np.float32(1 / (2**bits - 1)),
            lambda x, bits=bits: related_work.dorefa_weights(x, bits),
        )
        for bits in (2, 3, 7)
    },
}


def modes(function):
    """As it is called eagerly, and as TensorFlow's two compilers see it."""
    if keras.backend.backend() != "tensorflow":
        return (function,)
    return function, tf.function(function), tf.function(function, jit_compile=True)


@pytest.mark.parametrize("name", FORMS)
def test_values_are_the_twins_however_they_are_compiled(name):
    portable_form, arguments, expected, _ = FORMS[name]
    for function in modes(portable_form):
        value = function(*map(keras.ops.convert_to_tensor, arguments))
        assert_same(keras.ops.convert_to_numpy(value), expected)


def tensorflow_gradients(function, arguments, upstream):
    variables = [tf.Variable(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        value = function(*map(tf.convert_to_tensor, variables))
    return tape.gradient(value, variables, tf.constant(upstream))


def torch_gradients(function, arguments, upstream):
    tensors = [keras.ops.convert_to_tensor(argument).requires_grad_() for argument in arguments]
    function(*tensors).backward(keras.ops.convert_to_tensor(upstream))
    return [tensor.grad.numpy() for tensor in tensors]


@pytest.mark.parametrize("name", FORMS)
def test_gradients_are_those_of_the_tensorflow_forms(name):
    portable_form, arguments, expected, tensorflow_form = FORMS[name]
    upstream = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    on_torch = keras.backend.backend() == "torch"
    gradients = torch_gradients if on_torch else tensorflow_gradients
    found = gradients(portable_form, arguments, upstream)
    other = tensorflow_gradients(tensorflow_form, arguments, upstream)
    for one, two in zip(found, other, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


RANGES = [*np.abs(RANDOM.normal(size=(50, 2))), (1, 1), (0.3, 0.3), (0, 1), (2, 0), (0, 0)]


@pytest.mark.parametrize(
    ("form", "twin", "ranges"),
    [
        (portable.affine_grid, numpy_twins.affine_grid_np, RANGES),
        (portable.pixel_grid, numpy_twins.pixel_grid_np, RANGES[:-1]),
    ],
)
def test_grids_are_the_twins_however_they_are_compiled(form, twin, ranges):
    for function in modes(form):
        for low, high in np.asarray(ranges, np.float32):
            bounds = map(keras.ops.convert_to_tensor, (-low, high))
            scale, zero_point = map(keras.ops.convert_to_numpy, function(*bounds))
            assert (scale, zero_point) == twin(-low, high)[:2]
