"""Learning rates at single steps, and how strong the decay of weights is."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from train.config import Config
from train.optimizers import learning_rate, make_optimizer


def config(**options: Any) -> Config:
    base = {"workdir": "", "dataset": "digits", "arch": "digits_cnn", "learning_rate": 0.1}
    return Config(**base | options)


def rates(steps: list[int], **options: Any) -> list[float]:
    """The rates at some steps, of a training of 10 steps an epoch."""
    schedule = learning_rate(config(**options), 10)
    return [float(schedule(step)) for step in steps]


def test_a_cosine_falls_to_0_behind_a_linear_warm_up() -> None:
    """5 steps up, then half a period over 15: (1 + cos(pi / 3)) / 2 is 3/4."""
    found = rates([0, 1, 4, 5, 10, 15, 20, 30], epochs=2, warmup_epochs=0.5)
    expected = [0, 0.02, 0.08, 0.1, 0.075, 0.025, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_a_cosine_without_a_warm_up_starts_at_its_peak() -> None:
    found = rates([0, 5, 10, 15, 20], epochs=2, warmup_epochs=0.0)
    expected = [0.1, 0.0853553, 0.05, 0.0146447, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_steps_decay_at_the_first_step_after_their_epochs() -> None:
    steps = {"schedule": "step", "epochs": 4, "decay_epochs": (2, 3), "decay_factor": 0.2}
    found = rates([0, 19, 20, 29, 30, 39], warmup_epochs=0.0, **steps)
    np.testing.assert_allclose(found, [0.1, 0.1, 0.02, 0.02, 0.004, 0.004], rtol=1e-5)
    found = rates([0, 1, 5, 9, 10, 19, 20, 30], warmup_epochs=1.0, **steps)
    expected = [0, 0.01, 0.05, 0.09, 0.1, 0.1, 0.02, 0.004]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_warm_up_may_be_a_part_of_an_epoch_and_reach_into_a_decay() -> None:
    steps = {"schedule": "step", "epochs": 3, "decay_epochs": (1,), "warmup_epochs": 1.6}
    np.testing.assert_allclose(rates([8, 12, 16], **steps), [0.05, 0.0075, 0.01], rtol=1e-5)


def test_a_warm_up_has_a_whole_number_of_steps() -> None:
    """The nearest: 2.9 are 3, and 0.4 are none."""
    steps = {"schedule": "step", "epochs": 2, "decay_epochs": (1,)}
    np.testing.assert_allclose(
        rates([1, 2, 3], warmup_epochs=0.29, **steps), [0.1 / 3, 0.2 / 3, 0.1]
    )
    for options in ({}, steps):
        assert rates([0], warmup_epochs=0.04, **options) == [np.float32(0.1)]


@pytest.mark.parametrize("schedule", [{}, {"schedule": "step", "decay_epochs": (1,)}])
@pytest.mark.parametrize(
    ("batch_size", "reference", "peak"), [(512, 128, 0.4), (64, 256, 0.025), (512, 0, 0.1)]
)
def test_the_peak_scales_with_the_batch(
    schedule: dict[str, Any], batch_size: int, reference: int, peak: float
) -> None:
    options = {"batch_size": batch_size, "reference_batch": reference, "epochs": 2}
    found = rates([5], warmup_epochs=0.5, **options, **schedule)
    np.testing.assert_allclose(found, [peak], rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("sgd", 1 - 0.5 * 0.01 * 10), ("adam", 1 - 0.5 * 0.01)],
)
def test_decay_is_an_l2_penalty_of_sgd_and_decoupled_in_adam(
    optimizer: str, expected: float
) -> None:
    """Without a gradient: momentum 0.9 would make a penalty's steps 10 times as long in the end."""
    model = keras.Sequential([layers.Dense(2, input_shape=(3,), bias_initializer="ones")])
    before = model.layers[0].kernel.numpy()
    options = {"learning_rate": 0.5, "weight_decay": 0.01, "warmup_epochs": 0.0}
    made = make_optimizer(config(optimizer=optimizer, **options), model, 10)
    made.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
    np.testing.assert_allclose(model.layers[0].kernel, before * expected, rtol=1e-5)
    np.testing.assert_array_equal(model.layers[0].bias, [1, 1])


@pytest.mark.parametrize(("momentum", "averages"), [(0.75, True), (0.0, False)])
def test_weights_are_averaged_where_it_is_wanted(momentum: float, averages: bool) -> None:
    model = keras.Sequential([layers.Dense(1, input_shape=(1,))])
    made = make_optimizer(config(ema=momentum, bn_images=1), model, 10)
    assert made.use_ema is averages
    assert not averages or made.ema_momentum == momentum


def test_gradients_are_clipped_by_the_norm_of_all_of_them() -> None:
    model = keras.Sequential([layers.Dense(1, input_shape=(1,), kernel_initializer="zeros")])
    options = {"learning_rate": 1.0, "weight_decay": 0.0, "warmup_epochs": 0.0}
    made = make_optimizer(config(clip_norm=1.0, **options), model, 10)
    kernel, bias = model.trainable_variables
    made.apply_gradients([(tf.constant([[3.0]]), kernel), (tf.constant([4.0]), bias)])
    moved = [float(kernel[0, 0]), float(bias[0])]
    # Nesterov: the first step is 1 + 0.9 times the gradient of norm 1.
    np.testing.assert_allclose(moved, [-1.9 * 0.6, -1.9 * 0.8], rtol=1e-5)
