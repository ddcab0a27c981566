"""The tf_keras front: walking and rebuilding models, TF-MOT's quantizers, configs and scheme.

Imports `wrpn_tf.arithmetic` and `wrpn_tf.graph`.
"""

import os

import tensorflow as tf
import tf_keras  # noqa: F401  Before the loaders are used: it makes two of them anew.


def _import_tfmot() -> None:
    """Imports TF-MOT, and leaves `tf.keras` and the environment as they were.

    TF-MOT sets TF_USE_LEGACY_KERAS for itself, and so for the process: each of TensorFlow's lazy
    `keras` reads that variable when it is first used, and stays what it then is. So they are used
    before, and the variable is put back.
    """
    for loader in (tf.keras, tf.compat.v2.keras, tf.compat.v1.keras):
        hasattr(loader, "__version__")
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        import tensorflow_model_optimization  # noqa: F401
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before


_import_tfmot()
