"""What quantizers are and what their variables say, in NumPy: the same in every Keras.

A front's quantizer is one of these classes that also makes its variables and computes with tensors.
Variables are what has `numpy` and `assign`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wrpn_tf.arithmetic import numpy_twins, scales
from wrpn_tf.arithmetic.bits import activation_levels, check_bits, weight_levels
from wrpn_tf.arithmetic.methods import (
    ACTIVATION_METHODS,
    ActivationMethod,
    WeightMethod,
    check_method,
    check_weight_method,
)
from wrpn_tf.arithmetic.quantization_parameters import QuantizationParameters

INITIAL_CLIP = 2.0
"""Activation clip before calibration: two standard deviations of a batch-normalized input."""

RANGE_MOMENTUM = 0.99

RANGE_OF_ZEROS = 1.0
"""The maximum of a range in which nothing but 0 was seen: any scale represents it."""

Variables = Mapping[str, Any]
"""A quantizer's variables by name."""


class KernelState:
    """k-bit weights on a symmetric grid, one scale per output channel or per layer.

    * 'learned': the scale is trained with LSQ's gradient (arXiv 1902.08153).
    * 'calibrated': the scale of least squared error, fixed when the model is quantized.
    * 'paper': scale ``1 / (2^(k-1) - 1)``, weights clipped to [-1, 1] (WRPN, section 5).
    * 'dynamic': a statistic of the kernel at every step, see `related_work.dynamic_scale`.
    * 'dorefa': 1 to 7 bits, always per layer, see `related_work.dorefa_weights`.
    * 'xnor': 1 bit, see `related_work.xnor_weights`.

    One bit is ``sign(w) * mean|w|`` in every method (BWN, arXiv 1603.05279); its gradient is
    straight through, but for 'xnor'. Where there is a variable, it is ``<weight>_scale``, with 1 on
    the axes that share a scale.

    Args:
      bits: 1 to 8.
      method: see above.
      per_channel: one scale for each output channel; False: one for the layer.

    Attributes:
      levels: the largest code.
      axes: of the kernel that share a scale, once the quantizer is built.
    """

    axes: tuple[int, ...]

    def __init__(self, bits: int, method: WeightMethod = "learned", per_channel: bool = True):
        self.bits = check_bits(bits, "weight bits")
        check_weight_method(method, bits)
        self.method: WeightMethod = method
        self.per_channel = per_channel and method != "dorefa"
        self.levels = weight_levels(self.bits)

    @property
    def has_variable(self) -> bool:
        """Whether the scale is stored, and not a statistic of the kernel."""
        return self.bits > 1 and self.method not in ("dynamic", "dorefa")

    def shared_axes(self, rank: int, class_name: str) -> tuple[int, ...]:
        """Axes of a kernel of a layer's class that share one scale."""
        if not self.per_channel:
            return tuple(range(rank))
        if class_name == "Conv2DTranspose":
            return (0, 1, 3)  # Height, width and input channels.
        return (0, 1) if class_name == "DepthwiseConv2D" else tuple(range(rank - 1))

    def scale_shape(self, shape: tuple[int, ...]) -> list[int]:
        """The shape of the scale of a kernel: 1 on the axes that share one."""
        return [1 if axis in self.axes else size for axis, size in enumerate(shape)]

    def lsq_gradient_scale(self, shape: tuple[int, ...]) -> float:
        """The factor on the gradient of the scale of a kernel."""
        shared = int(np.prod([shape[axis] for axis in self.axes]))
        return scales.lsq_gradient_scale(shared, self.levels)

    def initialize(self, kernel: np.ndarray, weights: Variables) -> None:
        """Sets the scale from the kernel's values: least squared error in each group."""
        if not weights or self.method == "paper":
            return
        groups = np.moveaxis(kernel, self.axes, range(len(self.axes)))
        groups = groups.reshape(int(np.prod([kernel.shape[a] for a in self.axes])), -1)
        best = scales.best_scales_np(groups.T, -self.levels, self.levels)
        weights["scale"].assign(np.reshape(best, weights["scale"].shape))

    def codes(self, kernel: np.ndarray, weights: Variables) -> tuple[np.ndarray, np.ndarray]:
        """The trained integers and their scale: ``kernel`` is quantized to ``codes * scale``.

        Returns:
          int32 codes of the kernel's shape, and a float32 scale broadcastable to it.
        """
        if self.bits == 1:
            return (
                numpy_twins.binary_codes_np(kernel),
                numpy_twins.mean_magnitude_np(kernel, self.axes),
            )
        if self.method == "dorefa":
            scale = np.full((1,) * kernel.ndim, 1.0 / activation_levels(self.bits))
            codes = numpy_twins.dorefa_codes_np(kernel, self.bits)
            return codes, scale.astype(np.float32)
        if self.method == "dynamic":
            scale = scales.dynamic_scale_np(kernel, self.levels, self.axes)
        else:
            scale = numpy_twins.positive_np(weights["scale"].numpy())
        return numpy_twins.quantize_codes_np(kernel, scale, -self.levels, self.levels), scale

    @property
    def has_free_scale(self) -> bool:
        """Whether each channel's scale came from data or training, and not from the method."""
        return self.per_channel and (self.bits == 1 or self.method != "paper")

    def rescale(self, kernel: Any, weights: Variables, factors: np.ndarray) -> None:
        """Multiplies the scale of every output channel, in place.

        The kernel is multiplied too, so that codes stay but for values on a threshold to within
        float32's rounding.

        Args:
          kernel: the kernel, a variable.
          weights: the variables.
          factors: positive float32 of the scale's shape.
        """
        kernel.assign(kernel.numpy() * factors)
        if weights:
            weights["scale"].assign(weights["scale"].numpy() * factors)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"bits": self.bits, "method": self.method, "per_channel": self.per_channel}


