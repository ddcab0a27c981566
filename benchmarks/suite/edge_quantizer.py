"""AI Edge Quantizer on a float file, in an environment of its own.

    python -m benchmarks.suite.edge_quantizer float.tflite images.npy 4 output.tflite

Weights have so many bits, activations are int8, calibrated on the images.
"""

from __future__ import annotations

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer


def main(model: str, images: str, bits: str, output: str) -> None:
    """Writes the quantized file."""
    ((signature, borders),) = Interpreter(model).get_signature_list().items()
    (name,) = borders["inputs"]
    samples = [{name: image[None]} for image in np.load(images)]
    edge = quantizer.Quantizer(model)
    edge.add_static_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=8,
        weight_num_bits=int(bits),
    )
    edge.quantize(edge.calibrate({signature: samples})).export_model(output, overwrite=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
