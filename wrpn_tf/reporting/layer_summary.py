"""A quantized model at a glance: bits, scales, zero codes and cost of each layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console

from wrpn_tf.costs.network_cost import measure_cost
from wrpn_tf.graph.views import KernelCodes
from wrpn_tf.quantization.inspection import view
from wrpn_tf.reporting.rendering import byte_count, compact_table, scaled
from wrpn_tf.terminal import cell


def summary(model: Any, console: Console | None = None) -> None:
    """Prints a table of the layers with kernels, and the totals.

    Bits of each layer's input and kernel, the smallest and largest scale of its kernel's channels,
    the share of its codes that are 0, its multiply-accumulates for one image and its share of the
    network's cost. A float model has 32 bits and no codes.

    Args:
      model: built Sequential or Functional model, quantized or float.
      console: where to print; None for the standard output.

    Raises:
      ValueError: as `measure_cost`.
    """
    cost = measure_cost(model)
    kernels = {layer.layer.name: layer.kernel for layer in view(model)}
    table = compact_table(
        model.name,
        show_footer=True,
        caption=(
            "A/W: bits of the layer's input and of its weights. Scale: of the weights, over "
            "channels. Zero: share of weight codes that are 0. Cost: share of FMAs x (A + W)."
        ),
    )
    known = [kernel for kernel in kernels.values() if kernel is not None]
    footers = ("total", "", "", _zero_share(known), scaled(cost.fmas), "100%")
    headers = ("layer", "A/W", "scale", "zero", "FMAs", "cost")
    for header, footer in zip(headers, footers, strict=True):
        table.add_column(
            header, footer, justify="left" if header == "layer" else "right", overflow="fold"
        )
    for layer in cost.layers:
        kernel = kernels.get(layer.name)
        table.add_row(
            cell(layer.name),
            f"{layer.activation_bits}/{layer.weight_bits}",
            _scale_range(kernel) if kernel else "",
            _zero_share([kernel] if kernel else []),
            scaled(layer.fmas),
            f"{layer.compute / cost.compute:.1%}",
        )
    console = console or Console()
    console.print(table)
    console.print(
        f"{scaled(cost.weights)} weights: {byte_count(cost.weight_bytes)} as trained, "
        f"{byte_count(cost.shipped_bytes)} as shipped. "
        f"{scaled(cost.bit_operations)} bit operations for an image."
    )


def _scale_range(kernel: KernelCodes) -> str:
    low, high = float(np.min(kernel.scale)), float(np.max(kernel.scale))
    return f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"


def _zero_share(kernels: list[KernelCodes]) -> str:
    if not kernels:
        return ""
    zeros = sum(int(np.count_nonzero(kernel.codes == 0)) for kernel in kernels)
    return f"{zeros / sum(kernel.codes.size for kernel in kernels):.1%}"
