"""A quantized model as plain facts: layers, trained integers and grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from wrpn_tf.arithmetic.quantizer_state import RangeState
from wrpn_tf.fronts import front_of
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.roles import Kind
from wrpn_tf.graph.views import KernelEntry, LayerView, OutputEntry

Model = Any
"""A model of a Keras."""
_Entry = TypeVar("_Entry")


def view(model: Model) -> list[LayerView]:
    """The layers of a quantized model in execution order."""
    front = front_of(model, "read")
    return [front.view_layer(node) for node in front.read(model).nodes]


def fusion_groups(model: Model) -> Fusion[LayerView]:
    """The layers of a quantized model, and which of them become one operator."""
    front = front_of(model, "read")
    network = front.read(model)
    return Fusion(map(front.view_layer, network.nodes), network.results)


def named_output_quantizers(model: Model) -> dict[str, OutputEntry]:
    """Every output quantizer of the model with its variables, by the layer's name."""
    return front_of(model, "read").named_output_quantizers(model)


def named_kernel_quantizers(model: Model) -> dict[str, KernelEntry]:
    """Every kernel quantizer, the kernel and the quantizer's variables, by the layer's name."""
    return front_of(model, "read").named_kernel_quantizers(model)


def input_quantizers(model: Model) -> dict[str, RangeState]:
    """The quantizers of a model's inputs by the inputs' names; none where these are in float.

    Their `fixed` is the input's range as `quantize_model` was given it.
    """
    front = front_of(model, "read")
    quantizers = front.named_output_quantizers(model)
    return {
        node.inputs[0]: quantizers[node.name][0]
        for node in front.read(model).nodes
        if front.unwrapped(node.layer)[1] is Kind.INPUT and node.inputs
    }


def own_names(model: Model, entries: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """Entries of a quantized model's layers by the layers' names in the float model."""
    unwrapped = front_of(model, "read").unwrapped
    return {unwrapped(model.get_layer(name))[0].name: entry for name, entry in entries.items()}


def infer(model: Model, inputs: Sequence[Any]) -> list[np.ndarray]:
    """The outputs of a model in inference, in the order of `model.outputs`.

    Args:
      model: of either Keras.
      inputs: one batch for each input, in the order of `model.inputs`.
    """
    front = front_of(model, "run")
    outputs = model(front.packed_inputs(model, inputs), training=False)
    return [np.asarray(value) for value in front.flat_outputs(model, outputs)]


def infer_layer(model: Model, name: str, inputs: Sequence[Any]) -> np.ndarray:
    """The output of one layer of a model in inference, which has one.

    Args:
      model: of either Keras.
      name: the layer's.
      inputs: one batch for each of the layer's inputs.
    """
    outputs = model.get_layer(name)(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
    return np.asarray(front_of(model, "run").flat_outputs(model, outputs)[0])


def output_quantizers(model: Model) -> list[OutputEntry]:
    """Every output quantizer of the model with its variables.

    Raises:
      ValueError: if the model has none.
    """
    found = list(named_output_quantizers(model).values())
    if not found:
        raise ValueError(
            f"Model {model.name!r} has no quantized outputs; quantize it with "
            "wrpn_tf.quantize_model first."
        )
    return found
