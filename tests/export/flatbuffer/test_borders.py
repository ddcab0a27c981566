"""uint8 and float32 borders: the same int8 network between, the same codes at the ends."""

import numpy as np
import pytest
import random_graphs

from export.edge_tpu.preflight import predict
from export.edge_tpu.rules import Verdict
from export.flatbuffer import borders, editing, reader, writer
from export.flatbuffer.archive import appended_files
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime import runner
from export.verification import checks

GRAPH = random_graphs.network(0)
FILE = writer.to_flatbuffer(GRAPH)
CODES = np.random.default_rng(0).integers(-128, 128, (4, 9, 8, 3)).astype(np.int8)


def test_int8_is_the_file_itself():
    assert borders.with_borders(FILE, "int8") == FILE
    assert borders.core(FILE) == (FILE, "int8")


@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_what_goes_in_and_comes_out(io, kernel_set):
    file = borders.with_borders(FILE, io)
    scale, point = (
        getattr(GRAPH.tensors["image"].quantization, n) for n in ("scale", "zero_point")
    )
    fed = {
        "uint8": (CODES.astype(int) + 128).astype(np.uint8),
        "float32": (CODES.astype(np.float32) - point) * np.float32(scale),
    }[io]
    given = runner.run(file, {f"image/{io}": fed}, kernel_set)[f"output/{io}"]
    codes = runner.run(FILE, {"image": CODES}, kernel_set)["output"].astype(int) + 128
    wanted = {"uint8": codes.astype(np.uint8), "float32": codes.astype(np.float32) / 256}[io]
    assert given.dtype == np.dtype(io) and np.array_equal(given, wanted)
    inner, found = borders.core(file)
    assert found == io
    images = {"image": CODES}
    assert [
        row.different for row in checks.compare_borders(GRAPH, file, inner, io, images, kernel_set)
    ] == [0]


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_the_network_between_is_the_same(io):
    file = borders.with_borders(FILE, io)
    assert appended_files(file) == appended_files(FILE)  # The labels.
    whole, inner, before = (reader.read(each) for each in (file, borders.core(file)[0], FILE))
    assert whole.metadata == before.metadata
    last = "QUANTIZE" if io == "uint8" else "DEQUANTIZE"
    names = [operator.name for operator in whole.main.operators]
    assert names == ["QUANTIZE", *(op.name for op in before.main.operators), last]
    assert [op.version for op in (whole.main.operators[0], whole.main.operators[-1])] == [
        1,
        1 if io == "uint8" else 2,
    ]
    assert [tensor.name for tensor in inner.inputs + inner.outputs] == ["image", "output"]
    tensors = [tensor.name for tensor in before.main.tensors]
    assert [tensor.name for tensor in inner.main.tensors] == tensors
    assert [op.inputs for op in inner.main.operators] == [op.inputs for op in before.main.operators]
    kernels = reader.kernels(FILE)
    assert all(np.array_equal(codes, kernels[n]) for n, codes in reader.kernels(file).items())
    interpreter = runner.load(file)
    assert list(interpreter.get_signature_list()["serving_default"]["inputs"]) == ["image"]


def test_a_wrong_border_is_found():
    def shift(parsed):
        tensor = parsed.subgraphs[0].tensors[parsed.subgraphs[0].outputs[0]]
        tensor.quantization.zeroPoint = [3]

    file = editing.edit(reader.read(borders.with_borders(FILE, "uint8")), shift)
    inner, _ = borders.core(file)
    (row,) = checks.compare_borders(GRAPH, file, inner, "uint8", {"image": CODES}, "xnnpack")
    assert row.different > 0


@pytest.mark.parametrize("end", ["input", "output"])
def test_a_signature_of_another_tensor_is_named(end):
    def point_elsewhere(parsed):
        (signature,) = parsed.signatureDefs
        (entry,) = getattr(signature, f"{end}s")
        operators = parsed.subgraphs[0].operators
        entry.tensorIndex = next(op.inputs[1] for op in operators if len(op.inputs) > 1)

    message = f"its signature has tensor .* as the {end} '.*', which is no {end} of the file"
    with pytest.raises(ValueError, match=message):
        borders.with_borders(editing.edit(reader.read(FILE), point_elsewhere), "uint8")
    bordered = reader.read(borders.with_borders(FILE, "uint8"))
    with pytest.raises(ValueError, match=message):
        borders.core(editing.edit(bordered, point_elsewhere))


def test_the_edge_tpu_takes_uint8_whole():
    verdicts = predict(reader.read(borders.with_borders(FILE, "uint8")))
    assert verdicts.maps and len(verdicts.findings) == 13
    verdicts = predict(reader.read(borders.with_borders(FILE, "float32")))
    assert [f.operator for f in verdicts.findings if f.verdict is not Verdict.TPU] == [
        "QUANTIZE",
        "DEQUANTIZE",
    ]


def test_what_cannot_be_done_is_said():
    with pytest.raises(ValueError, match="io must be one of int8, uint8, float32, not 'int16'"):
        borders.with_borders(FILE, "int16")
    with pytest.raises(ValueError, match="the inputs and outputs of the file are UINT8, not INT8"):
        borders.with_borders(borders.with_borders(FILE, "uint8"), "float32")
