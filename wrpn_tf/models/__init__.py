"""Networks to widen and quantize, by name: `models.build('resnet20', width=2, ...)`.

A network's module, and with it a Keras, is imported when the network is built.
"""

from typing import TYPE_CHECKING

from wrpn_tf.lazy import lazy_names

if TYPE_CHECKING:  # The table once more, for type checkers.
    from wrpn_tf.models.alexnet_bn import alexnet as alexnet
    from wrpn_tf.models.cifar_resnet import resnet_cifar as resnet_cifar
    from wrpn_tf.models.digits import digits_cnn as digits_cnn
    from wrpn_tf.models.imagenet_resnet import resnet as resnet
    from wrpn_tf.models.inception import bn_inception as bn_inception
    from wrpn_tf.models.mobilenet import mobilenet_v1 as mobilenet_v1
    from wrpn_tf.models.mobilenet import mobilenet_v2 as mobilenet_v2
    from wrpn_tf.models.published import load_pretrained as load_pretrained
    from wrpn_tf.models.published import pretrained as pretrained
    from wrpn_tf.models.registry import ARCHITECTURES as ARCHITECTURES
    from wrpn_tf.models.registry import build as build
    from wrpn_tf.models.registry import skeleton as skeleton
    from wrpn_tf.models.vgg import vgg_small as vgg_small

_PUBLIC = {
    "ARCHITECTURES": "wrpn_tf.models.registry",
    "alexnet": "wrpn_tf.models.alexnet_bn",
    "bn_inception": "wrpn_tf.models.inception",
    "build": "wrpn_tf.models.registry",
    "digits_cnn": "wrpn_tf.models.digits",
    "load_pretrained": "wrpn_tf.models.published",
    "mobilenet_v1": "wrpn_tf.models.mobilenet",
    "mobilenet_v2": "wrpn_tf.models.mobilenet",
    "pretrained": "wrpn_tf.models.published",
    "resnet": "wrpn_tf.models.imagenet_resnet",
    "resnet_cifar": "wrpn_tf.models.cifar_resnet",
    "skeleton": "wrpn_tf.models.registry",
    "vgg_small": "wrpn_tf.models.vgg",
}

__all__ = sorted(_PUBLIC)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _PUBLIC)
