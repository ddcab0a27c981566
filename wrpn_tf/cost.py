"""The cost of a network at given widths and bits.

    python -m wrpn_tf.cost --arch=resnet34 --width=2 --wbits=2 --abits=4 --policy=paper

Per layer and in total: multiply-accumulates (FMAs); WRPN's cost, FMAs x (bits_A + bits_W), relative
to the same network at width 1 in float32; bit operations, FMAs x bits_A x bits_W; weight bytes at
the trained bits and as shipped (int8); activation memory of training and inference by batch size.
Nothing is trained or quantized, and no weight is stored: it takes seconds for any network.
"""

from __future__ import annotations

import json
from typing import get_args

from absl import flags
from rich.console import Console

from wrpn_tf import command_line, models
from wrpn_tf.arithmetic.bits import check_bits
from wrpn_tf.costs.policy import Policy

_ARCH = flags.DEFINE_enum("arch", "resnet34", list(models.ARCHITECTURES), "Network.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Factor on the filters, at least 0.25.")
_WBITS = flags.DEFINE_integer("wbits", 32, "Weight bits: 1 to 8, or 32 for float.")
_ABITS = flags.DEFINE_integer("abits", 32, "Activation bits: 1 to 8, or 32 for float.")
_POLICY = flags.DEFINE_enum(
    "policy",
    "paper",
    get_args(Policy),
    "First and last layer: paper: float; integer: 8 bits; uniform: like all others; interior: not "
    "counted.",
)
_BATCH_SIZE = flags.DEFINE_list(
    "batch_size", ["1", "32"], "Batch sizes of the memory, with commas."
)
_CLASSES = flags.DEFINE_integer("num_classes", None, "Classes; the network's own if left out.", 1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Height and width of images.", 1)
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "csv", "json"], "Form of the output.")


def _batch_sizes() -> list[int]:
    sizes = [int(size) if size.isdecimal() else 0 for size in _BATCH_SIZE.value]
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"--batch_size must be positive integers with commas; got {','.join(_BATCH_SIZE.value)}"
        )
    return sizes


def main() -> None:
    """Runs the program."""
    for flag in (_WBITS, _ABITS):
        check_bits(flag.value, f"--{flag.name}")
    batch_sizes, size = _batch_sizes(), _IMAGE_SIZE.value

    from wrpn_tf.reporting.cost_report import print_tables, report, to_csv

    channels = models.skeleton(_ARCH.value).input_shape[-1] if size else None
    facts = report(
        _ARCH.value,
        width=_WIDTH.value,
        wbits=_WBITS.value,
        abits=_ABITS.value,
        policy=_POLICY.value,
        batch_sizes=batch_sizes,
        num_classes=_CLASSES.value,
        input_shape=(size, size, channels) if size else None,
    )
    if _FORMAT.value == "json":
        print(json.dumps(facts, indent=2))
    elif _FORMAT.value == "csv":
        print(to_csv(facts), end="")
    else:
        print_tables(facts, Console())


if __name__ == "__main__":
    command_line.run(main)
