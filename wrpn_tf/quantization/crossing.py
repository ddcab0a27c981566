"""The same model in the other Keras: layers, weights, quantizers and scales."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import types
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from wrpn_tf.arithmetic.quantizer_state import ActivationState
from wrpn_tf.fronts import front, front_of, package_of
from wrpn_tf.graph.acceptance import check_copied
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Network, Node
from wrpn_tf.graph.placement import KBit
from wrpn_tf.graph.plan import KernelPlan, LayerPlan
from wrpn_tf.graph.roles import (
    Kind,
    Layer,
    activation_layer,
    activation_name,
    class_name,
    leaky_slope,
)
from wrpn_tf.graph.support import check_calls
from wrpn_tf.graph.views import LayerView
from wrpn_tf.quantization.inspection import input_quantizers, own_names

Model = Any
"""A model of a Keras."""

_OF_OUR_OWN = {"QuantizedAveragePooling2D": "AveragePooling2D", "QuantizedUpSampling2D": ""}
_FLOAT32 = ("float32", "_infer")
_OF_EVERY_LAYER = ("name", "trainable", "dtype", "quantization_config", "weights")
_OF_NO_EFFECT = ("seed", "input_length", "use_cudnn", "flash_attention")
_DIFFERING = ("hard_sigmoid", "hard_silu", "hard_swish")  # Of one name, and another function.


def to_tf_keras(model: Model) -> Model:
    """A Keras 3 model, float or quantized, as a tf_keras model: for TF-MOT or `tf.distribute`.

    It computes the same to float rounding, and is not compiled. Nested models are inlined.

    Args:
      model: Sequential or Functional model; one of tf_keras is copied.

    Raises:
      ValueError: for a model, layer, argument or function that tf_keras does not have, a layer in
        another type than float32, a layer with weights that a quantized model uses several times,
        or what a copy would lose (a `train_step` of its own); it is named.
    """
    return _crossed(model, "tf_keras")


def from_tf_keras(model: Model) -> Model:
    """A tf_keras model, float or quantized, as a Keras 3 model: see `to_tf_keras`."""
    return _crossed(model, "keras")


def to_float(model: Model) -> Model:
    """A quantized model without its quantizers: the float network of its weights, not compiled.

    Layers have the names that they had before they were quantized. What training with few bits has
    made of the weights stays: for a network that was only calibrated, it is the float network. A
    file of it needs Keras alone, unless an output has another name than its layer, or a layer with
    weights is used several times.

    Args:
      model: from `quantize_model` or `quantize_apply`; of either Keras.

    Raises:
      ValueError: for a layer or function that cannot be copied, or what a copy would lose; it is
        named.
    """
    package = package_of(model, "convert")
    source = front(package)
    check_copied(source, model, "convert")
    network = source.read(model)
    views = {node.name: source.view_layer(node) for node in network.nodes}
    kernels = source.named_kernel_quantizers(model)
    plain = _without_quantizers(network, views, package, kernels)
    return source.assemble(source.interface_of(model), plain)


def _crossed(model: Model, package: str) -> Model:
    source, target = front_of(model, "convert"), front(package)
    check_copied(source, model, "convert")
    policy = importlib.import_module(package).mixed_precision.global_policy().name
    if policy not in _FLOAT32:
        raise ValueError(
            f"Cannot convert model {model.name!r}: the global policy of {package} is {policy!r}; "
            "convert it under the policy 'float32'."
        )
    network = source.read(model)
    check_calls(network)
    fusion = Fusion(map(source.view_layer, network.nodes), network.results)
    views, shell = fusion.layers, source.interface_of(model)
    kernels = source.named_kernel_quantizers(model)
    outputs = source.named_output_quantizers(model)
    if not kernels and not outputs:
        nodes = tuple(_node(node, views[node.name], package, {}) for node in network.nodes)
        return target.assemble(shell, dataclasses.replace(network, nodes=nodes))
    if several := sorted({views[view.use_of].own_name for view in views.values() if view.use_of}):
        raise ValueError(
            f"Cannot convert model {model.name!r}: it is quantized, and uses layers several times "
            f"({', '.join(several)}); convert the float model, and quantize that."
        )
    plain = _without_quantizers(network, views, package, kernels)
    annotated = _annotations(fusion, kernels, outputs)
    integer = bool(ranges := input_quantizers(model))
    if not integer:
        annotated = {name: plan for name, plan in annotated.items() if plan != LayerPlan()}
    fixed = {name: state.fixed for name, state in ranges.items() if state.fixed}
    crossed = target.quantize(shell, plain, annotated, integer, fixed)
    for entries, found in (
        (outputs, target.named_output_quantizers(crossed)),
        (kernels, target.named_kernel_quantizers(crossed)),
    ):
        _share_variables(model, entries, crossed, found)
    return crossed


def _without_quantizers(
    network: Network, views: Mapping[str, LayerView], package: str, kernels: Mapping[str, Any]
) -> Network:
    """The float network of a quantized one, its layers those of another Keras."""
    names = {name: view.own_name for name, view in views.items()}
    for view in views.values():
        if view.kind is Kind.INPUT and view.inputs:  # The quantizer of an input.
            names[view.name] = names[view.inputs[0]]
    nodes = []
    for node in network.nodes:
        view = views[node.name]
        if view.kind is Kind.INPUT and view.inputs:
            continue
        new = _node(node, view, package, kernels)
        inputs = tuple(names[name] for name in node.inputs)
        name, use_of = names[node.name], names.get(node.use_of or "")
        nodes.append(
            dataclasses.replace(new, name=name, part_of=name, inputs=inputs, use_of=use_of)
        )
    results = tuple(names[name] for name in network.results)
    return dataclasses.replace(network, nodes=tuple(nodes), results=results)


def _annotations(
    fusion: Fusion[LayerView], kernels: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, LayerPlan]:
    """What layers were asked to have, for what they carry to be placed again."""
    wanted: dict[str, KBit] = {}
    for name, view in fusion.layers.items():
        quantizer = outputs[name][0] if name in outputs else None
        if isinstance(quantizer, ActivationState):
            bits = KBit(bits=quantizer.bits, method=quantizer.method)
            wanted[name] = bits
            if view.kind in (Kind.CONCATENATE, Kind.AVERAGE):
                for source in fusion.sources(name):  # They left their quantizer to it.
                    wanted.setdefault(source.name, bits)
    plans = {}
    for name, view in fusion.layers.items():
        weight = None
        if name in kernels:
            kernel = kernels[name][0]
            weight = KernelPlan(
                bits=kernel.bits, method=kernel.method, per_channel=kernel.per_channel
            )
        plans[view.own_name] = LayerPlan(weight=weight, output=wanted.get(name))
    return plans


def _share_variables(
    model: Model, entries: Mapping[str, tuple], crossed: Model, found: Mapping[str, tuple]
) -> None:
    """Gives the quantizers of a model the variables of those of another, by layer."""
    sources, targets = own_names(model, entries), own_names(crossed, found)
    if lost := targets.keys() ^ sources.keys():
        raise ValueError(f"Quantizers would be at other places: {', '.join(sorted(lost))}.")
    for name, (*_, variables) in sources.items():
        *_, others = targets[name]
        for key, variable in variables.items():
            others[key].assign(variable.numpy())


class _Weights:
    """What stands for the layer that a node's weights come from."""

    def __init__(self, values: list[np.ndarray]):
        self.weights = values

    def get_weights(self) -> list[np.ndarray]:
        """The values."""
        return self.weights


