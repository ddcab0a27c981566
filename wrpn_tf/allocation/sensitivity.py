"""How much the outputs of a float network change when one of its tensors has few bits."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from wrpn_tf.arithmetic.bits import OFF
from wrpn_tf.arithmetic.quantizer_state import ActivationState, KernelState
from wrpn_tf.costs.dataflow import Step, quantized_dataflow
from wrpn_tf.fronts import front_of
from wrpn_tf.graph.canonical import canonical
from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.placement import RANGE_BITS
from wrpn_tf.graph.roles import Kind, class_name
from wrpn_tf.graph.rules import Rule
from wrpn_tf.progress import ProgressLine
from wrpn_tf.quantization.calibration import calibrate
from wrpn_tf.quantization.inspection import Model, infer, named_output_quantizers, own_names
from wrpn_tf.quantization.quantizing import quantize_model

Distortion = Literal["mse", "kl"]
Batch = Sequence[Any]
"""The inputs of a model, in the order of `model.inputs`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """What has bits of its own: a kernel, or the activations that have one grid.

    Attributes:
      part: 'weights' or 'activations'.
      layers: names of the model's layers that have these bits: one, or several whose activations
        must have the same.
      fmas: multiply-accumulates for one image that read the tensor.
      weights: number of kernel values; 0 for activations.
    """

    part: Literal["weights", "activations"]
    layers: tuple[str, ...]
    fmas: int
    weights: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensors:
    """Those of a network that have bits of their own.

    Attributes:
      tensors: in execution order.
      fmas: multiply-accumulates of the network for one image.
      fixed: sum of FMAs x bits of the activations that are no decision: inputs, sums and other
        linear outputs, which have 8.
    """

    tensors: tuple[Tensor, ...]
    fmas: int
    fixed: int


def read_tensors(model: Model) -> Tensors:
    """The tensors of a float model that `quantize_model` gives bits.

    Raises:
      ValueError: as `quantize_model`.
    """
    return _Probe(model, RANGE_BITS).network


def measure_distortions(
    model: Model,
    images: Sequence[Batch],
    bits: Sequence[int],
    distortion: Distortion,
    *,
    progress: bool | None = None,
) -> dict[Tensor, dict[int, float]]:
    """How far the outputs of a float model are from themselves when one tensor is quantized.

    Kernels have their scales of least squared error, activations those of `calibrate`; all else is
    in float. `progress` is that of `wrpn_tf.choose_bits`.

    Returns:
      By tensor, in execution order, and by bits: the mean over all images.

    Raises:
      ValueError: as `quantize_model` and `calibrate`, or for outputs that are not finite.
    """
    expected = [infer(model, batch) for batch in images]
    if not all(np.isfinite(part).all() for outputs in expected for part in outputs):
        raise ValueError(
            f"With these images the outputs of {model.name!r} are NaN or infinite; look at the "
            "images and at the model's weights."
        )
    found: dict[Tensor, dict[int, float]] = {}
    with ProgressLine("measure distortions", len(bits), shown=progress) as line:
        for width in bits:
            line.begin(f"measure distortions of {width} bits")
            probe = _Probe(model, width)
            probe.calibrate(images)
            for tensor in probe.network.tensors:
                with probe.quantized(tensor):
                    outputs = [infer(probe.model, batch) for batch in images]
                found.setdefault(tensor, {})[width] = _distance(expected, outputs, distortion)
                line.advance(1 / len(probe.network.tensors))
    return found


