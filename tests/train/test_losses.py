"""Losses against NumPy, and what they teach whom."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from train.config import Config
from train.losses import LabelLoss, Student
from wrpn_tf.models.namespaces import keras_named

CLASSES = 5
LABELS = np.array([3, 0, 4, 1])
ONE_HOT = np.eye(CLASSES)[LABELS]


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (len(LABELS), CLASSES)).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x.astype(np.float64))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def cross_entropy(targets: np.ndarray, x: np.ndarray) -> np.ndarray:
    return -(targets * np.log(softmax(x))).sum(axis=-1)


def divergence(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    """KL(teacher || student) of each image."""
    one, other = softmax(teacher / temperature), softmax(student / temperature)
    return (one * np.log(one / other)).sum(axis=-1)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.astype(np.float32)])
def test_cross_entropy_of_logits(labels: np.ndarray) -> None:
    expected = cross_entropy(ONE_HOT, logits(0))
    np.testing.assert_allclose(LabelLoss().call(labels, logits(0)), expected, rtol=1e-5)
    assert float(LabelLoss()(labels, logits(0))) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None]])
def test_smoothing_spreads_its_share_over_all_classes(labels: np.ndarray) -> None:
    """Of 0.2 each of the 5 classes has 0.04, the label's among them."""
    targets = np.where(ONE_HOT == 1, 0.84, 0.04)
    expected = cross_entropy(targets, logits(0))
    np.testing.assert_allclose(LabelLoss(0.2).call(labels, logits(0)), expected, rtol=1e-5)


def dense(kernel: np.ndarray, *more: layers.Layer) -> keras.Model:
    """Logits `kernel` for the rows of a unit matrix, through the layers that follow."""
    inputs = keras.Input((len(kernel),))
    x = layers.Dense(CLASSES, use_bias=False, name="logits")(inputs)
    for layer in more:
        x = layer(x)
    model = keras.Model(inputs, x)
    model.get_layer("logits").set_weights([kernel])
    return model


IMAGES = np.eye(len(LABELS), dtype=np.float32)  # Each image has a row of the kernel as its logits.


def student(teacher: keras.Model, *, smoothing: float = 0.0, **options: Any) -> keras.Model:
    config = Config(workdir="", dataset="digits", arch="digits_cnn", **options)
    model = Student.of(dense(logits(0)), teacher, config)
    model.compile(keras.optimizers.SGD(1.0), LabelLoss(smoothing))
    return model


def loss(model: keras.Model, weights: np.ndarray | None = None) -> float:
    """What a step of training has as its loss, for images of these weights."""
    images, labels = tf.constant(IMAGES), tf.constant(LABELS)
    given = None if weights is None else tf.constant(weights)
    return float(model.compute_loss(images, labels, model(images), given))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_student_has_shares_of_both_losses(weight: float, temperature: float) -> None:
    """(1 - w) labels + w T^2 KL(teacher || student), both divided by T."""
    model = student(dense(logits(1)), teacher_weight=weight, temperature=temperature)
    labels = cross_entropy(ONE_HOT, logits(0)).mean()
    taught = temperature**2 * divergence(logits(1), logits(0), temperature).mean()
    assert abs(labels - taught) > 0.1
    assert loss(model) == pytest.approx((1 - weight) * labels + weight * taught, rel=1e-5)


def test_weights_of_images_hold_for_both_losses() -> None:
    weights = np.float32([0, 1, 2, 5])
    model = student(dense(logits(1)), teacher_weight=0.25, temperature=2.0)
    labels = (cross_entropy(ONE_HOT, logits(0)) * weights).mean()
    taught = 4 * (divergence(logits(1), logits(0), 2.0) * weights).mean()
    assert loss(model, weights) == pytest.approx(0.75 * labels + 0.25 * taught, rel=1e-5)


def test_a_student_is_smoothed_by_its_own_loss() -> None:
    model = student(dense(logits(1)), teacher_weight=0.5, smoothing=0.2)
    labels = cross_entropy(np.where(ONE_HOT == 1, 0.84, 0.04), logits(0)).mean()
    expected = (labels + divergence(logits(1), logits(0), 1.0).mean()) / 2
    assert loss(model) == pytest.approx(expected, rel=1e-5)


def test_a_step_moves_the_student_by_both_gradients_and_leaves_the_teacher() -> None:
    """Of T^2 KL with respect to a logit: T (student - teacher), both softened."""
    teacher = dense(logits(1), layers.BatchNormalization(), layers.Dropout(0.9))
    before = [weight.numpy() for weight in teacher.weights]
    model = student(teacher, teacher_weight=0.25, temperature=3.0)
    assert len(model.trainable_variables) == len(model.weights) == 1
    told = teacher(IMAGES, training=False).numpy()
    model.train_on_batch(IMAGES, LABELS)
    to_labels = softmax(logits(0)) - ONE_HOT
    to_teacher = 3 * (softmax(logits(0) / 3) - softmax(told / 3))
    expected = logits(0) - (0.75 * to_labels + 0.25 * to_teacher) / len(LABELS)
    np.testing.assert_allclose(model.get_layer("logits").kernel.numpy(), expected, atol=1e-5)
    for old, weight in zip(before, teacher.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


@pytest.mark.parametrize("version", [2, 3])
def test_evaluation_tells_the_loss_of_the_labels(version: int) -> None:
    config = Config(workdir="", dataset="digits", arch="digits_cnn", keras=version)
    of = keras_named(config.front)
    images = of.Input((len(LABELS),))
    network = of.Model(images, of.layers.Dense(CLASSES, use_bias=False)(images))
    network.set_weights([logits(0)])
    model = Student.of(network, dense(logits(1)), config)
    model.compile("sgd", LabelLoss().call)
    found = model.evaluate(IMAGES, LABELS, verbose=0)
    assert found == pytest.approx(cross_entropy(ONE_HOT, logits(0)).mean(), rel=1e-5)


def test_a_student_shares_the_layers_of_its_network() -> None:
    network = dense(logits(0))
    config = Config(workdir="", dataset="digits", arch="digits_cnn")
    model = Student.of(network, dense(logits(1)), config)
    assert model.weights[0] is network.weights[0]
    assert model.name == network.name