def _node(node: Node, view: LayerView, package: str, kernels: Mapping[str, Any]) -> Node:
    """A node whose layer is one of another Keras."""
    if not node.inputs:
        return node
    variables = list(getattr(view.layer, "weights", ()))
    if class_name(view.layer) in _OF_OUR_OWN:
        variables = []  # Of its quantizer.
    if node.name in kernels:  # TF-MOT's wrapper takes the kernel from the layer.
        kernel = kernels[node.name][1]
        variables = [kernel, *(each for each in variables if each is not kernel)]
    weights = [np.asarray(variable) for variable in variables]
    return dataclasses.replace(
        node,
        layer=_layer(view.layer, node.name, package),
        origin=_Weights(weights),
        weights=tuple(range(len(weights))),
    )


def _layer(layer: Layer, name: str, package: str) -> Layer:
    """A layer of a Keras, configured as `layer`, and not built; or `layer`, where it is of that."""
    known = class_name(layer)
    keras = importlib.import_module(package)
    layers: Any = keras.layers
    own = front(package).own_layers
    if known == "QuantizedUpSampling2D":
        return layers.UpSampling2D(layer.size, interpolation="bilinear", name=layer.name)
    known = _OF_OUR_OWN.get(known, known)
    cls = getattr(own, known, None) or getattr(layers, known, None)
    if not known or cls is None:
        raise ValueError(
            f"Cannot convert layer {name!r} ({type(layer).__name__}): {package} has no such layer."
        )
    if isinstance(layer, layers.Layer) and known == class_name(layer):
        return layer
    if layer.dtype_policy.name not in _FLOAT32:
        raise ValueError(
            f"Cannot convert layer {name!r}: its policy {layer.dtype_policy.name!r} is not float32."
        )
    if known == "LeakyReLU":
        return cls(leaky_slope(layer), name=layer.name)
    taken = inspect.signature(cls).parameters
    config = _arguments(layer)
    if known == class_name(layer):
        _check_arguments(layer, config, taken, name)
    arguments = {key: config[key] for key in taken if key in config and _is_plain(key)}
    for key in taken:
        if key.endswith("activation"):
            arguments[key] = _activation(layer, key, name, keras)
        if key.endswith(("_regularizer", "_constraint")):
            namespace = keras.regularizers if key.endswith("_regularizer") else keras.constraints
            arguments[key] = _object(getattr(layer, key, None), namespace, name)
    if "axis" in arguments and known == "BatchNormalization":
        arguments["axis"] = int(np.ravel(layer.axis)[0])
    made = cls(**arguments, name=layer.name)
    made.trainable = layer.trainable  # SpatialDropout takes no arguments but its own.
    penalty = getattr(layer, "activity_regularizer", None)
    if penalty is not None and known != "ActivityRegularization":  # Which makes its own.
        made.activity_regularizer = _object(penalty, keras.regularizers, name)
    return made


