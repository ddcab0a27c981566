r"""CIFAR-10 with the ResNets of He et al. 2015, wide and in few bits.

    python -m train.cifar10 --wbits=2 --abits=4 --width=2 --workdir=runs/resnet20x2-w2a4

A float network, then the quantized one that starts from its weights:

    python -m train.cifar10 --workdir=runs/float
    python -m train.cifar10 --wbits=2 --abits=4 --epochs=8 --init_from=runs/float \
        --workdir=runs/w2a4

Time of the first: about 7 minutes an epoch on two CPU cores. Test accuracy after its 15 epochs,
seed 0: .855 (docs/results.md).
"""

from train import flags
from train.config import JPEG_FIELDS, Config

DEFAULTS = Config(
    workdir="",
    dataset="cifar10",
    arch="resnet20",
    epochs=15,
    batch_size=128,
    learning_rate=0.1,
    bn_images=5120,
    shift=4,
    flip=True,
)

if __name__ == "__main__":
    flags.main(DEFAULTS, omit=JPEG_FIELDS)
