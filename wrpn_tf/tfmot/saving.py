"""Loading saved models, quantized or not."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from typing import Any

import h5py
import tensorflow as tf
import tf_keras as keras
from google.protobuf import message
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_annotate,
)
from tf_keras.protobuf import saved_metadata_pb2
from tf_keras.src.saving.legacy import saving_utils
from tf_keras.src.saving.legacy.saved_model import json_utils

from wrpn_tf.saved_sizes import allowance, check_file, read_member
from wrpn_tf.tfmot.interface import QuantizedModel
from wrpn_tf.tfmot.one_grid_layers import QuantizedAveragePooling2D, QuantizedUpSampling2D
from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer, RangeQuantizer
from wrpn_tf.tfmot.own_layers import (
    Clip,
    DepthToSpace,
    Ramp,
    Slice,
    Slopes,
    SpaceToDepth,
    Stack,
    Use,
)
from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig
from wrpn_tf.tfmot.trust import check_config
from wrpn_tf.tfmot.variable_budget import limited_variables
from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer
from wrpn_tf.tfmot.wrapper import QuantizeLayer, QuantizeWrapperV2

_EXPECTED = (
    "expected what model.save writes: a .keras file, or of tf_keras an .h5 file or the folder of a "
    "SavedModel"
)
_FAILURES = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    tf.errors.OpError,
    message.DecodeError,
)


def custom_objects() -> dict[str, Any]:
    """Classes to pass to Keras as `custom_objects` when loading a quantized model.

    Keras knows them by itself once `wrpn_tf.load_model` or `wrpn_tf.quantize_model` was used; the
    names here are those of files that earlier versions wrote.
    """
    objects = {
        cls.__name__: cls
        for cls in (
            ActivationQuantizer,
            Clip,
            DepthToSpace,
            QuantizeLayer,
            QuantizeWrapperV2,
            QuantizedAveragePooling2D,
            QuantizedModel,
            QuantizedUpSampling2D,
            RangeQuantizer,
            Ramp,
            Slice,
            Slopes,
            SpaceToDepth,
            Stack,
            Use,
            WRPNQuantizeConfig,
            WeightQuantizer,
            quantize_annotate.QuantizeAnnotate,
        )
    }
    return objects | {"BuiltFirstWrapper": QuantizeWrapperV2}


def load_model(path: str, compile: bool, trust_code: bool) -> keras.Model:
    """See `wrpn_tf.load_model`."""
    if not os.path.exists(path):
        raise ValueError(f"No model at {path}: {_EXPECTED}.")
    try:
        most = allowance(path)
        contents = _contents(path, most)
        if trust_code:
            return keras.models.load_model(path, custom_objects(), compile=compile, safe_mode=False)
        _check_code(contents, compile)
        with limited_variables(most):
            if contents.form == "SavedModel":
                return _without_graph(path, contents, compile)
            return keras.models.load_model(path, custom_objects(), compile=compile)
    except _FAILURES as error:
        raise ValueError(f"Cannot load a model from {path}: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Contents:
    """What a file says of its model: JSON, decoded as far as JSON goes.

    Attributes:
      form: '.keras', '.h5' or 'SavedModel'.
      model: class and configuration.
      compiled: optimizer, loss and metrics, or None.
    """

    form: str
    model: dict[str, Any]
    compiled: Any


def _contents(path: str, most: int) -> _Contents:
    """Reads the configuration, and nothing else; raises one of `_FAILURES`, saying why."""
    if os.path.isdir(path):
        return _saved_model_contents(path)
    if path.endswith(".keras") and zipfile.is_zipfile(path):  # What Keras goes by.
        check_file(path, most)
        return _archive_contents(path)
    if h5py.is_hdf5(path):
        check_file(path, most)
        return _hdf5_contents(path)
    if zipfile.is_zipfile(path):
        raise ValueError("it is a zip archive; rename it to end in .keras if it is a model.")
    raise ValueError(f"it is neither an HDF5 file nor a .keras archive; {_EXPECTED}.")


def _archive_contents(path: str) -> _Contents:
    with zipfile.ZipFile(path) as archive:
        missing = {"config.json", "metadata.json"} - set(archive.namelist())
        if missing:
            raise ValueError(f"the archive has no {' and no '.join(sorted(missing))}; {_EXPECTED}.")
        metadata = json.loads(read_member(archive, archive.getinfo("metadata.json")))
        model = json.loads(read_member(archive, archive.getinfo("config.json")))
    _check_version(metadata.get("keras_version"))
    compiled = model.pop("compile_config", None)
    return _Contents(form=".keras", model=model, compiled=compiled)


def _hdf5_contents(path: str) -> _Contents:
    with h5py.File(path, "r") as file:
        attributes = dict(file.attrs)
    if "model_config" not in attributes:
        raise ValueError(
            "it holds weights only; build the model and use its load_weights, or save the whole "
            "model with model.save('net.keras')."
        )
    _check_version(_text(attributes.get("keras_version")))
    compiled = attributes.get("training_config")
    return _Contents(
        form=".h5",
        model=json.loads(attributes["model_config"]),
        compiled=None if compiled is None else json.loads(compiled),
    )


def _saved_model_contents(path: str) -> _Contents:
    file = os.path.join(path, "keras_metadata.pb")
    if not os.path.exists(os.path.join(path, "saved_model.pb")):
        raise ValueError(f"the folder has no saved_model.pb; {_EXPECTED}.")
    if not os.path.exists(file):
        raise ValueError(
            "it is a SavedModel without a Keras model, as tf.saved_model.save and Keras 3 write "
            "it, and cannot be trained; save the model with model.save('net.keras')."
        )
    metadata = saved_metadata_pb2.SavedMetadata()
    with open(file, "rb") as stream:
        metadata.ParseFromString(stream.read())
    root = next((node for node in metadata.nodes if node.node_path == "root"), None)
    if root is None:
        raise ValueError(f"keras_metadata.pb has no root; {_EXPECTED}.")
    facts = json.loads(root.metadata)
    model = {name: facts.get(name) for name in ("class_name", "config")}
    return _Contents(form="SavedModel", model=model, compiled=facts.get("training_config"))


def _check_code(contents: _Contents, compile: bool) -> None:
    """Raises ValueError if loading the model needs code that is not of this process."""
    config = contents.model.get("config")
    try:
        if contents.form == "SavedModel" and not (isinstance(config, dict) and "layers" in config):
            raise ValueError(
                f"the {contents.model.get('class_name')} is neither Functional nor Sequential and "
                "only there as a graph, which can read and write files"
            )
        check_config([contents.model, contents.compiled if compile else None], custom_objects())
    except ValueError as error:
        raise ValueError(
            f"Loading could run code that is not yours, because {error}. If you trust the file's "
            "author, load it with trust_code=True."
        ) from error


def _without_graph(path: str, contents: _Contents, compile: bool) -> keras.Model:
    """The model of a SavedModel, built from its configuration, with the saved variables."""
    known = custom_objects()
    model = keras.models.model_from_config(_decoded(contents.model), known)
    if compile and contents.compiled is not None:
        arguments = saving_utils.compile_args_from_training_config(
            _decoded(contents.compiled), known
        )
        model.compile(**arguments)
        if isinstance(model.optimizer, keras.optimizers.Optimizer):
            model.optimizer.build(model.trainable_variables)
    status = model.load_weights(path)
    status.assert_existing_objects_matched().expect_partial()
    return model


def _decoded(config: Any) -> Any:
    """JSON with tuples and shapes as Python has them."""
    return json_utils.decode(json.dumps(config))


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _check_version(version: Any) -> None:
    """Raises ValueError for another Keras than tf_keras, which is Keras 2."""
    major = str(version).split(".", maxsplit=1)[0]
    if major == "2":
        return
    if major == "3":  # Its .keras files are not read here.
        raise ValueError(
            f"Keras {version} wrote it, of which .keras files are read; open it with "
            "keras.saving.load_model and save the model with model.save('net.keras')."
        )
    writer = f"Keras {version}" if version else "an unknown Keras"
    raise ValueError(
        f"{writer} wrote it, and models of Keras 3 and of tf_keras (Keras 2) are read; build the "
        "network with one of them, and copy the weights with get_weights and set_weights."
    )
