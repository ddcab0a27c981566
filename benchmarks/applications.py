"""Widens the networks of tf_keras.applications, quantizes and exports them: a table of what worked.

    python -m benchmarks.applications --factor=2
    python -m benchmarks.applications --networks=VGG16,Xception --markdown

Each network is built without pretrained weights, with random weights and normalization statistics
that fit them. Widened, its logits on random images are compared with the original's: the largest
difference relative to the largest logit. In float32 that is rounding; --dtype=float64 shows how
little else there is. Then the network is quantized to 4-bit weights and activations, calibrated and
exported, and the integers that LiteRT computes are compared with the NumPy executor's in every
tensor. The cost of the quantized network, layer by layer, and its memory are compared with the plan
for them, with both policies of first and last layers. What fails has the reason in its place.
"""

import collections
import dataclasses
import gc
import re
import sys

import numpy as np
import tf_keras as keras
from absl import flags
from rich.console import Console
from rich.table import Table

import export
import wrpn_tf
from export.verification import checks
from wrpn_tf import command_line

# The side of the input in pixels, small for speed, and the range of its values.
NETWORKS = {
    "VGG16": (32, (-1, 1)),
    "ResNet50": (64, (-1, 1)),
    "ResNet50V2": (64, (-1, 1)),
    "InceptionV3": (107, (-1, 1)),
    "Xception": (71, (-1, 1)),
    "DenseNet121": (64, (-1, 1)),
    "MobileNet": (64, (-1, 1)),
    "MobileNetV2": (64, (-1, 1)),
    "MobileNetV3Small": (64, (0, 255)),
    "EfficientNetB0": (64, (0, 255)),
    "NASNetMobile": (64, (-1, 1)),
    "ConvNeXtTiny": (64, (0, 255)),
}
CLASSES = 10

_NETWORKS = flags.DEFINE_list("networks", list(NETWORKS), "Names in tf_keras.applications.")
_FACTOR = flags.DEFINE_float("factor", 2.0, "Factor on the filters.", 1)
_BITS = flags.DEFINE_integer("bits", 4, "Bits of weights and activations.", 1, 8)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float64"], "float64 compares functions and does no more."
)
_IMAGES = flags.DEFINE_integer("images", 4, "Images on which LiteRT is compared.", 1)
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print the rows of a Markdown table.")


@dataclasses.dataclass
class Row:
    """A network's line in the table; what failed has the reason in its place."""

    network: str
    pixels: int
    parameters: str = ""
    difference: str = ""
    quantized: str = ""
    cost: str = ""
    exported: str = ""


def build(network: str, images: np.ndarray, random: np.random.Generator) -> keras.Model:
    """The network with random weights, and normalizations whose statistics fit them."""
    model = getattr(keras.applications, network)(
        weights=None,
        input_shape=images.shape[1:],
        classes=CLASSES,
        classifier_activation=None,
    )
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.Model) and layer.trainable_weights:
            _randomize(layer, random)
    _fit_statistics(model, images)
    return model


def _randomize(layer: keras.layers.Layer, random: np.random.Generator) -> None:
    """He-normal kernels; gains of about 1 and small offsets."""
    for weight in layer.trainable_weights:
        if "gamma" in weight.name:
            values = random.uniform(0.5, 1.5, weight.shape)
        elif weight.shape.rank == 1:
            values = random.normal(0, 0.1, weight.shape)
        else:
            depthwise = "depthwise_kernel" in weight.name
            fan_in = np.prod(weight.shape[:2] if depthwise else weight.shape[:-1])
            values = random.normal(0, (2 / fan_in) ** 0.5, weight.shape)
        weight.assign(values)


def _fit_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Gives batch normalizations the statistics of these images."""
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def relative_difference(model: keras.Model, other: keras.Model, images: np.ndarray) -> float:
    """Largest difference of two models' logits, relative to the largest logit."""
    one, two = (np.asarray(network(images, training=False)) for network in (model, other))
    return float(np.abs(one - two).max() / np.abs(one).max())