class OutputState:
    """What quantizers of outputs have in common.

    While `observer` is set it is called with every tensor, and decides whether the tensor passes
    quantized.
    """

    observer: Callable[[np.ndarray], bool] | None = None
    has_free_scale: bool
    """Whether data or training decided on the scale, and not the method: it may then move."""

    def shift(self, weights: Variables) -> float:
        """What is added to values before they are rounded: not 0 only for pixels."""
        return 0.0


class ActivationState(OutputState):
    """k-bit activations: clip to ``[0, (2^k - 1) * scale]`` and round to multiples of the scale.

    * 'learned': the scale is trained, and the clip with it, by LSQ's gradient (arXiv 1902.08153).
    * 'pact': the clip is trained, and the scale with it, by PACT's gradient (arXiv 1805.06085).
    * 'calibrated': the scale of least squared error over the calibration data, then fixed.
    * 'paper': scale ``1 / (2^k - 1)``: clip to [0, 1] (WRPN, section 5).

    The variable is ``output_scale``, and ``output_clip`` for 'pact'.

    Args:
      bits: 1 to 8.
      method: see above.
      maximum: an upper bound that the clip must not exceed (6 behind a ReLU6), or None.
    """

    def __init__(
        self, bits: int, method: ActivationMethod = "learned", maximum: float | None = None
    ):
        self.bits = check_bits(bits, "activation bits")
        check_method(method, ACTIVATION_METHODS, "activation_method")
        self.method: ActivationMethod = method
        self.maximum = maximum
        self.levels = activation_levels(self.bits)
        self.has_free_scale = method != "paper"

    @property
    def trains(self) -> bool:
        """Whether the variable is trained."""
        return self.method in ("learned", "pact")

    def initial(self) -> tuple[str, float]:
        """Name and first value of the variable: 'scale', or 'clip' for PACT."""
        clip = 1.0 if self.method == "paper" else INITIAL_CLIP
        clip = clip if self.maximum is None else min(clip, self.maximum)
        return ("clip", clip) if self.method == "pact" else ("scale", clip / self.levels)

    def lsq_gradient_scale(self, shape: tuple[int | None, ...]) -> float:
        """The factor on the gradient of the scale of outputs of a shape, with the batch first."""
        elements = int(np.prod([size for size in shape[1:] if size]))
        return scales.lsq_gradient_scale(elements, self.levels)

    def calibrate(self, sample: np.ndarray, weights: Variables) -> None:
        """Sets the scale of least squared error over `sample`, unless the paper fixes it."""
        if self.method == "paper":
            return
        scale = scales.best_scale_np(sample, 0, self.levels)
        if self.method == "pact":
            weights["clip"].assign(scale * self.levels)
        else:
            weights["scale"].assign(scale)

    def grid(self, weights: Variables) -> QuantizationParameters:
        """The grid of the output, from the variables' present values."""
        if self.method == "pact":
            smallest = np.float32(numpy_twins.SMALLEST_SCALE * self.levels)
            clip = np.maximum(np.abs(weights["clip"].numpy()), smallest)
            clip = clip if self.maximum is None else np.minimum(clip, np.float32(self.maximum))
            scale = clip / np.float32(self.levels)
        else:
            scale = numpy_twins.positive_np(weights["scale"].numpy())
            if self.maximum is not None:
                scale = np.minimum(scale, np.float32(self.maximum / self.levels))
        return QuantizationParameters(scale=float(scale), low=0, high=self.levels, bits=self.bits)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"bits": self.bits, "method": self.method, "maximum": self.maximum}


