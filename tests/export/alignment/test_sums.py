"""Settling of sums: every pair of codes, every kernel, and what may not move."""

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from tf_keras import layers

import export
import wrpn_tf
from export.alignment.sums import settle_output_scales
from export.kernel_sets import addition


def network(seed: int, **options: object) -> keras.Model:
    """A sum that a convolution reads, a difference with a ReLU, and a sum that a pool averages."""
    image = keras.Input((5, 5, 3), name="image")
    one, two, three = (layers.Conv2D(4, 3, padding="same", name=name)(image) for name in "abc")
    total = layers.Add(name="sum")([one, two])
    less = layers.ReLU(name="less")(layers.Subtract(name="difference")([total, three]))
    branch = layers.Conv2D(4, 1, name="branch")(total)
    last = layers.Add(name="last")([less, branch])
    x = layers.GlobalAveragePooling2D(name="pool")(last)
    model = keras.Model(image, layers.Dense(3, name="logits")(x))
    small_networks.randomize(model, seed)
    return small_networks.quantize(model, seed, weight_bits=4, **options)


def wrong_pairs(model: keras.Model) -> dict[str, int]:
    """Pairs of codes that some kernel does not compute as trained, by the sum's name."""
    rows = export.prove(model).operators
    return {
        row.name: max(row.different.values()) for row in rows if row.kind in ("Add", "Subtract")
    }


def grids(model: keras.Model) -> dict[str, wrpn_tf.QuantizationParameters]:
    return {view.name: view.grid for view in wrpn_tf.view(model) if view.grid is not None}


@pytest.mark.parametrize("seed", range(4))
def test_every_pair_of_codes_is_exact_with_every_kernel(seed: int) -> None:
    model = network(seed, activation_bits=8)
    before, trained = wrong_pairs(model), grids(model)
    assert len(before) == 3
    assert any(before.values())
    assert settle_output_scales(model, export.lower(model))
    assert not any(wrong_pairs(model).values())
    moved = {name for name, grid in grids(model).items() if grid != trained[name]}
    assert 0 < len(moved) <= 3
    for name, grid in grids(model).items():
        assert grid.low == trained[name].low
        assert abs(grid.scale / trained[name].scale - 1) <= 2.0**-8 * 1.001
    assert not settle_output_scales(model, export.lower(model))


def test_scales_that_the_method_fixes_stay() -> None:
    model = network(0, activation_bits=4, activation_method="paper")
    settle_output_scales(model, export.lower(model))
    assert grids(model)["quant_less"].scale == pytest.approx(1 / 15)


@pytest.mark.parametrize(("needed", "serves"), [(0.97 * 2.0**-8, True), (1.03 * 2.0**-8, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_scales_move_by_at_most_a_256th(
    sign: int, needed: float, serves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kernels that have every code wrong until the scale has moved far enough."""
    image = keras.Input((2, 2, 3), name="image")
    one, two = (layers.Conv2D(4, 1, activation="relu", name=name)(image) for name in "ab")
    model = keras.Model(image, layers.Add(name="sum")([one, two]))
    small_networks.randomize(model, 0)
    model = small_networks.quantize(model, 0, activation_bits=2)
    before, graph, add_codes = (
        grids(model)["quant_sum"].scale,
        export.lower(model),
        addition.add_codes,
    )

    def stubborn(operator, left, right, tensors, kernels):
        codes = add_codes(operator, left, right, tensors, kernels)
        far = sign * (tensors[2].scale / before - 1) >= needed
        return codes if far else np.bitwise_xor(codes, 1)

    monkeypatch.setattr(addition, "add_codes", stubborn)
    settle_output_scales(model, graph)
    share = sign * (grids(model)["quant_sum"].scale / before - 1)
    assert abs(share) <= 2.0**-8 * 1.001
    assert (share >= needed) == serves
