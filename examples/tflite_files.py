"""A trained network's file: written, compared, run in LiteRT, and what accelerators take of it."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console

import export
from export.edge_tpu import preflight
from export.edge_tpu import tables as edge_tpu_tables
from export.ethos_u import compiler
from export.ethos_u import tables as ethos_u_tables
from export.flatbuffer import reader


def deploy(
    quantized: Any, path: str, labels: Sequence[str], images: np.ndarray
) -> export.Verification:
    """Settles a network, writes its file, and prints how it compares and what accelerators take.

    Args:
        quantized: the trained network.
        path: the file to write.
        labels: names of the classes.
        images: float32 [N, H, W, C], to compare the integers on.
    """
    export.settle(quantized)
    content = export.to_tflite(quantized, {"labels": list(labels)}, io="uint8")
    pathlib.Path(path).write_bytes(content)
    # Top-1 of images has no meaning for maps and boxes, so it decides nothing; the integers do.
    verification = export.verify(quantized, path, images, min_agreement=0)
    print(verification)
    print_verdicts(path)
    return verification


def run(path: str, images: np.ndarray) -> dict[str, tuple[np.ndarray, float, int]]:
    """Runs a .tflite file that takes pixels.

    Args:
        path: the file.
        images: uint8 [N, H, W, C].

    Returns:
        By name of the output: its integers [N, ...], the scale and the zero point: the real values
        are (integers - zero point) * scale.
    """
    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    runner = interpreter.get_signature_runner()
    details = runner.get_output_details()
    (name,) = runner.get_input_details()
    assert source["dtype"] == np.uint8
    results = [runner(**{name: image[None]}) for image in images]
    return {
        output: (np.concatenate([result[output] for result in results]), *detail["quantization"])
        for output, detail in details.items()
    }


def print_verdicts(path: str) -> None:
    """Prints what of a file a Coral Edge TPU and, by its compiler, an Arm Ethos-U run."""
    console = Console()
    model = reader.read_path(path)
    edge_tpu_tables.show(console, path, preflight.predict(model), None, None, every=False)
    if not compiler.is_installed():
        console.print(f"Ethos-U: {compiler.MISSING}")
        return
    accelerator = "ethos-u55-256"
    compiled = compiler.compile_model(model, accelerator, *compiler.target(accelerator, None, None))
    ethos_u_tables.show(console, [(path, compiled)], layers=False)
