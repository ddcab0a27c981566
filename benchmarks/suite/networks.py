"""The networks that are measured, and random batches for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network of `wrpn_tf.models`.

    Attributes:
      title: what people read.
      arch: its name in `wrpn_tf.models`.
      pixels: height and width of an image.
      channels: of an image.
      classes: how many.
      batch: images of a training step.
      widths: factors on the filters, and
      batches: images of a step, at which memory and time are measured.
    """

    title: str
    arch: str
    pixels: int
    channels: int = 3
    classes: int
    batch: int
    widths: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (16,)

    def build(self, front: Any) -> Any:
        """The float network, of 'tf_keras' or 'keras'."""
        import wrpn_tf

        return wrpn_tf.models.build(
            self.arch, num_classes=self.classes, input_shape=self.shape, front=front
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return (self.pixels, self.pixels, self.channels)

    def images(self, count: int) -> np.ndarray:
        """Random images, float32 ``[count, *shape]`` in [0, 1)."""
        return np.random.default_rng(0).random((count, *self.shape), np.float32)

    def labels(self, count: int) -> np.ndarray:
        """Random labels ``[count]``."""
        return np.random.default_rng(1).integers(0, self.classes, count)


NETWORKS = {
    "resnet20": Network(
        title="ResNet-20",
        arch="resnet20",
        pixels=32,
        classes=10,
        batch=128,
        widths=(1, 2, 4),
        batches=(32, 128, 512),
    ),
    "resnet18": Network(
        title="ResNet-18", arch="resnet18_post", pixels=224, classes=1000, batch=16
    ),
    "mobilenet_v2": Network(
        title="MobileNetV2", arch="mobilenet_v2", pixels=224, classes=1000, batch=16
    ),
    "digits": Network(
        title="digits CNN", arch="digits_cnn", pixels=8, channels=1, classes=10, batch=32
    ),
}