class RangeState(OutputState):
    """8-bit affine quantization over an observed or a fixed range.

    For what an integer network needs beyond the paper: the input, linear outputs, residual sums and
    logits. An observed range is an exponential moving average of each training batch's minimum and
    maximum; until a batch was seen, values pass unquantized. A batch of zeros leaves the range as
    it is, and the first makes it ``[0, RANGE_OF_ZEROS]``. A fixed range is that of an image's
    pixels, see `wrpn_tf.quantizers.pixel_grid`.

    Args:
      fixed: the real values ``(minimum, maximum)`` of the codes -128 and 127, or None to observe.
    """

    bits = 8

    def __init__(self, fixed: tuple[float, float] | None = None):
        self.fixed = (fixed[0], fixed[1]) if fixed is not None else None
        self.has_free_scale = fixed is None
        if self.fixed and not self.fixed[0] <= 0.0 <= self.fixed[1] > self.fixed[0]:
            raise ValueError(f"A fixed range must contain 0 and be wider than 0; got {fixed}.")

    def initial(self) -> dict[str, float]:
        """First values of the variables, by name."""
        return dict(zip(("minimum", "maximum"), self.fixed or (0.0, 0.0), strict=True))

    def calibrate(self, sample: np.ndarray, weights: Variables) -> None:
        """Sets the range to that of `sample`, unless it is fixed."""
        if self.fixed is None:
            least, most = min(float(sample.min()), 0.0), max(float(sample.max()), 0.0)
            weights["minimum"].assign(least)
            weights["maximum"].assign(RANGE_OF_ZEROS if least == most else most)

    def shift(self, weights: Variables) -> float:
        """See `wrpn_tf.quantizers.pixel_grid`."""
        if not self.fixed:
            return 0.0
        minimum, maximum = (weights[bound].numpy() for bound in ("minimum", "maximum"))
        return float(numpy_twins.pixel_grid_np(minimum, maximum)[2])

    def grid(self, weights: Variables) -> QuantizationParameters | None:
        """The grid of the output, or None where no batch was observed yet."""
        minimum, maximum = (weights[bound].numpy() for bound in ("minimum", "maximum"))
        if minimum == maximum:
            return None
        if self.fixed:
            scale, zero_point, _ = numpy_twins.pixel_grid_np(minimum, maximum)
        else:
            scale, zero_point = numpy_twins.affine_grid_np(minimum, maximum)
        return QuantizationParameters.int8(scale=float(scale), zero_point=zero_point)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"fixed": self.fixed}
