"""Loading saved models, of whichever Keras wrote them."""

from __future__ import annotations

import json
import os
import pathlib
import zipfile
import zlib
from typing import Any

from wrpn_tf.fronts import front
from wrpn_tf.saved_sizes import allowance, check_members, read_member

_TRAINED_FILES = {"keras": "model.keras", "tf_keras": "model.h5"}


def trained_file(workdir: str | os.PathLike[str], front: str | None = None) -> pathlib.Path:
    """The model's file in the workdir of a training.

    Args:
      workdir: the folder.
      front: 'keras' (Keras 3) or 'tf_keras': where a training of that Keras leaves it. None: the
        file that is there; where there is none yet, that of tf_keras.
    """
    if front is not None:
        return pathlib.Path(workdir) / _TRAINED_FILES[front]
    files = [pathlib.Path(workdir) / name for name in _TRAINED_FILES.values()]
    return next((file for file in files if file.is_file()), files[-1])


def load_model(
    path: str | os.PathLike[str], compile: bool = False, *, trust_code: bool = False
) -> Any:
    """Loads a model that `model.save(path)` of Keras 3 or of tf_keras wrote, quantized or not.

    Nothing that the file brings is executed: its layers are built by the classes of its Keras, of
    this package, and those that the process registered with `keras.saving`. A SavedModel's graph is
    not read, only its configuration and its variables.

    Args:
      path: a `.keras` file of either Keras, or of tf_keras a `.h5` file or the folder of a
        SavedModel; or the workdir of a finished training.
      compile: also restore the loss and the optimizer with its state.
      trust_code: run the code of Lambda layers, import what the file names, and execute the graph
        of a SavedModel. Such a file can do all that you can: only for files whose author you trust.

    Returns:
      A model of the Keras that wrote it.

    Raises:
      ValueError: if there is no model, it needs code of its own, or it cannot be loaded.
    """
    if trained_file(path).is_file():
        path = trained_file(path)
    path = os.fspath(path)
    package = "keras" if _is_of_keras3(path) else "tf_keras"
    return front(package).load_model(path, compile=compile, trust_code=trust_code)


def _is_of_keras3(path: str) -> bool:
    """Whether a file is an archive that Keras 3 wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive, allowance(path))
            metadata = read_member(archive, archive.getinfo("metadata.json"))
            version = json.loads(metadata).get("keras_version")
    except (
        *(OSError, zipfile.BadZipFile, zlib.error, LookupError, ValueError, AttributeError),
        *(RecursionError, RuntimeError, EOFError),
    ):
        return False
    return str(version).split(".", maxsplit=1)[0] == "3"
