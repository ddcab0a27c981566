"""Networks to widen and quantize, by name: `models.build('resnet20', width=2, ...)`."""

from wrpn_tf.models.alexnet import alexnet
from wrpn_tf.models.bn_inception import bn_inception
from wrpn_tf.models.digits import digits_cnn
from wrpn_tf.models.mobilenet import mobilenet_v1, mobilenet_v2
from wrpn_tf.models.registry import ARCHITECTURES, build
from wrpn_tf.models.resnet import resnet
from wrpn_tf.models.resnet_cifar import resnet_cifar
from wrpn_tf.models.vgg_small import vgg_small

__all__ = [
    "ARCHITECTURES",
    "alexnet",
    "bn_inception",
    "build",
    "digits_cnn",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet",
    "resnet_cifar",
    "vgg_small",
]
