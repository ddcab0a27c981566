"""All that a report says of a network, measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import wrpn_tf
from export.edge_tpu.preflight import Prediction, predict
from export.ethos_u import compiler
from export.flatbuffer import reader
from export.flatbuffer.writer import to_flatbuffer
from export.lowering.network import LoweringError, lower
from export.realization.network import realize
from export.reporting.signals import Signal, measure
from export.verification.result import Verification
from export.verification.verifier import verify
from wrpn_tf import Cost, KernelCodes

_ACCELERATOR = "ethos-u55-256"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """One of the networks side by side.

    Attributes:
      name: what it is.
      cost: for one image.
      accuracy: top-1 over the images; None without labels.
    """

    name: str
    cost: Cost
    accuracy: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """All that a report says.

    Attributes:
      name: of the model.
      images: over how many images signals were measured.
      curves: by name, a share after each epoch; empty where no training is known.
      networks: float ones, then the quantized one.
      kernels: quantized kernels by layer.
      signals: outputs by layer, in execution order.
      clipped: by layer, the share of positive values above the range.
      tensors: by layer, its tensor in the .tflite file.
      file: the .tflite file; None where the network has no integer form.
      refused: why it has none.
      verification: of the file.
      edge_tpu: the preflight's prediction.
      ethos_u: what Vela made of it; None where it is not installed or refused the file.
      ethos_u_note: why there is none.
    """

    name: str
    images: int
    curves: Mapping[str, Sequence[float]]
    networks: tuple[Network, ...]
    kernels: Mapping[str, KernelCodes]
    signals: tuple[Signal, ...]
    clipped: Mapping[str, float]
    tensors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    file: bytes | None = None
    refused: str = ""
    verification: Verification | None = None
    edge_tpu: Prediction | None = None
    ethos_u: compiler.Compilation | None = None
    ethos_u_note: str = ""


def gather(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray | None,
    *,
    curves: Mapping[str, Sequence[float]],
    floats: Mapping[str, Any],
) -> Facts:
    """Measures a quantized model.

    Args:
      model: quantized, with one input; calibrated or trained.
      images: float32 ``[images, ...]``, as the model takes them.
      labels: class numbers ``[images]``, or None.
      curves: see `Facts`.
      floats: by name, float models to stand beside it.

    Raises:
      ValueError: if the model is not quantized, or the images do not fit it.
    """
    views = wrpn_tf.view(model)
    kernels = {view.layer.name: view.kernel for view in views if view.kernel is not None}
    if not kernels:
        raise ValueError(f"Model {model.name!r} has no quantized kernels; a report is of such.")
    reference = wrpn_tf.to_float(model)
    candidates = {**floats, "the same weights without quantizers": reference, "quantized": model}
    networks = tuple(
        Network(
            name=name,
            cost=wrpn_tf.measure_cost(each),
            accuracy=None if labels is None else _accuracy(each, images, labels),
        )
        for name, each in candidates.items()
    )
    clipped = wrpn_tf.clipped_shares(model, images[:64])
    plain = {view.name: view.layer.name for view in views}
    facts = Facts(
        name=model.name,
        images=len(images),
        curves=curves,
        networks=networks,
        kernels=kernels,
        signals=tuple(measure(model, reference, images)),
        clipped={plain.get(name, name): share for name, share in clipped.items()},
    )
    try:
        integers = realize(lower(model))
        content = to_flatbuffer(integers)
    except LoweringError as error:
        return dataclasses.replace(facts, refused=str(error))
    verification = verify(model, content, images, labels)
    layers = integers.provenance.layers
    file = reader.read(content)
    compiled, note = _ethos_u(file)
    return dataclasses.replace(
        facts,
        tensors={plain[layer]: tensor for tensor, layer in layers.items()},
        file=content,
        verification=verification,
        edge_tpu=predict(file),
        ethos_u=compiled,
        ethos_u_note=note,
    )


def node_data(facts: Facts) -> dict[str, Any]:
    """Each tensor's error as Google's Model Explorer overlays it: `GraphNodeData`.

    Values are the root mean square of the error relative to that of the float output; nodes are
    found by the names of the tensors that they write (model_explorer/node_data_builder.py).
    """
    results = {
        facts.tensors[signal.layer]: {"value": round(signal.error, 6)}
        for signal in facts.signals
        if signal.layer in facts.tensors
    }
    gradient = [{"stop": 0, "bgColor": "#fff7ec"}, {"stop": 1, "bgColor": "#d7301f"}]
    return {"results": results, "gradient": gradient}


def _accuracy(model: Any, images: np.ndarray, labels: np.ndarray) -> float | None:
    """Top-1 of the first output; None where it has one channel."""
    if model.outputs[0].shape[-1] < 2:
        return None
    outputs = [wrpn_tf.infer(model, x)[0] for x, _ in wrpn_tf.batches(model, images)]
    best = np.concatenate(outputs).argmax(axis=-1)
    if best.size != len(labels):
        raise ValueError(
            f"Labels are one class for each image, and model {model.name!r} has "
            f"{best[0].size} positions; leave them out."
        )
    return float(np.mean(best.reshape(-1) == labels))


def _ethos_u(file: reader.Model) -> tuple[compiler.Compilation | None, str]:
    if not compiler.is_installed():
        return None, f"Not compiled: {compiler.MISSING}."
    try:
        system, memory = compiler.target(_ACCELERATOR, None, None)
        return compiler.compile_model(file, _ACCELERATOR, system, memory), ""
    except ValueError as error:
        return None, f"Vela does not compile it: {error}."
