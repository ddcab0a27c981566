"""Loading models that Keras 3 saved, quantized or not."""

from __future__ import annotations

import os
import zipfile

import keras

from wrpn_tf.keras3 import layers as layers  # They are registered when they are imported.
from wrpn_tf.keras3 import model as model
from wrpn_tf.keras3 import moving_layers as moving_layers
from wrpn_tf.saved_sizes import allowance, check_archive

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
            with zipfile.ZipFile(path) as archive:
                check_archive(archive, allowance(os.fspath(path)))
        return keras.saving.load_model(path, compile=compile, safe_mode=not trust_code)
    except _FAILURES as error:
        raise ValueError(f"Cannot load a model from {os.fspath(path)}: {error}") from error
