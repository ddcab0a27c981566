"""Freezing of weights that oscillate between two codes (Nagel et al. 2022, arXiv 2203.11086)."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

import wrpn_tf
from wrpn_tf import quantizers

_MOMENTUM = 0.01


class FreezeOscillating(keras.callbacks.Callback):
    """Freezes weights whose codes flip too often, in the second half of a training.

    A weight oscillates in a step that changes its integer code in the direction opposite to that
    of the change before. The frequency of these steps is an exponential moving average of momentum
    0.01, over the whole training. A weight whose frequency exceeds the threshold stays at the
    nearest integer of its code's moving average, times the scale (section 3.2.2 there). Kernels of
    2 to 8 bits with a scale of their own take part.

    Args:
        network: The quantized network in training, on one device.
        threshold: The largest frequency that is not frozen.
        half: The step from which weights are frozen.
    """

    def __init__(self, network: keras.Model, threshold: float, half: int) -> None:
        super().__init__()
        self._half = half
        self._kernels = [
            _Kernel(kernel, scale, levels, threshold)
            for kernel, scale, levels in wrpn_tf.scaled_kernels(network)
        ]
        self._update = tf.function(self._update_all)

    @property
    def state(self) -> list[dict[str, tf.Variable]]:
        """What a checkpoint must hold."""
        return [kernel.state for kernel in self._kernels]

    def _update_all(self, freezes: tf.Tensor) -> None:
        for kernel in self._kernels:
            kernel.update(freezes)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._update(self.model.optimizer.iterations >= self._half)


class _Kernel:
    """One kernel and what is known of its codes."""

    def __init__(
        self, kernel: tf.Variable, scale: tf.Variable, levels: int, threshold: float
    ) -> None:
        self._kernel, self._scale, self._levels = kernel, scale, levels
        self._threshold = threshold
        codes = self._codes()
        self.state = {
            "code": tf.Variable(codes, trainable=False),
            "direction": tf.Variable(tf.zeros_like(codes), trainable=False),
            "frequency": tf.Variable(tf.zeros_like(codes), trainable=False),
            "average": tf.Variable(codes, trainable=False),
            "frozen": tf.Variable(tf.zeros_like(codes, tf.bool), trainable=False),
        }

    def _codes(self) -> tf.Tensor:
        steps = self._kernel / quantizers.positive(self._scale)
        levels = float(self._levels)
        return tf.clip_by_value(quantizers.round_half_up(steps), -levels, levels)

    def update(self, freezes: tf.Tensor) -> None:
        """Takes notice of a step, and freezes."""
        state, codes = self.state, self._codes()
        change = tf.sign(codes - state["code"])
        turned = tf.cast(change * state["direction"] < 0, codes.dtype)
        state["frequency"].assign_add(_MOMENTUM * (turned - state["frequency"]))
        state["average"].assign_add(_MOMENTUM * (codes - state["average"]))
        state["direction"].assign(tf.where(change == 0, state["direction"], change))
        state["frozen"].assign(state["frozen"] | (freezes & (state["frequency"] > self._threshold)))
        scale = quantizers.positive(self._scale)
        kept = quantizers.round_half_up(state["average"]) * scale
        self._kernel.assign(tf.where(state["frozen"], kept, self._kernel))
        state["code"].assign(self._codes())
