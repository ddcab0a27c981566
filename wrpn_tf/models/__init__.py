"""Networks to widen and quantize, by name: `models.build('resnet20', width=2, ...)`."""

from wrpn_tf.models.digits import digits_cnn
from wrpn_tf.models.registry import ARCHITECTURES, build
from wrpn_tf.models.resnet_cifar import resnet8, resnet14, resnet20, resnet32, resnet56

__all__ = [
    "ARCHITECTURES",
    "build",
    "digits_cnn",
    "resnet8",
    "resnet14",
    "resnet20",
    "resnet32",
    "resnet56",
]
