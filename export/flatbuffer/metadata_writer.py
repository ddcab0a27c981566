"""TFLite Metadata of a written model: what a phone needs to feed it and to name its classes.

Tables follow metadata_schema.fbs 1.0 (file identifier M001), field by field; the labels travel as
``labels.txt`` in a zip archive appended to the flatbuffer, which TFLite runtimes skip and
`zipfile` and the Android and Python metadata readers find.
"""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers

from export.flatbuffer.archive import append_files
from export.ir.graph import IntegerGraph
from export.ir.tensors import Tensor

LABELS_FILE = "labels.txt"
_MIN_PARSER_VERSION = "1.0.0"
_TENSOR_AXIS_LABELS = 2
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION_OPTIONS, _THRESHOLDING_OPTIONS = 1, 3
_COLOR_SPACES = {3: 1, 1: 2}  # channels: RGB, GRAYSCALE


def model_metadata(graph: IntegerGraph) -> bytes:
    """The ModelMetadata flatbuffer.

    Args:
      graph: the graph; its metadata may hold 'name', 'description', 'labels' and 'normalization'.

    Raises:
      ValueError: the labels do not match the first output's last axis.
    """
    labels = graph.metadata.get("labels")
    if labels is not None:
        classes = graph.tensors[graph.outputs[0]].shape[-1]
        if len(labels) != classes:
            raise ValueError(f"{len(labels)} labels for {classes} classes of {graph.outputs[0]!r}")
        if any("\n" in str(label) for label in labels):
            raise ValueError("a label holds a line break")
    builder = flatbuffers.Builder(1024)
    inputs = [
        _tensor(
            builder,
            name,
            graph.tensors[name],
            graph.metadata.get("normalization", {}).get(name),
            None,
        )
        for name in graph.inputs
    ]
    results = [
        _tensor(
            builder,
            name,
            graph.tensors[name],
            None,
            LABELS_FILE if labels is not None and name == graph.outputs[0] else None,
        )
        for name in graph.outputs
    ]
    subgraph = _table(
        builder,
        {2: _offsets(builder, inputs), 3: _offsets(builder, results)},
    )
    text = {0: graph.metadata.get("name"), 1: graph.metadata.get("description")}
    strings = {slot: builder.CreateString(str(value)) for slot, value in text.items() if value}
    root = _table(
        builder,
        {
            **strings,
            3: _offsets(builder, [subgraph]),
            7: builder.CreateString(_MIN_PARSER_VERSION),
        },
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def append_labels(model: bytes, graph: IntegerGraph) -> bytes:
    """The model followed by a zip archive of labels.txt, or the model alone without labels."""
    labels = graph.metadata.get("labels")
    if labels is None:
        return model
    text = "".join(f"{label}\n" for label in labels)
    return append_files(model, {LABELS_FILE: text.encode()})


def _tensor(
    builder: flatbuffers.Builder,
    name: str,
    tensor: Tensor,
    normalization: dict[str, Sequence[float]] | None,
    labels_file: str | None,
) -> int:
    """TensorMetadata: name, content, normalization, real range, label file.

    What has labels has the lowest score as threshold, too: libraries leave out scores below 0
    otherwise, and those of a network without SOFTMAX may all be.
    """
    fields = {0: builder.CreateString(name), 3: _content(builder, tensor.shape)}
    if normalization is not None:
        options = _table(
            builder,
            {
                0: _floats(builder, normalization["mean"]),
                1: _floats(builder, normalization["std"]),
            },
        )
        unit = _table(builder, {1: options}, bytes_={0: _NORMALIZATION_OPTIONS})
        fields[4] = _offsets(builder, [unit])
    scale, zero_point = tensor.quantization.scale, tensor.quantization.zero_point
    low, high = (scale * (code - zero_point) for code in (-128, 127))
    fields[5] = _table(builder, {0: _floats(builder, [high]), 1: _floats(builder, [low])})
    if labels_file is not None:
        builder.StartObject(1)
        builder.PrependFloat32Slot(0, low, 0.0)
        options = builder.EndObject()
        unit = _table(builder, {1: options}, bytes_={0: _THRESHOLDING_OPTIONS})
        fields[4] = _offsets(builder, [unit])
        file = _table(
            builder,
            {
                0: builder.CreateString(labels_file),
                1: builder.CreateString("Names of the classes"),
            },
            bytes_={2: _TENSOR_AXIS_LABELS},
        )
        fields[6] = _offsets(builder, [file])
    return _table(builder, fields)


def _content(builder: flatbuffers.Builder, shape: tuple[int, ...]) -> int:
    """Content: an image where the tensor is ``[1, height, width, 3 or 1]``, else features."""
    if len(shape) == 4 and shape[3] in _COLOR_SPACES and shape[1:3] != (1, 1):
        builder.StartObject(2)
        builder.PrependUint32Slot(0, shape[2], 0)
        builder.PrependUint32Slot(1, shape[1], 0)
        size = builder.EndObject()
        properties = _table(builder, {1: size}, bytes_={0: _COLOR_SPACES[shape[3]]})
        return _table(builder, {1: properties}, bytes_={0: _IMAGE_PROPERTIES})
    return _table(builder, {1: _table(builder, {})}, bytes_={0: _FEATURE_PROPERTIES})


def _table(
    builder: flatbuffers.Builder,
    offsets: dict[int, int],
    bytes_: dict[int, int] | None = None,
) -> int:
    """A table with offset fields and one-byte fields by slot."""
    bytes_ = bytes_ or {}
    builder.StartObject(max([*offsets, *bytes_], default=-1) + 1)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, value in bytes_.items():
        builder.PrependUint8Slot(slot, value, 0)
    return builder.EndObject()


def _offsets(builder: flatbuffers.Builder, items: Sequence[int]) -> int:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(float(value))
    return builder.EndVector()
