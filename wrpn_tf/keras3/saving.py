"""Loading models that Keras 3 saved, quantized or not."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile

import keras
from keras.src.backend.common import global_state

from wrpn_tf.keras3 import layers as layers  # They are registered when they are imported.
from wrpn_tf.keras3 import model as model
from wrpn_tf.keras3 import own_layers as own_layers
from wrpn_tf.saved_sizes import allowance, check_file, read_member, too_large

_BYTES = 4  # Of a number in float32.
_UNINITIALIZED = "uninitialized_variables"  # The next scope would give values to those there.
_WRAPPED = "Exception encountered: "  # In the end of a message that quotes a configuration.
_QUOTED = " Full object config: "
_OVERRIDE = re.compile(r"you can override this error by passing `safe_mode=False`.*", re.DOTALL)
_FAILURES = (
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)


def load_model(path: str | os.PathLike[str], compile: bool, trust_code: bool) -> keras.Model:
    """See `wrpn_tf.load_model`."""
    try:
        if not trust_code:
            _check_size(os.fspath(path))
        return keras.saving.load_model(path, compile=compile, safe_mode=not trust_code)
    except _FAILURES as error:
        raise ValueError(f"Cannot load a model from {os.fspath(path)}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What Keras says, without the configuration of the whole model, and with our remedy."""
    reason = str(error).rpartition(_WRAPPED)[2].partition(_QUOTED)[0]
    return _OVERRIDE.sub("load it with trust_code=True.", reason)


def _check_size(path: str) -> None:
    """Raises ValueError where a file asks for more memory than it is worth."""
    most = allowance(path)
    check_file(path, most)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(read_member(archive, archive.getinfo("config.json")))
    config["compile_config"] = None
    waiting = list(global_state.get_global_attribute(_UNINITIALIZED) or ())
    try:
        with keras.StatelessScope(initialize_variables=False):  # They have a shape and no value.
            network = keras.saving.deserialize_keras_object(config, safe_mode=True)
    finally:
        global_state.set_global_attribute(_UNINITIALIZED, waiting)
    if _BYTES * sum(math.prod(variable.shape) for variable in network.variables) > most:
        raise ValueError(too_large(most))
