"""Changing .tflite files: the schema's object API in, the bytes of a file out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from export.flatbuffer.archive import append_files, appended_files
from export.flatbuffer.reader import UNREADABLE, Model, Unsound, read

_BUFFER_ALIGNMENT = 16


class AlignedBuffer(schema.BufferT):
    """A buffer whose data starts at a multiple of 16 bytes, as the schema asks."""

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = None
        if self.data is not None:
            content = bytes(self.data)
            builder.StartVector(1, len(content), _BUFFER_ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def pack(model: Any) -> bytes:
    """The bytes of a `schema.ModelT`, its buffers inline and aligned."""
    buffers = []
    for buffer in model.buffers:
        aligned = AlignedBuffer()
        aligned.data = buffer.data
        buffers.append(aligned)
    model.buffers = buffers
    builder = flatbuffers.Builder(sum(len(b.data) for b in buffers if b.data is not None) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def edit(model: Model, change: Callable[[Any], None]) -> bytes:
    """A changed file: buffers inline, what was appended to the flatbuffer appended again.

    Args:
      model: the file.
      change: changes the `schema.ModelT` it is given, or raises `Unsound`.

    Raises:
      ValueError: parts of the file beside operators and tensors are malformed.
    """
    try:
        parsed = schema.ModelT.InitFromPackedBuf(model.content, 0)
        for buffer in parsed.buffers:
            if buffer.offset > 1:
                buffer.data = model.content[buffer.offset : buffer.offset + buffer.size]
            buffer.offset = buffer.size = 0
        change(parsed)
        content = pack(parsed)
    except Unsound as error:
        raise ValueError(f"not a sound TFLite model: {error}") from error
    except UNREADABLE as error:
        raise ValueError("not a sound TFLite model: cut short or overwritten") from error
    return append_files(content, appended_files(model.content))


def expose_tensors(content: bytes) -> bytes:
    """The same model with every tensor that an operator writes as an output.

    XNNPACK does not fill tensors between its own nodes; as outputs it must. Operators, constants
    and arithmetic stay those of the file.
    """

    def expose(parsed: Any) -> None:
        graph = parsed.subgraphs[0]
        graph.outputs = [tensor for operator in graph.operators for tensor in operator.outputs]
        parsed.signatureDefs = []

    return edit(read(content), expose)
