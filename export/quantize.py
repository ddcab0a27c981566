"""Quantizes a saved float model: calibrated, and on demand exported and verified.

    python -m export.quantize --model=net.keras --wbits=4 --abits=4 --input_range=0,1 --images=x.npy
    python -m export.quantize --model=net.keras --input_range=-1,1 --images=photos --output=x.tflite
    python -m export.quantize --model=net.keras --rules=rules.json --input_range=0,1 --images=photos

Writes the quantized network as a .keras file of the model's own Keras, for `wrpn_tf.load_model`,
for training or for `wrpn report`. With `--output` the network is settled and exported as well, and
both files are written only if the .tflite file is verified on the images. 8 bits seldom need
training; fewer do.
"""

from __future__ import annotations

import pathlib
import sys
import warnings
from typing import TYPE_CHECKING, Any, get_args

from absl import flags

import wrpn_tf
from export.tools import model_images
from wrpn_tf import command_line, methods
from wrpn_tf.files import replacing, require_writable, write_bytes
from wrpn_tf.terminal import printable

if TYPE_CHECKING:
    import numpy as np

_MODEL = flags.DEFINE_string(
    "model", None, "The float model: a .keras file, or a .h5 file of tf_keras.", required=True
)
_QUANTIZED = flags.DEFINE_string(
    "quantized",
    None,
    "The .keras file to write; default: beside the model, as net-w4a4.keras, "
    "or net-w4a4-rules.keras.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Also write this .tflite file, uint8 at its ends, once verified."
)
_WBITS = flags.DEFINE_integer("wbits", 8, "Weight bits, 1 to 8; 32 leaves weights in float.")
_ABITS = flags.DEFINE_integer("abits", 8, "Activation bits, 1 to 8; 32 leaves them in float.")
_RULES = flags.DEFINE_string(
    "rules",
    None,
    "JSON file of bits for single layers, as `wrpn choose` writes it: they go before --wbits, "
    "--abits and --first_last.",
)
_METHOD = flags.DEFINE_enum(
    "method",
    "learned",
    get_args(methods.Method),
    "Where quantizer scales come from: learned in training, calibrated once, or fixed at 1 as in "
    "the paper.",
)
_PER_CHANNEL = flags.DEFINE_boolean(
    "per_channel", True, "A scale for each output channel of a convolution, or one for its kernel."
)
_FIRST_LAST = flags.DEFINE_enum(
    "first_last",
    "integer",
    ["integer", "paper"],
    "First and last layer: in 8 bits (integer) or in float (paper).",
)
_RANGE = flags.DEFINE_list(
    "input_range",
    None,
    "What the pixels 0 and 255 are to the model, as 0,255 or 0,1 or -1,1; without it the range of "
    "the images is taken, and devices are fed codes of it.",
)
_IMAGES = flags.DEFINE_string(
    "images",
    None,
    "Images to calibrate and verify with: an .npy file, uint8 pixels or floats as the model takes "
    "them, or a folder of image files.",
)
_SAMPLE = flags.DEFINE_integer("sample", 512, "Images to take of them, spread evenly.", 1)


def main() -> int:
    """Runs the program; returns 1 if the .tflite file is not verified."""
    quantized = _check_paths()
    rules = wrpn_tf.read_rules(_RULES.value) if _RULES.value is not None else ()
    source, input_range = model_images.of_flags(_IMAGES.value, _RANGE.value)
    require_writable(quantized, *filter(None, [_OUTPUT.value]))

    model = wrpn_tf.load_model(_MODEL.value)
    images = None
    if source:
        if len(model.inputs) != 1:
            raise ValueError(
                f"{_MODEL.value} has {len(model.inputs)} inputs, and --images are of one: use "
                "wrpn_tf.quantize_model and wrpn_tf.calibrate"
            )
        images = source.read(tuple(model.inputs[0].shape[1:]), _SAMPLE.value, input_range)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        network = wrpn_tf.quantize_model(
            model,
            _WBITS.value,
            _ABITS.value,
            rules,
            first_last=_FIRST_LAST.value,
            method=_METHOD.value,
            per_channel=_PER_CHANNEL.value,
            input_range=input_range,
        )
        if images is not None:
            wrpn_tf.calibrate(network, images)
        content = None
        if _OUTPUT.value:
            assert images is not None
            content = _exported(network, images)
    for warning in caught:
        if warning.category is UserWarning:
            print(f"note: {printable(str(warning.message))}", file=sys.stderr)
    if _OUTPUT.value and content is None:
        print("nothing was written", file=sys.stderr)
        return 1
    with replacing(quantized) as partial:
        network.save(partial)
    print(f"{quantized}: {_description(model, network, images)}")
    if content is not None:
        write_bytes(_OUTPUT.value, content)
        print(f"{_OUTPUT.value}: {len(content):,} bytes, verified")
    return 0


def _check_paths() -> pathlib.Path:
    """The .keras file to write; raises ValueError for paths that cannot be meant."""
    for flag in (_WBITS, _ABITS):
        if flag.value not in (*range(1, 9), 32):
            raise ValueError(f"--{flag.name} must be 1 to 8, or 32 for no quantization")
    model = pathlib.Path(_MODEL.value)
    if not model.exists():
        raise ValueError(f"--model: there is no file {model}")
    bits = f"w{_WBITS.value}a{_ABITS.value}"
    if _RULES.value:
        bits += f"-{pathlib.Path(_RULES.value).stem}"
    named = model if model.name else model.resolve()  # The folder of a SavedModel may be `.`.
    quantized = pathlib.Path(_QUANTIZED.value or named.parent / f"{named.stem}-{bits}.keras")
    command_line.require_ending(_QUANTIZED, ".keras")
    if quantized.resolve() == model.resolve():
        raise ValueError(f"--quantized={quantized} is the float model itself")
    if not _OUTPUT.value:
        return quantized
    command_line.require_ending(_OUTPUT, ".tflite")
    if not _IMAGES.value:
        raise ValueError("--output needs --images, to calibrate with and to verify the file on")
    if _FIRST_LAST.value == "paper" or 32 in (_WBITS.value, _ABITS.value):
        raise ValueError(
            "--output is a file of integers: it takes --first_last=integer, and 1 to 8 bits"
        )
    return quantized


def _exported(network: Any, images: np.ndarray) -> bytes | None:
    """The network, settled, as a .tflite file; None if it is not verified."""
    from rich.console import Console

    import export

    export.settle(network)
    content = export.to_tflite(network, io="uint8")
    verification = export.verify(network, content, images)
    Console().print(verification)
    return content if verification.verified else None


def _description(model: Any, network: Any, images: np.ndarray | None) -> str:
    """How far the quantized network is from the float one."""
    bits = f"{_WBITS.value}-bit weights, {_ABITS.value}-bit activations"
    if _RULES.value:
        bits += f" but where {printable(_RULES.value)} says otherwise"
    if images is None:
        return f"{bits}; not calibrated: train it, or give --images"

    import numpy as np

    tops = []
    for each in (model, network):
        parts = [wrpn_tf.infer(each, x)[0] for x, _ in wrpn_tf.batches(each, images)]
        outputs = np.concatenate(parts)
        if outputs.shape[-1] < 2:
            return f"{bits}; calibrated on {len(images):,} images"
        tops.append(outputs.argmax(axis=-1))
    same = float(np.mean(tops[0] == tops[1]))
    return f"{bits}; calibrated on {len(images):,} images, top-1 is the float one on {same:.2%}"


if __name__ == "__main__":
    command_line.run(main)
