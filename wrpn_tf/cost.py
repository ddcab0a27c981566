"""The cost of a network at given widths and bits.

    python -m wrpn_tf.cost --arch=resnet34 --width=2 --wbits=2 --abits=4 --policy=paper

Per layer and in total: multiply-accumulates (FMAs); WRPN's cost, FMAs x (bits_A + bits_W), relative
to the same network at width 1 in float32; bit operations, FMAs x bits_A x bits_W; weight bytes at
the trained bits and as shipped (int8); activation memory of training and inference by batch size.
Nothing is trained or quantized, and no weight is stored: it takes seconds for any network.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

from absl import app, flags
from rich.console import Console

from wrpn_tf import models, quantizers
from wrpn_tf.layer_cost import Cost, LayerCost, measure_cost
from wrpn_tf.rendering import byte_count, compact_table, scaled, shape_text

_ARCH = flags.DEFINE_enum("arch", "resnet34", list(models.ARCHITECTURES), "Network.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Factor on the filters, at least 0.25.")
_WBITS = flags.DEFINE_integer("wbits", 32, "Weight bits: 1 to 8, or 32 for float.")
_ABITS = flags.DEFINE_integer("abits", 32, "Activation bits: 1 to 8, or 32 for float.")
_POLICY = flags.DEFINE_enum(
    "policy",
    "paper",
    ["paper", "integer", "uniform", "interior"],
    "First and last layer: paper: float; integer: 8 bits; uniform: like all others; interior: not "
    "counted.",
)
_BATCH_SIZE = flags.DEFINE_list(
    "batch_size", ["1", "32"], "Batch sizes of the memory, with commas."
)
_CLASSES = flags.DEFINE_integer("num_classes", None, "Classes; the network's own if left out.", 1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Height and width of images.", 1)
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "csv", "json"], "Form of the output.")
_FACTS = ("fmas", "cost", "bit_operations", "weights", "weight_bytes", "shipped_bytes")

_HEADERS = ("FMAs", "cost", "bit ops", "at k bits", "as int8")
_CAPTION = (
    "One image. A/W: bits of the layer's input and of its weights. Cost: FMAs x (A + W), relative "
    "to the network at width 1 in float32. Bit ops: FMAs x A x W. At k bits, as int8: weights as "
    "trained and as shipped, there with biases."
)


def report() -> dict[str, Any]:
    """What the flags ask for: the network's facts, totals, layers, and memory by batch size."""
    batches = _batch_sizes()
    shape = (_IMAGE_SIZE.value, _IMAGE_SIZE.value, 3) if _IMAGE_SIZE.value else None
    options: dict[str, Any] = {"num_classes": _CLASSES.value, "input_shape": shape}
    bits = {"weight_bits": _WBITS.value, "activation_bits": _ABITS.value}
    policy = _POLICY.value
    baseline = measure_cost(models.skeleton(_ARCH.value, **options), policy=policy)
    model = models.skeleton(_ARCH.value, width=_WIDTH.value, **options)
    cost = measure_cost(model, policy=policy, **bits)
    memories = [measure_cost(model, batch, policy=policy, **bits).memory for batch in batches]
    return {
        "arch": _ARCH.value,
        "width": _WIDTH.value,
        "wbits": _WBITS.value,
        "abits": _ABITS.value,
        "policy": policy,
        "input_shape": list(model.input_shape[1:]),
        "total": _facts(cost, baseline),
        "layers": [
            {"name": layer.name, "shape": list(layer.shape)}
            | {"wbits": layer.weight_bits, "abits": layer.activation_bits}
            | _facts(layer, baseline)
            for layer in cost.layers
        ],
        "memory": [
            {
                "batch_size": memory.batch_size,
                "training_bytes": memory.training,
                "training_activation_share": memory.training_share,
                "inference_bytes": memory.inference,
                "inference_activation_share": memory.inference_share,
            }
            for memory in memories
        ],
    }


def _batch_sizes() -> list[int]:
    sizes = [int(size) if size.isdecimal() else 0 for size in _BATCH_SIZE.value]
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"--batch_size must be positive integers with commas; got {','.join(_BATCH_SIZE.value)}"
        )
    return sizes


def _facts(part: Cost | LayerCost, baseline: Cost) -> dict[str, float]:
    return {
        "fmas": part.fmas,
        "cost": part.compute / baseline.compute,
        "bit_operations": part.bit_operations,
        "weights": part.weights,
        "weight_bytes": part.weight_bytes,
        "shipped_bytes": part.shipped_bytes,
    }


def to_csv(facts: dict[str, Any]) -> str:
    """One line for each layer and one for the total."""
    text = io.StringIO()
    columns = ("name", "shape", "wbits", "abits", *_FACTS)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for layer in facts["layers"]:
        writer.writerow(layer | {"shape": shape_text(layer["shape"])})
    writer.writerow({"name": "total"} | facts["total"])
    return text.getvalue()


def print_tables(facts: dict[str, Any], console: Console) -> None:
    """Layers and total, and memory by batch size."""
    title = "{arch} {width:g}x, {wbits}-bit weights, {abits}-bit activations, {policy} policy"
    table = compact_table(title.format(**facts), caption=_CAPTION, show_footer=True)
    total = facts["total"]
    table.add_column("layer", "total", overflow="fold")
    for header in ("output", "A/W"):
        table.add_column(header, justify="right", no_wrap=True)
    for header, text in zip(_HEADERS, _cells(total), strict=True):
        table.add_column(header, text, justify="right", no_wrap=True)
    for layer in facts["layers"]:
        bits = f"{layer['abits']}/{layer['wbits']}"
        table.add_row(layer["name"], shape_text(layer["shape"]), bits, *_cells(layer))
    console.print(table)
    memory = compact_table("Memory (activation share)")
    for header in ("batch", "training", "inference"):
        memory.add_column(header, justify="right")
    for row in facts["memory"]:
        memory.add_row(
            str(row["batch_size"]),
            *(
                f"{byte_count(row[f'{use}_bytes'])} ({row[f'{use}_activation_share']:.1%})"
                for use in ("training", "inference")
            ),
        )
    console.print(memory)


def _cells(facts: dict[str, float]) -> list[str]:
    return [
        scaled(facts["fmas"]),
        f"{facts['cost']:.4f}",
        scaled(facts["bit_operations"]),
        byte_count(facts["weight_bytes"]),
        byte_count(facts["shipped_bytes"]),
    ]


def main(argv: list[str]) -> None:
    """Runs the program."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected argument {argv[1]!r}; options are written --name=value")
    try:
        for flag in (_WBITS, _ABITS):
            quantizers.check_bits(flag.value, f"--{flag.name}")
        facts = report()
    except ValueError as error:
        sys.exit(f"error: {error}")
    if _FORMAT.value == "json":
        print(json.dumps(facts, indent=2))
    elif _FORMAT.value == "csv":
        print(to_csv(facts), end="")
    else:
        print_tables(facts, Console())


if __name__ == "__main__":
    app.run(main)
