"""Freezing of oscillating weights, against the rule written out in NumPy."""

import types

import numpy as np
import tensorflow as tf
from equality import assert_same

from train import freezing

STEPS, HALF, THRESHOLD, MOMENTUM = 60, 30, 0.1, np.float32(0.01)


def test_weights_that_turn_back_too_often_stay_where_they_were(monkeypatch) -> None:
    random = np.random.default_rng(0)
    start = random.normal(size=(3, 4)).astype(np.float32)
    moves = random.normal(0, 0.3, (STEPS, 3, 4)).astype(np.float32)
    kernel, scale = tf.Variable(start), tf.Variable([[0.5, 0.5, 1.0, 1.0]])
    monkeypatch.setattr(freezing.wrpn_tf, "scaled_kernels", lambda model: [(kernel, scale, 3)])
    freezer = freezing.FreezeOscillating(None, THRESHOLD, HALF)
    optimizer = types.SimpleNamespace(iterations=tf.Variable(0))
    freezer.model = types.SimpleNamespace(optimizer=optimizer)

    def codes(w):
        return np.clip(np.floor(w / scale.numpy() + np.float32(0.5)), -3, 3)

    w, code, average = start, codes(start), codes(start)
    direction, frequency = np.zeros_like(code), np.zeros_like(code)
    frozen = np.zeros(code.shape, bool)
    for step in range(1, STEPS + 1):
        kernel.assign_add(moves[step - 1])
        optimizer.iterations.assign(step)
        freezer.on_train_batch_end(0)

        w = w + moves[step - 1]
        change = np.sign(codes(w) - code)
        turned = (change * direction < 0).astype(np.float32)
        frequency += MOMENTUM * (turned - frequency)
        average += MOMENTUM * (codes(w) - average)
        direction = np.where(change == 0, direction, change)
        frozen |= (step >= HALF) & (frequency > THRESHOLD)
        w = np.where(frozen, np.floor(average + np.float32(0.5)) * scale.numpy(), w)
        code = codes(w)
        assert_same(kernel.numpy(), w)
        if step < HALF:
            assert not frozen.any()
    assert 0 < frozen.sum() < frozen.size
