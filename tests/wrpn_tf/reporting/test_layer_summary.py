"""The summary's table."""

import io

import numpy as np
import small_models
from rich.console import Console

import wrpn_tf


def printed(model) -> str:
    console = Console(file=io.StringIO(), width=100)
    wrpn_tf.summary(model, console)
    return console.file.getvalue()


def test_a_quantized_model_shows_bits_scales_zeros_and_cost():
    model = wrpn_tf.quantize_model(small_models.tiny(), 2, 4)
    layer = next(layer for layer in wrpn_tf.view(model) if layer.name.endswith("conv2"))
    text = printed(model)
    row = next(line for line in text.splitlines() if "conv2" in line)
    assert "4/2" in row
    assert f"{np.mean(layer.kernel.codes == 0):.1%}" in row
    assert f"{np.min(layer.kernel.scale):.2g} to {np.max(layer.kernel.scale):.2g}" in row
    assert "as shipped" in text


def test_a_float_model_has_no_codes():
    row = next(line for line in printed(small_models.tiny()).splitlines() if "conv2" in line)
    assert row.split()[:2] == ["conv2", "32/32"]
    assert row.count("%") == 1
