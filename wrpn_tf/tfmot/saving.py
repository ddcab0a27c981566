"""Loading saved models, quantized or not."""

from __future__ import annotations

import os
from typing import Any

import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_annotate,
    quantize_layer,
    quantize_wrapper,
)

from wrpn_tf.tfmot.one_grid_layers import QuantizedAveragePooling2D, QuantizedUpSampling2D
from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer, RangeQuantizer
from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig
from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer


class BuiltFirstWrapper(quantize_wrapper.QuantizeWrapperV2):
    """TF-MOT's wrapper, building the wrapped layer before itself.

    Quantizing wraps layers that are built, so their weights precede the trainable scales. A loaded
    wrapper would list the scales first, and HDF5 files match weights by position.
    """

    def build(self, input_shape):
        """See the class."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        super().build(input_shape)


def custom_objects() -> dict[str, Any]:
    """Classes to pass to Keras as `custom_objects` when loading a quantized model."""
    objects = {
        cls.__name__: cls
        for cls in (
            ActivationQuantizer,
            QuantizedAveragePooling2D,
            QuantizedUpSampling2D,
            RangeQuantizer,
            WRPNQuantizeConfig,
            WeightQuantizer,
            quantize_annotate.QuantizeAnnotate,
            quantize_layer.QuantizeLayer,
        )
    }
    # The name under which TF-MOT's wrapper was saved, and that of a model that was loaded before.
    return objects | dict.fromkeys(
        ("QuantizeWrapperV2", BuiltFirstWrapper.__name__), BuiltFirstWrapper
    )


def load_model(path: str | os.PathLike[str], compile: bool = False) -> keras.Model:
    """Loads a model saved by `model.save(path)` as HDF5 or SavedModel, quantized or not.

    Raises:
      ValueError: if there is no model, or it cannot be loaded.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise ValueError(f"No model at {path}: expected an .h5 file or a SavedModel folder.")
    try:
        return keras.models.load_model(path, custom_objects=custom_objects(), compile=compile)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Cannot load a model from {path}; expected an .h5 file or a SavedModel folder that "
            f"model.save wrote: {error}"
        ) from error
