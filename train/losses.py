"""Losses: against labels, smoothed or not, and against a teacher."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from train.config import Config
from wrpn_tf.models.namespaces import keras_named


class LabelLoss(keras.losses.Loss):
    """Cross-entropy of logits with whole-number labels, of which a share is spread evenly.

    Args:
        smoothing: The share that is spread over all classes, at least 0, less than 1.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__(name="label_loss")
        self._smoothing = smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """float32 [N] of labels [N] or [N, 1] and logits [N, classes]."""
        labels = tf.reshape(tf.cast(y_true, tf.int32), [-1])
        if not self._smoothing:
            return keras.losses.sparse_categorical_crossentropy(labels, y_pred, from_logits=True)
        return keras.losses.categorical_crossentropy(
            tf.one_hot(labels, y_pred.shape[-1]),
            y_pred,
            from_logits=True,
            label_smoothing=self._smoothing,
        )


class Student:
    """A network in training that also learns from a teacher (Hinton et al. 2015, 1503.02531).

    It shares the layers of the network that it is made of. The loss is
    `(1 - weight) * labels + weight * temperature^2 * KL(teacher || network)`, both logits divided
    by the temperature. What evaluation tells is the labels' alone.
    """

    @classmethod
    def of(cls, network: Any, teacher: Any, config: Config) -> Any:
        """Makes a student of a network: a model of the network's Keras, and of this class.

        Args:
            network: The network to train.
            teacher: The network to learn from; it sees the same images, in evaluation mode.
            config: Has the weight and the temperature.
        """
        weight, temperature = config.teacher_weight, config.temperature
        keras = keras_named(config.front)
        student = type("Student", (cls, keras.Model), {})(
            network.input, network.output, name=network.name
        )
        # In a function, where Keras does not count the teacher among the student's layers.
        student.teaching = lambda images: (teacher(images, training=False), weight, temperature)
        return student

    teaching: Any = None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """See the class."""
        loss = super().compute_loss(x, y, y_pred, sample_weight)  # type: ignore[misc]
        if not training:  # Of Keras 3, which tells it; tf_keras reports the labels' loss anyway.
            return loss
        logits, weight, temperature = self.teaching(x)
        taught = tf.nn.softmax(logits / temperature)
        divergence = keras.losses.kl_divergence(taught, tf.nn.softmax(y_pred / temperature))
        if sample_weight is not None:
            divergence *= sample_weight
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return (1 - weight) * loss + weight * temperature**2 * (
            tf.reduce_mean(divergence) / replicas
        )