def _is_plain(key: str) -> bool:
    """Whether an argument means the same in each Keras, and is not that of every layer."""
    parts = ("activation", "_regularizer", "_constraint", "_initializer")
    return key not in _OF_EVERY_LAYER and not key.endswith(parts)


def _arguments(layer: Layer) -> dict[str, Any]:
    """What a layer was made with: its configuration, and what its class does not save of it."""
    config, parameters = layer.get_config(), inspect.signature(type(layer)).parameters
    lost = [key for key in parameters if key not in config and hasattr(layer, key)]
    return config | {key: getattr(layer, key) for key in lost}


def _check_arguments(
    layer: Layer, arguments: Mapping[str, Any], taken: Collection[str], name: str
) -> None:
    """Raises ValueError for an argument of a layer that the class of another Keras cannot take."""
    parameters = inspect.signature(type(layer)).parameters
    for key, value in arguments.items():
        is_object = isinstance(value, Mapping) and key in parameters and _is_plain(key)
        if key == "function" or is_object:
            problem = f"its {key} is an object or function of its own Keras"
        elif key in taken or _is_left_out(key, value, parameters.get(key)):
            continue
        else:
            problem = f"its {key} is {value!r}, and the other Keras has no such argument"
        raise ValueError(f"Cannot convert layer {name!r} ({type(layer).__name__}): {problem}.")


def _is_left_out(key: str, value: Any, parameter: inspect.Parameter | None) -> bool:
    """Whether a layer computes the same without an argument.

    What a class takes and does not name as a parameter is a switch, and off.
    """
    if key in (*_OF_EVERY_LAYER, *_OF_NO_EFFECT) or key.endswith("_initializer"):
        return True
    if parameter is None:
        return value is not True
    return value == "channels_last" or np.array_equal(value, parameter.default)


def _activation(layer: Layer, key: str, name: str, keras: Any) -> str:
    """The name of the function that a layer has as an argument, where `keras` has the same."""
    function = activation_name(layer, key)
    if activation_layer(layer, key) is not None or "." in function or function in _DIFFERING:
        raise ValueError(f"Cannot convert layer {name!r}: its {key} {function!r} differs.")
    function = {"silu": "swish"}.get(function, function)
    try:
        keras.activations.get(function)
    except ValueError:
        raise ValueError(
            f"Cannot convert layer {name!r}: {keras.__name__} has no function {function!r}, which "
            f"is its {key}."
        ) from None
    return function


def _object(thing: Any, namespace: types.ModuleType, name: str) -> Any:
    """A regularizer or constraint of another Keras."""
    if thing is None:
        return None
    cls = getattr(namespace, class_name(thing) or "-", None)
    if cls is None:
        raise ValueError(
            f"Cannot convert layer {name!r}: its {type(thing).__name__} is a class of its own."
        )
    return cls(**thing.get_config())
