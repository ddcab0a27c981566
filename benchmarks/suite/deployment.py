"""The claims on files: how long they take to make, how fast and how large they are."""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.suite import environments
from benchmarks.suite.environments import UnavailableError
from benchmarks.suite.networks import NETWORKS, Network
from benchmarks.suite.settings import Row, Settings, quartiles

_ROOT = pathlib.Path(__file__).parents[2]
_EDGE_QUANTIZER = ("ai-edge-quantizer",)
_SAMPLES = 8
FLOAT = "converter, float"


def export_rows(network: str, settings: Settings) -> list[Row]:
    """Seconds from a network to its file, in steps, and of the converters: quartiles."""
    chosen = NETWORKS[network]
    steps: dict[str, list[float]] = {}
    for _ in range(settings.exports):
        for step, seconds in _export_steps(chosen):
            steps.setdefault(step, []).append(seconds)
    return [
        {"network": network, "step": step, "seconds": times, "quartiles": quartiles(times)}
        for step, times in steps.items()
    ]


def latency_rows(network: str, settings: Settings) -> list[Row]:
    """Bytes and latency of files of one network, on one thread with the default kernels, in turns.

    'to_float' is the ratio to the float file's latency: quartiles over the rounds, of the median
    of each.
    """
    from export.flatbuffer import reader
    from export.tools.benchmarking import measure

    files, rows = _files(NETWORKS[network]), []
    for bits in () if settings.alone else (8, 4):
        name = f"AI Edge Quantizer, {bits}-bit weights"
        try:
            python = environments.python(settings.environments, _EDGE_QUANTIZER)
            files[name] = _edge_quantized(python, files[FLOAT], NETWORKS[network], bits)
        except UnavailableError as error:
            rows.append({"network": network, "file": name, "reason": str(error)})
    measured, problems = measure(
        {name: reader.read(file) for name, file in files.items()},
        ["xnnpack"],
        [1],
        rounds=settings.rounds,
        runs=settings.steps,
    )
    assert not problems
    medians = {
        row.model: np.median(np.reshape(row.milliseconds, (settings.rounds, -1)), 1).tolist()
        for row in measured
    }
    return [
        {
            "network": network,
            "file": name,
            "bytes": len(files[name]),
            "milliseconds": times,
            "to_float": quartiles(times, medians[FLOAT]),
        }
        for name, times in medians.items()
    ] + rows


def _export_steps(network: Network) -> Iterator[tuple[str, float]]:
    """Each step with its seconds."""
    import export

    def timed(step: Callable[[], Any]) -> tuple[Any, float]:
        start = time.perf_counter()
        return step(), time.perf_counter() - start

    model = network.build("tf_keras")
    quantized, seconds = timed(lambda: _quantized(model, network))
    yield "ours: quantize and calibrate", seconds
    yield "ours: settle", timed(lambda: export.settle(quantized, progress=False))[1]
    yield "ours: export", timed(lambda: export.to_tflite(quantized, io="int8"))[1]
    yield FLOAT, timed(lambda: _converted(model))[1]
    yield "converter, post-training int8", timed(lambda: _post_training(model, network))[1]


def _files(network: Network) -> dict[str, bytes]:
    """Files of one network by name; all but the float one have int8 inputs and outputs."""
    import tensorflow_model_optimization as tfmot

    import export

    model = network.build("tf_keras")
    quantized = _quantized(model, network)
    files = {FLOAT: _converted(model)}
    for weights in ("int8", "int4"):
        export.settle(quantized, weights=weights, progress=False)
        files[f"ours, 4/4, {weights} weights"] = export.to_tflite(
            quantized, weights=weights, io="int8"
        )
    files["TF-MOT, int8"] = _converted(
        tfmot.quantization.keras.quantize_model(model), _all_integers
    )
    files["converter, post-training int8"] = _post_training(model, network)
    return files


def _quantized(model: Any, network: Network) -> Any:
    import wrpn_tf

    quantized = wrpn_tf.quantize_model(model, 4, 4, input_range=(0, 1))
    wrpn_tf.calibrate(quantized, [network.images(_SAMPLES)])
    return quantized


def _converted(model: Any, configure: Callable[[Any], None] = lambda converter: None) -> bytes:
    """What TensorFlow's converter writes."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    configure(converter)
    return converter.convert()


def _all_integers(converter: Any) -> None:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8


def _post_training(model: Any, network: Network) -> bytes:
    def configure(converter: Any) -> None:
        _all_integers(converter)
        samples = network.images(_SAMPLES)
        converter.representative_dataset = lambda: ([image[None]] for image in samples)

    return _converted(model, configure)


def _edge_quantized(python: str, file: bytes, network: Network, bits: int) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "float.tflite").write_bytes(file)
        np.save(folder / "images.npy", network.images(_SAMPLES))
        arguments = (folder / "float.tflite", folder / "images.npy", bits, folder / "out.tflite")
        done = subprocess.run(
            [python, "-m", "benchmarks.suite.edge_quantizer", *map(str, arguments)],
            cwd=_ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UnavailableError(environments.last_line(done.stderr))
        return (folder / "out.tflite").read_bytes()
