"""INT4 beside int8: latency, size and integers of networks, and of single layers.

    python -m benchmarks.int4                          # docs/deploy.md: the table of networks
    python -m benchmarks.int4 --layers                 # forms of single convolutions, and the model
    python -m benchmarks.int4 --images=2 --cases=runs/int4 resnet20     # for arm_check.sh

Networks have random weights in 4 bits, activations in 4 bits, calibrated on random images; first
and last layers have 8 bits. Latencies are of one image on one thread with the default kernels, in
turns: each round times every file, and the ratios to int8 are medians over the rounds, with the
10th and 90th percentile. Integers are those of every tensor, with each set of kernels: how many
differ between the INT4 file and the NumPy executor, and between it and the same graph in int8.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import flags
from rich.console import Console
from rich.table import Table

import export
import wrpn_tf
from benchmarks import case_files
from export.flatbuffer import editing, writer
from export.ir.graph import IntegerGraph, as_int8
from export.ir.operators import Conv2D, FullyConnected, Operator
from export.ir.provenance import TRAINED
from export.ir.tensors import Tensor
from export.ir.trained import TrainedKernel
from export.kernel_sets import narrow_weights, rules
from export.realization import im2col
from export.runtime import runner
from train.finishing import reestimate_statistics
from wrpn_tf import QuantizationParameters, command_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network of `wrpn_tf.models`; images have as many pixels a side."""

    title: str
    arch: str
    width: int
    pixels: int


NETWORKS = {
    "resnet20": Network(title="ResNet-20 2x", arch="resnet20", width=2, pixels=32),
    "resnet18": Network(title="ResNet-18", arch="resnet18_post", width=1, pixels=224),
    "mobilenet_v2": Network(title="MobileNetV2", arch="mobilenet_v2", width=1, pixels=224),
}

# Height and width, input channels, output channels, window, strides.
LAYERS = (
    *((32, 32, 32, 3, 1), (56, 64, 64, 3, 1), (16, 64, 64, 3, 1), (28, 128, 128, 3, 1)),
    *((16, 64, 128, 3, 2), (8, 128, 128, 3, 1), (14, 256, 256, 3, 1), (14, 256, 512, 3, 2)),
    *((14, 256, 512, 1, 2), (7, 512, 512, 3, 1), (4, 512, 512, 3, 1)),
)

_LAYERS = flags.DEFINE_bool("layers", False, "Measure single layers instead.")
_IMAGES = flags.DEFINE_integer("images", 1, "Images whose integers are compared.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Rounds of the latencies.", 1)
_SECONDS = flags.DEFINE_float("seconds", 0.1, "How long each file runs in a round.", 0)
_CASES = flags.DEFINE_string(
    "cases", None, "Also write what benchmarks/runtime_check.py compares into this folder."
)


def network(name: str) -> keras.Model:
    """A quantized network with random weights, calibrated."""
    found = NETWORKS[name]
    shape = (found.pixels, found.pixels, 3)
    keras.utils.set_random_seed(0)
    model = wrpn_tf.models.build(found.arch, width=found.width, input_shape=shape)
    model = wrpn_tf.quantize_model(model, 4, 4, input_range=(0, 1))
    images = np.random.default_rng(0).random((8, *shape), np.float32)
    wrpn_tf.calibrate(model, [images])
    reestimate_statistics(model, tf.data.Dataset.from_tensors(images))
    return model


def latencies(files: Mapping[str, bytes]) -> dict[str, list[float]]:
    """Seconds of one image: for each file the median of every round."""
    interpreters = {name: runner.load(file) for name, file in files.items()}
    for interpreter in interpreters.values():
        runner.allocate(interpreter)
        for detail in interpreter.get_input_details():
            codes = np.random.default_rng(0).integers(-128, 128, detail["shape"])
            interpreter.set_tensor(detail["index"], codes.astype(detail["dtype"]))
        runner.invoke(interpreter)
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(_ROUNDS.value):
        for name, interpreter in interpreters.items():
            runs: list[float] = []
            end = time.perf_counter() + _SECONDS.value
            while not runs or time.perf_counter() < end:
                start = time.perf_counter()
                interpreter.invoke()
                runs.append(time.perf_counter() - start)
            seconds[name].append(statistics.median(runs))
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str) -> list[float]:
    """10th percentile, median and 90th of a file's latency by that of int8 in the same round."""
    ratios = np.array(seconds[name]) / np.array(seconds["int8"])
    return np.percentile(ratios, (10, 50, 90)).tolist()


def differences(
    graph: IntegerGraph, inputs: Mapping[str, np.ndarray], kernel_set: str
) -> tuple[int, int, int]:
    """Integers that differ from the executor's, from those of the int8 twin, and of how many."""
    files = [editing.expose_tensors(writer.to_flatbuffer(g)) for g in (graph, as_int8(graph))]
    actual, twin = (runner.run(file, inputs, kernel_set) for file in files)
    expected = export.execute(graph, inputs, kernel_set)
    wrong = sum(int((codes != expected[name]).sum()) for name, codes in actual.items())
    other = sum(int((codes != twin[name]).sum()) for name, codes in actual.items())
    return wrong, other, sum(codes.size for codes in actual.values())