class _Probe:
    """A copy of a float network whose tensors can be quantized one at a time.

    Args:
      model: float model.
      bits: of a tensor that is quantized.

    Attributes:
      model: the copy.
      network: its tensors.
    """

    def __init__(self, model: Model, bits: int):
        everywhere = Rule(name="*", weight_bits=OFF, activation_bits=bits)
        self.model = quantize_model(model, OFF, bits, [everywhere])
        self._bits = bits
        self._flow = quantized_dataflow(self.model)
        entries = own_names(self.model, named_output_quantizers(self.model))
        self._states = {name: state for name, (state, _) in entries.items()}
        self._layers = _layers_of_parts(model)
        self._steps: dict[Tensor, list[str]] = {}
        self.network = self._read_tensors()

    def calibrate(self, images: Sequence[Batch]) -> None:
        """Sets the scales of activations."""
        calibrate(self.model, list(images))
        for state in self._states.values():
            state.observer = _in_float

    @contextlib.contextmanager
    def quantized(self, tensor: Tensor) -> Iterator[None]:
        """A context in which one tensor is quantized, and all else is in float."""
        if tensor.part == "activations":
            states = [self._states[name] for name in self._steps[tensor]]
            for state in states:
                state.observer = None
            yield
            for state in states:
                state.observer = _in_float
            return
        kernels = [_kernel(self._flow.steps[name]) for name in self._steps[tensor]]
        before = [kernel.numpy() for kernel in kernels]
        for name, kernel, values in zip(self._steps[tensor], kernels, before, strict=True):
            kernel.assign(_rounded(values, class_name(self._flow.steps[name].layer), self._bits))
        yield
        for kernel, values in zip(kernels, before, strict=True):
            kernel.assign(values)

    def _read_tensors(self) -> Tensors:
        flow = self._flow
        total = fixed = 0
        kernels: dict[str, list[Step]] = {}
        grids = _Groups()
        readers: list[tuple[int, str]] = []  # FMAs, and a layer whose activations they read.
        for step in flow.steps.values():
            if self._is_free(step):
                grids.join(self._owners(step))
        for step in flow.kernels():
            kernels.setdefault(self._layers[step.name], []).append(step)
            fmas = step.weights * flow.uses(step)
            total += fmas
            (grid,) = flow.grids_read(step)  # Where all have bits, what joins several has its own.
            if self._is_free(grid):
                readers.append((fmas, self._owners(grid)[0]))
            else:
                fixed += fmas * flow.input_bits(step)
        for step in flow.steps.values():
            name = self._layers.get(step.name, "")
            if name in kernels:
                steps = kernels.pop(name)
                tensor = Tensor(
                    part="weights",
                    layers=(name,),
                    fmas=sum(each.weights * flow.uses(each) for each in steps),
                    weights=sum(each.weights for each in steps if not each.again),
                )
                self._steps[tensor] = [each.name for each in steps if not each.again]
            if self._is_free(step):
                layers = grids.of(self._owners(step)[0])
                fmas = sum(count for count, owner in readers if owner in layers)
                tensor = Tensor(part="activations", layers=layers, fmas=fmas)
                self._steps.setdefault(tensor, []).append(step.name)
        return Tensors(tensors=tuple(self._steps), fmas=total, fixed=fixed)

    def _is_free(self, step: Step) -> bool:
        """Whether a rule decides on the bits of a layer's output."""
        return isinstance(self._states.get(step.name), ActivationState)

    def _owners(self, step: Step) -> list[str]:
        """Names of the model's layers whose rules decide on the bits of an output quantizer."""
        sources = [step] if step.kind is Kind.RELU else self._flow.fusion.sources(step.name)
        return [self._layers[source.name] for source in sources]


class _Groups:
    """Names that belong together, in the order in which they came."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, ...]] = {}

    def join(self, names: Sequence[str]) -> None:
        together = tuple(dict.fromkeys(each for name in names for each in self.of(name)))
        self._of |= dict.fromkeys(together, together)

    def of(self, name: str) -> tuple[str, ...]:
        return self._of.get(name, (name,))


def _in_float(_: np.ndarray) -> bool:
    """An observer that lets nothing be quantized."""
    return False


def _layers_of_parts(model: Model) -> dict[str, str]:
    """By the name of a layer of the quantized network, that by which a rule selects it."""
    front = front_of(model)
    whole = canonical(front.read(model), front.layers)
    names = {node.name: str(node.layer.name) for node in whole.nodes if node.inputs}
    return {
        node.name: names[node.part_of]
        for node in decomposed(whole, front.layers).nodes
        if node.part_of in names
    }


def _kernel(step: Step) -> Any:
    """The kernel of a layer, a variable."""
    (kernel,) = (
        weight
        for weight in step.layer.weights
        if "kernel" in weight.name.rsplit("/", maxsplit=1)[-1]
    )
    return kernel


class _Scale:
    """What stands for the variable of a kernel's scale."""

    def __init__(self, shape: Sequence[int]):
        self.shape = tuple(shape)

    def assign(self, value: np.ndarray) -> None:
        self._value = value

    def numpy(self) -> np.ndarray:
        return self._value


def _rounded(kernel: np.ndarray, layer_class: str, bits: int) -> np.ndarray:
    """A kernel as `quantize_model` quantizes it."""
    state = KernelState(bits, per_channel=layer_class != "Dense")
    state.axes = state.shared_axes(kernel.ndim, layer_class)
    variables = {"scale": _Scale(state.scale_shape(kernel.shape))} if state.has_variable else {}
    state.initialize(kernel, variables)
    codes, scale = state.codes(kernel, variables)
    return codes * scale


def _distance(
    expected: Sequence[Sequence[np.ndarray]],
    outputs: Sequence[Sequence[np.ndarray]],
    distortion: Distortion,
) -> float:
    """The mean distance of all images' outputs, of several outputs their sum."""
    images = sum(len(batch[0]) for batch in expected)
    total = 0.0
    for batch, others in zip(expected, outputs, strict=True):
        for one, other in zip(batch, others, strict=True):
            one, other = one.astype(np.float64), other.astype(np.float64)
            if distortion == "mse":
                total += np.square(one - other).mean(axis=tuple(range(1, one.ndim))).sum()
            else:
                log_p, log_q = _log_softmax(one), _log_softmax(other)
                total += (
                    (np.exp(log_p) * (log_p - log_q))
                    .sum(axis=-1)
                    .mean(axis=tuple(range(1, one.ndim - 1)))
                    .sum()
                )
    return float(total / images)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
