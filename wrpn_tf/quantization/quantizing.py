"""The public entry: quantize a whole model, or annotate layers and apply."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wrpn_tf.arithmetic.bits import check_bits
from wrpn_tf.arithmetic.methods import ActivationMethod, Method, WeightMethod
from wrpn_tf.fronts import front_of
from wrpn_tf.graph.canonical import canonical
from wrpn_tf.graph.plan import (
    DEFAULT_BITS,
    InputRange,
    both_methods,
    fixed_range,
    layer_plan,
    layer_plans,
)
from wrpn_tf.graph.roles import Layer
from wrpn_tf.graph.rules import FirstLast, Rule
from wrpn_tf.graph.support import check_supported
from wrpn_tf.quantization.feeding import takes_integers

Model = Any
"""A model of a Keras."""


def quantize_model(
    model: Model,
    weight_bits: int = DEFAULT_BITS,
    activation_bits: int = DEFAULT_BITS,
    rules: Sequence[Rule] = (),
    first_last: FirstLast = "integer",
    *,
    method: Method = "learned",
    weight_method: WeightMethod | None = None,
    activation_method: ActivationMethod | None = None,
    per_channel: bool = True,
    input_range: InputRange = None,
) -> Model:
    """A copy of `model` that trains with k-bit weights and k-bit activations.

    The copy keeps the weights, is flat (nested models are inlined, fused activations are layers of
    their own) and uncompiled. What else it keeps and what is refused: docs/contract.md. Activation
    scales start from a guess: call `wrpn_tf.calibrate`, train, or both.

    Args:
      model: built Sequential or Functional model of Keras 3 or tf_keras, trained or fresh.
      weight_bits: 1 to 8; 32 leaves weights in float.
      activation_bits: bits of ReLU outputs, 1 to 8; 32 leaves them in float.
      rules: bit-widths for some layers; of several matching rules the first wins.
      first_last: 'integer' gives the first and last layers 8 bits and puts everything else that an
        integer-only network needs on 8-bit grids (inputs, linear outputs, residual sums, logits).
        'paper' leaves the first and last layers in float and quantizes nothing beyond the paper
        (WRPN, section 5): for training studies, not for export.
      method: 'learned' trains the scales from their calibrated values; 'calibrated' keeps those
        fixed; 'paper' clips weights to [-1, 1] and activations to [0, 1].
      weight_method: another one for the kernels, see `wrpn_tf.arithmetic.quantizer_state`; None:
        `method`. First and last layers with bits that it does not have ('dorefa': 1 to 7, 'xnor':
        1) follow `method`.
      activation_method: another one for the activations, see there; None: `method`.
      per_channel: a scale for each output channel of a convolution; False: one for its kernel.
      input_range: real values of image codes 0 and 255, which fixes the input's grid; (0, 255) for
        an input of integers. None observes the input's range. A dictionary has one or the other by
        the input's name, and observes those that it does not name.

    Raises:
      ValueError: for a model, bit-width, policy or method that is not supported, layers that cannot
        be quantized (all are listed), or a rule that decides for no layer.
    """
    front = front_of(model)
    input_range = _checked(input_range, model)
    methods = both_methods(method, weight_method, activation_method, weight_bits)
    front.check_accepted(model, first_last == "integer")
    network = canonical(front.read(model), front.layers)
    check_supported(network)
    plans = layer_plans(
        network.nodes,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rules=rules,
        first_last=first_last,
        method=method,
        methods=methods,
        per_channel=per_channel,
    )
    return front.quantize(model, network, plans, first_last == "integer", input_range)


def quantize_annotate(
    layer: Layer,
    weight_bits: int = DEFAULT_BITS,
    activation_bits: int = DEFAULT_BITS,
    *,
    method: Method = "learned",
    weight_method: WeightMethod | None = None,
    activation_method: ActivationMethod | None = None,
    per_channel: bool = True,
) -> Layer:
    """Marks one layer for `quantize_apply`; use it in place of the layer when building a model.

    Args:
      layer: any supported layer.
      weight_bits: bits of the kernel, 1 to 8 or 32, for a layer that has one.
      activation_bits: bits of the output, 1 to 8 or 32, for a ReLU or a layer that fuses one.
      method: see `quantize_model`.
      weight_method: see `quantize_model`.
      activation_method: see `quantize_model`.
      per_channel: see `quantize_model`.
    """
    check_bits(weight_bits, "weight_bits")
    check_bits(activation_bits, "activation_bits")
    methods = both_methods(method, weight_method, activation_method, weight_bits)
    plan = layer_plan(layer, weight_bits, activation_bits, *methods, per_channel)
    return front_of(layer).annotate(layer, plan)


def quantize_apply(
    model: Model,
    *,
    integer: bool = False,
    input_range: InputRange = None,
) -> Model:
    """Quantizes the annotated layers of a model and leaves the others in float.

    Args:
      model: built Sequential or Functional model with layers from `quantize_annotate`.
      integer: also put on 8-bit grids what an integer-only network needs; every layer must be
        annotated then.
      input_range: see `quantize_model`; only used with `integer`.

    Returns:
      A new model with the same weights, scales of weights calibrated.

    Raises:
      ValueError: for a model that is not supported.
      RuntimeError: if a layer lost the configuration that it was meant to carry.
    """
    return front_of(model).apply(model, integer, _checked(input_range, model))


def _checked(input_range: Any, model: Model) -> InputRange:
    """An `input_range` of floats; raises ValueError for one that is none of the model's."""
    tensors = getattr(model, "inputs", None) or ()  # A model that is not built is refused later.
    names = front_of(model).input_names(model) if tensors else []
    if isinstance(input_range, Mapping):
        if tensors and (unknown := [str(name) for name in input_range if name not in names]):
            raise ValueError(
                f"input_range names {', '.join(unknown)}; the inputs of model {model.name!r} are "
                f"{', '.join(names)}."
            )
        checked: InputRange = {name: _pair(value) for name, value in input_range.items()}
    else:
        checked = _pair(input_range)
    for name, tensor in zip(names, tensors, strict=True):
        if takes_integers(tensor) and fixed_range(checked, name) not in (None, (0, 255)):
            raise ValueError(
                f"Input {name!r} takes pixels as integers, so that 0 and 255 are 0 and 255 to the "
                f"model: input_range must be (0, 255) or None; got {input_range!r}."
            )
    return checked


def _pair(value: Any) -> tuple[float, float] | None:
    """The range of an input as two floats; raises ValueError for what is none."""
    if value is None:
        return None
    is_pair = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
    numbers = np.asarray(value if is_pair else None, object)
    try:
        minimum, maximum = map(float, numbers.tolist())
    except (TypeError, ValueError):
        minimum = maximum = math.nan
    if not (minimum <= 0 <= maximum and 0 < maximum - minimum < math.inf):
        raise ValueError(
            "input_range must contain 0: it is the real values of the pixels 0 and 255, as in "
            f"(0, 255), (0, 1) or (-1, 1); got {value!r}."
        )
    return minimum, maximum
