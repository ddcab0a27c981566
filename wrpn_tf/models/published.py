"""Networks that were trained here, in float or as the integers and scales they were trained to.

A network is two files in `files/`: `NAME.json` says what it is and how it was trained, `NAME.npz`
holds its values, in float32 but for the codes of quantized kernels. Codes of few bits compress
well, and ``codes * scale`` is quantized to the same codes again: nothing of what the network
computes in inference is lost. The weights in float behind the codes are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from wrpn_tf.graph.rules import Rule
from wrpn_tf.models.namespaces import Front
from wrpn_tf.models.registry import build
from wrpn_tf.quantization.crossing import to_float
from wrpn_tf.quantization.inspection import (
    named_kernel_quantizers,
    named_output_quantizers,
    own_names,
)
from wrpn_tf.quantization.quantizing import quantize_model


def pretrained() -> dict[str, dict[str, Any]]:
    """The records of all networks of `load_pretrained`, by name.

    A record has `arch`, `width`, `num_classes` and `input_shape` of `wrpn_tf.models.build`,
    `quantization` (the arguments of `wrpn_tf.quantize_model`; None of a float network), `dataset`
    (its name, `scale` and `zero_point` of its pixels, `class_names`), `training` (the flags of the
    training program that differ from its defaults), `test_accuracy` in [0, 1] and `sha256` of the
    .npz file.
    """
    files = sorted(folder().iterdir(), key=lambda file: file.name)
    return {
        Path(file.name).stem: json.loads(file.read_text(encoding="utf-8"))
        for file in files
        if file.name.endswith(".json")
    }


def load_pretrained(name: str, front: Front = "keras") -> Any:
    """A trained network: a float one, to widen or quantize, or a quantized and settled one.

    Its inputs are images as ``scale * (pixel - zero_point)`` of the record's data set.

    Args:
        name: A key of `pretrained`.
        front: The Keras: 'keras' (Keras 3) or 'tf_keras'.

    Raises:
        ValueError: There is no such network, or its file is damaged.
    """
    known = pretrained()
    if name not in known:
        raise ValueError(f"there is no network {name!r}; known: {', '.join(known)}")
    record, file = known[name], folder() / f"{name}.npz"
    if hashlib.sha256(file.read_bytes()).hexdigest() != record["sha256"]:
        raise ValueError(f"{file} is damaged: it is not the file that {name}.json names")
    with file.open("rb") as stream, np.load(stream) as arrays:
        return restore(record, dict(arrays), front)


def arrays_of(model: Any) -> dict[str, np.ndarray]:
    """What `restore` needs of a network.

    Returns:
        By name: 'weights/LAYER/INDEX', float32; of a quantized network also 'codes/LAYER', int8,
        'scale/LAYER', 'kernel_scale/LAYER/VARIABLE' and 'output/LAYER/VARIABLE', float32.
    """
    kernels = own_names(model, named_kernel_quantizers(model))
    arrays: dict[str, np.ndarray] = {}
    for name, (quantizer, kernel, variables) in kernels.items():
        codes, scale = quantizer.codes(np.asarray(kernel), variables)
        arrays[f"codes/{name}"], arrays[f"scale/{name}"] = codes.astype(np.int8), scale
    for layer in to_float(model).layers:
        for index, values in enumerate(layer.get_weights()):
            if index or layer.name not in kernels:  # The kernel is the first.
                arrays[f"weights/{layer.name}/{index}"] = values
    for key, variable in _variables(model):
        arrays[key] = np.asarray(variable)
    return arrays


def restore(record: dict[str, Any], arrays: dict[str, np.ndarray], front: Front) -> Any:
    """The network of a record, with the values of `arrays_of`."""
    options = {key: record[key] for key in ("width", "num_classes")}
    shape = tuple(record["input_shape"])
    model = build(record["arch"], front=front, input_shape=shape, **options)
    for layer in model.layers:
        values = [
            arrays.get(f"weights/{layer.name}/{index}", old)
            for index, old in enumerate(layer.get_weights())
        ]
        layer.set_weights(values)
    if record["quantization"] is None:
        return model
    rules = [Rule.from_json(rule) for rule in record["quantization"]["rules"]]
    model = quantize_model(model, **record["quantization"] | {"rules": rules})
    for key, variable in _variables(model):
        variable.assign(arrays[key])
    kernels = own_names(model, named_kernel_quantizers(model))
    for name, (_, kernel, _) in kernels.items():
        kernel.assign(arrays[f"codes/{name}"] * arrays[f"scale/{name}"])
    return model


def _variables(model: Any) -> Iterator[tuple[str, Any]]:
    """The quantizers' variables with their names in the file."""
    entries: dict[str, dict[str, Any]] = {
        "kernel_scale": own_names(model, named_kernel_quantizers(model)),
        "output": own_names(model, named_output_quantizers(model)),
    }
    for folder, layers in entries.items():
        for name, (*_, variables) in layers.items():
            for key, variable in variables.items():
                yield f"{folder}/{name}/{key}", variable


def folder() -> Any:
    """Where the files are."""
    return resources.files("wrpn_tf.models") / "files"
