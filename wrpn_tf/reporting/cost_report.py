"""What a network costs at given widths and bits, as facts, as CSV and as tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from wrpn_tf import models
from wrpn_tf.costs.network_cost import Cost, LayerCost, measure_cost
from wrpn_tf.costs.policy import Policy
from wrpn_tf.reporting.rendering import byte_count, compact_table, scaled, shape_text
from wrpn_tf.terminal import cell

_FACTS = ("fmas", "cost", "bit_operations", "weights", "weight_bytes", "shipped_bytes")

_HEADERS = ("FMAs", "cost", "bit ops", "at k bits", "as int8")
_CAPTION = (
    "One image. A/W: bits of the layer's input and of its weights. Cost: FMAs x (A + W), relative "
    "to the network at width 1 in float32. Bit ops: FMAs x A x W. At k bits, as int8: weights as "
    "trained and as shipped, there with biases."
)


def report(
    arch: str,
    *,
    width: float,
    wbits: int,
    abits: int,
    policy: Policy,
    batch_sizes: Sequence[int] = (1,),
    **options: Any,
) -> dict[str, Any]:
    """The network's totals, its layers and its memory by batch size, ready for JSON.

    Args:
      arch: a key of `models.ARCHITECTURES`.
      width: factor on the filters.
      wbits: weight bits, 1 to 8 or 32.
      abits: activation bits, 1 to 8 or 32.
      policy: see `measure_cost`.
      batch_sizes: of the memory; everything else is for one image.
      **options: of `models.build`.

    Raises:
      ValueError: as `models.build` and `measure_cost`.
    """
    model = models.skeleton(arch, width=width, **options)
    bits = {"weight_bits": wbits, "activation_bits": abits}
    cost = measure_cost(model, policy=policy, **bits)
    memories = [measure_cost(model, batch, policy=policy, **bits).memory for batch in batch_sizes]
    baseline = measure_cost(models.skeleton(arch, **options), policy=policy)
    return {
        "arch": arch,
        "width": width,
        "wbits": wbits,
        "abits": abits,
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
    table.add_column("A/W", justify="right", no_wrap=True)
    for header, text in zip(_HEADERS, _cells(total), strict=True):
        table.add_column(header, text, justify="right", no_wrap=True)
    for layer in facts["layers"]:
        bits = f"{layer['abits']}/{layer['wbits']}"
        table.add_row(cell(layer["name"]), bits, *_cells(layer))
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