def summarize(error: ValueError) -> str:
    """The reasons in a message that lists layers as 'name (Class: reason)', each once."""
    reasons = collections.Counter(re.findall(r"\((\w+: [^()]*)\)", str(error)))
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items()) or str(error)


def compare_costs(model: keras.Model, quantized: keras.Model, policy: str) -> str:
    """Whether the quantized model costs what was planned for the float model."""
    planned = wrpn_tf.measure_cost(
        model, weight_bits=_BITS.value, activation_bits=_BITS.value, policy=policy
    )
    cost = wrpn_tf.measure_cost(quantized)
    one, other = ({layer.name: layer for layer in found.layers} for found in (planned, cost))
    wrong = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    if wrong:
        return f"{policy}: planned {planned.compute:,}, is {cost.compute:,}: {', '.join(wrong)}"
    if planned.memory != cost.memory:
        return f"{policy}: planned {planned.memory}, is {cost.memory}"
    return f"{policy}: {cost.compute:,} as planned"


def deploy(model: keras.Model, images: np.ndarray, row: Row, input_range) -> None:
    """Quantizes and exports a model, and compares LiteRT with NumPy; notes what happened."""
    try:
        quantized = wrpn_tf.quantize_model(model, _BITS.value, _BITS.value, input_range=input_range)
    except ValueError as error:
        row.quantized = summarize(error)
        return
    costs = [compare_costs(model, quantized, "integer")]
    paper = wrpn_tf.quantize_model(model, _BITS.value, _BITS.value, first_last="paper")
    costs.append(compare_costs(model, paper, "paper"))
    row.cost = "; ".join(costs)
    wrpn_tf.calibrate(quantized, [images])
    row.quantized = "yes"
    try:
        graph = export.realize(export.lower(quantized))
        file = export.to_tflite(quantized)
    except export.LoweringError as error:
        row.exported = summarize(error)
        return
    grid = graph.tensors[graph.inputs[0]].quantization
    codes = np.clip(np.rint(images[: _IMAGES.value] / grid.scale) + grid.zero_point, -128, 127)
    differences, _ = checks.compare_with_executor(graph, file, codes.astype(np.int8), "xnnpack")
    total = sum(entry.total for entry in differences.values())
    different = sum(entry.different for entry in differences.values())
    row.exported = f"{len(file) / 2**20:.1f} MiB; {different:,} of {total:,} integers differ"


def measure(network: str) -> Row:
    """Widens, quantizes and exports a network."""
    pixels, input_range = NETWORKS[network]
    random = np.random.default_rng(0)
    images = random.uniform(*input_range, (16, pixels, pixels, 3)).astype(_DTYPE.value)
    row = Row(network=network, pixels=pixels)
    model = build(network, images, random)
    row.parameters = f"{model.count_params() / 1e6:.1f} M"
    try:
        widened = wrpn_tf.widen(model, _FACTOR.value, seed=0)
    except ValueError as error:
        row.difference = summarize(error)
        return row
    row.parameters += f" → {widened.count_params() / 1e6:.1f} M"
    row.difference = f"{relative_difference(model, widened, images):.1e}"
    if _DTYPE.value == "float32":
        deploy(widened, images, row, input_range)
    return row


def main() -> None:
    """Runs the program."""
    unknown = sorted(set(_NETWORKS.value) - set(NETWORKS))
    if unknown:
        raise ValueError(f"unknown networks {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    keras.backend.set_floatx(_DTYPE.value)
    rows = []
    for network in _NETWORKS.value:
        rows.append(dataclasses.astuple(measure(network)))
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
        keras.backend.clear_session()
        gc.collect()
    if _MARKDOWN.value:
        print(*(f"| {' | '.join(map(str, row))} |" for row in rows), sep="\n")
        return
    bits = f"{_BITS.value}/{_BITS.value}"
    table = Table(title=f"tf_keras.applications, widened by {_FACTOR.value:g}", show_lines=True)
    for heading in (
        "network",
        "pixels",
        "parameters",
        "difference",
        f"quantized {bits}",
        "cost",
        "file",
    ):
        table.add_column(heading)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


if __name__ == "__main__":
    command_line.run(main)
