"""Loading saved models, quantized or not."""

from __future__ import annotations

import os
from typing import Any

import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_annotate,
    quantize_layer,
)

from wrpn_tf.tfmot.interface import QuantizedModel
from wrpn_tf.tfmot.one_grid_layers import QuantizedAveragePooling2D, QuantizedUpSampling2D
from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer, RangeQuantizer
from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig
from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer
from wrpn_tf.tfmot.wrapper import FreezableWrapper


def custom_objects() -> dict[str, Any]:
    """Classes to pass to Keras as `custom_objects` when loading a quantized model."""
    objects = {
        cls.__name__: cls
        for cls in (
            ActivationQuantizer,
            QuantizedAveragePooling2D,
            QuantizedModel,
            QuantizedUpSampling2D,
            RangeQuantizer,
            WRPNQuantizeConfig,
            WeightQuantizer,
            quantize_annotate.QuantizeAnnotate,
            quantize_layer.QuantizeLayer,
        )
    }
    # Also the names under which wrappers were saved before: TF-MOT's, and that of a loaded model.
    names = (FreezableWrapper.__name__, "QuantizeWrapperV2", "BuiltFirstWrapper")
    return objects | dict.fromkeys(names, FreezableWrapper)


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