def show_networks(names: list[str], console: Console) -> None:
    """Measures networks and prints their table."""
    table = Table(title="INT4 beside int8")
    for heading in ("network", "weights", "bytes", "ms", "size", "latency", "in INT4", "XNNPACK"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for name in names:
        trained = export.lower(network(name))
        graphs = {weights: export.realize(trained, weights=weights) for weights in ("int8", "int4")}
        files = {weights: writer.to_flatbuffer(graph) for weights, graph in graphs.items()}
        seconds = latencies(files)
        for weights, graph in graphs.items():
            low, middle, high = ratio(seconds, weights)
            narrow = sum(operator.dtype_bits == 4 for operator in graph.weighted)
            table.add_row(
                NETWORKS[name].title,
                weights,
                f"{len(files[weights]):,}",
                f"{statistics.median(seconds[weights]) * 1e3:.3f}",
                f"{len(files[weights]) / len(files['int8']):.2f}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{narrow} of {len(graph.weighted)}",
                f"{runner.delegated_operators(files[weights])} of {len(graph.operators)}",
            )
        graph, pixels = graphs["int4"], NETWORKS[name].pixels
        codes = np.random.default_rng(1).integers(-128, 128, (_IMAGES.value, pixels, pixels, 3))
        inputs = {graph.inputs[0]: codes.astype(np.int8)}
        for kernel_set in rules.KERNEL_SETS:
            wrong, other, total = differences(graph, inputs, kernel_set)
            console.print(
                f"{NETWORKS[name].title}, {kernel_set}: {wrong:,} of {total:,} integers differ "
                f"from the executor, {other:,} from the same graph in int8"
            )
        if _CASES.value:
            case_files.write(pathlib.Path(_CASES.value) / name, graph, inputs[graph.inputs[0]])
    console.print(table)


def forms(size: int, depth: int, channels: int, window: int, stride: int) -> dict[str, bytes]:
    """A convolution in int8, in INT4, and as an INT4 dense layer over its windows, as files."""
    random = np.random.default_rng(0)
    grid = QuantizationParameters.int8(scale=1 / 16, zero_point=-8)
    kernel = TrainedKernel(
        inputs=("image",),
        output="output",
        form=Conv2D,
        codes=random.integers(-7, 8, (channels, window * window * depth)).astype(np.int8),
        window=(window, window),
        parameters=np.zeros(channels, TRAINED),
        strides=(stride, stride),
        padding="SAME",
    )
    integers = {
        "kernel_scale": random.uniform(0.01, 0.02, channels).astype(np.float32),
        "bias": random.integers(-100, 100, channels).astype(np.int32),
    }
    image = Tensor(shape=(1, size, size, depth), quantization=grid)
    shape = kernel.output_shape([image.shape], ())
    output = Tensor(shape=shape, quantization=QuantizationParameters.int8(scale=1.0, zero_point=0))

    def file(operators: list[Operator], tensors: Mapping[str, Tensor]) -> bytes:
        graph = IntegerGraph(
            tensors={"image": image, **tensors, "output": output},
            operators=operators,
            inputs=("image",),
            outputs=("output",),
        )
        return writer.to_flatbuffer(graph)

    written, tensors = im2col.windows(kernel, image, output)
    found = {
        name: file([kernel.operator(Conv2D, kernel.codes, dtype_bits=bits, **integers)], {})
        for name, bits in (("int8", 8), ("INT4", 4))
    }
    dense = kernel.operator(FullyConnected, kernel.codes, dtype_bits=4, **integers)
    dense = dataclasses.replace(dense, inputs=(written[-1].output,))
    return found | {"dense": file([*written, dense], tensors)}


def show_layers(console: Console) -> None:
    """Measures single layers and prints them beside the model of time."""
    table = Table(title="Convolutions, SAME padding: int8 in µs, other forms relative to it")
    for heading in ("layer", "int8", "INT4 CONV_2D", "windows and INT4 dense", "model", "chosen"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for size, depth, channels, window, stride in LAYERS:
        seconds = latencies(forms(size, depth, channels, window, stride))
        model = narrow_weights.relative_time(4, channels, size * size, copies=True)
        table.add_row(
            f"{size}x{size}x{depth} to {channels}, {window}x{window}, stride {stride}",
            f"{statistics.median(seconds['int8']) * 1e6:.0f}",
            f"{ratio(seconds, 'INT4')[1]:.2f}",
            f"{ratio(seconds, 'dense')[1]:.2f}",
            f"{model:.2f}",
            "INT4 dense" if model <= narrow_weights.MOST_TIME else "int8",
        )
    console.print(table)


def main(names: list[str]) -> None:
    """Runs the program."""
    unknown = set(names) - set(NETWORKS)
    if unknown:
        raise ValueError(f"networks are {', '.join(NETWORKS)}, not {', '.join(sorted(unknown))}")
    console = Console()
    if _LAYERS.value:
        show_layers(console)
    else:
        show_networks(names or list(NETWORKS), console)


if __name__ == "__main__":
    command_line.run(main, arguments="[network ...]")
