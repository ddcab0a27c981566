"""Mixed precision rounds what convolutions multiply, and nothing that a quantizer reads."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import wrpn_tf
from train.precision import use_mixed_precision
from wrpn_tf import models
from wrpn_tf.tfmot import output_quantizers, weight_quantizer

Call = tuple[str, Any, Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every quantizer's class, and what it was called with and gave."""
    found: list[Call] = []
    for kind in (weight_quantizer.WeightQuantizer, output_quantizers.ObservableQuantizer):

        def spy(
            self: Any, inputs: Any, *args: Any, _call: Any = kind.__call__, **options: Any
        ) -> Any:
            outputs = _call(self, inputs, *args, **options)
            found.append((type(self).__name__, inputs, outputs))
            return outputs

        monkeypatch.setattr(kind, "__call__", spy)
    return found


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    plain = models.build(
        "resnet8", num_classes=4, input_shape=(16, 16, 3), width=0.5, front="tf_keras"
    )
    return wrpn_tf.quantize_model(plain, weight_bits=2, activation_bits=4)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", tf.bfloat16), ("fp16", tf.float16)])
def test_quantizers_compute_as_in_float32(
    monkeypatch: pytest.MonkeyPatch, calls: list[Call], name: str, dtype: tf.DType
) -> None:
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    plain, mixed = network(), network()
    mixed.set_weights(plain.get_weights())
    operands = []
    for layer in mixed.layers:
        layer = getattr(layer, "layer", layer)
        if type(layer) is keras.layers.Conv2D:
            original = layer.convolution_op

            def spy(inputs: tf.Tensor, kernel: tf.Tensor, _call: Any = original) -> tf.Tensor:
                operands.append((inputs.dtype, kernel.dtype))
                return _call(inputs, kernel)

            layer.convolution_op = spy
    use_mixed_precision(mixed, name)
    tf.config.run_functions_eagerly(True)
    try:
        calls.clear()
        expected = plain(images, training=False)
        in_float = list(calls)
        calls.clear()
        logits = mixed(images, training=False)
        in_mixed = list(calls)
    finally:
        tf.config.run_functions_eagerly(False)

    assert operands and set(operands) == {(dtype, dtype)}
    assert logits.dtype == tf.float32
    assert (logits.numpy() != expected.numpy()).any()  # Convolutions do round.
    assert {value.dtype for call in in_mixed for value in call[1:]} == {tf.float32}
    assert [call[0] for call in in_mixed] == [call[0] for call in in_float]
    kernels = [
        (one[1:], other[1:])
        for one, other in zip(in_float, in_mixed, strict=True)
        if one[0] == "WeightQuantizer"
    ]
    assert len(kernels) == 10
    for pair in kernels:
        for one, other in zip(*pair, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
