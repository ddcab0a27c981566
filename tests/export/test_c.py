"""The exported C compiles without a warning and computes every integer of the executor."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import random_graphs
import small_networks
import tf_keras as keras
from equality import assert_same

import export
import wrpn_tf
from export.c99 import arena, generator, literals
from export.flatbuffer import writer
from export.ir.graph import IntegerGraph
from export.ir.operators import Reshape, Softmax
from export.ir.saving import save

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILER = shutil.which("gcc")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"]
IMAGES = 4
# Reads one image after the other, writes every tensor as it is computed.
MAIN = """
#include <stdio.h>
#include "net.h"
static int8_t in[{count}][{largest}], out[{count}][{largest}];
static void observe(const net_tensor *tensor, const int8_t *codes) {{
  fwrite(codes, 1, (size_t)tensor->size, stdout);
}}
int main(void) {{
  const int8_t *inputs[{count}];
  int8_t *outputs[{count}];
  for (int i = 0; i < {count}; i++) {{ inputs[i] = in[i]; outputs[i] = out[i]; }}
  for (int image = 0; image < {images}; image++) {{
    for (int i = 0; i < {inputs}; i++) {{
      if (!fread(in[i], (size_t)net_tensors[i].size, 1, stdin)) return 1;
    }}
    net_run(inputs, outputs, observe);
  }}
  return 0;
}}
"""
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no gcc here")


def export_c(graph: IntegerGraph, folder) -> str:
    """Runs the program; returns what it printed."""
    save(graph, folder / "graph.npz")
    command = [sys.executable, "-m", "export.c", f"--model-graph={folder / 'graph.npz'}"]
    result = subprocess.run(
        [*command, f"--output={folder}", "--name=net"], capture_output=True, text=True, check=True
    )
    return result.stdout


def run_c(graph: IntegerGraph, folder, inputs: dict) -> dict:
    """Compiles the exported sources and runs them on a batch."""
    sizes = {name: int(np.prod(tensor.shape)) for name, tensor in graph.tensors.items()}
    settings = {
        "count": max(len(graph.inputs), len(graph.outputs)),
        "largest": max(sizes.values()),
        "images": IMAGES,
        "inputs": len(graph.inputs),
    }
    (folder / "main.c").write_text(MAIN.format(**settings))
    sources = [folder / name for name in ("main.c", "net.c", "wrpn_kernels.c")]
    program = folder / "program"
    subprocess.run([COMPILER, *FLAGS, *sources, "-o", program], check=True)
    images = b"".join(
        inputs[name][image].tobytes() for image in range(IMAGES) for name in graph.inputs
    )
    written = subprocess.run([program], input=images, capture_output=True, check=True).stdout
    rows = np.frombuffer(written, np.int8).reshape(IMAGES, -1)
    order = [*graph.inputs, *(operator.output for operator in graph.operators)]
    ends = np.cumsum([sizes[name] for name in order])
    return {
        name: rows[:, end - sizes[name] : end].reshape(IMAGES, *graph.tensors[name].shape[1:])
        for name, end in zip(order, ends, strict=True)
    }


def assert_equals_executor(graph: IntegerGraph, folder) -> None:
    source = generator.generate(graph, "net")
    (folder / "net.h").write_text(source.header)
    (folder / "net.c").write_text(source.body)
    for path in (generator.RUNTIME / "wrpn_kernels.h", generator.RUNTIME / "wrpn_kernels.c"):
        shutil.copy(path, folder)
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.integers(-128, 128, (IMAGES, *graph.tensors[name].shape[1:])).astype(np.int8)
        for name in graph.inputs
    }
    expected = export.execute(graph, inputs, "tflm")
    actual = run_c(graph, folder, inputs)
    assert set(actual) == set(expected)
    for name, codes in expected.items():
        assert_same(actual[name], codes)


@needs_compiler
@pytest.mark.parametrize("kind", random_graphs.KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_every_operator_equals_the_executor(kind, seed, tmp_path):
    assert_equals_executor(random_graphs.one_operator(kind, seed), tmp_path)


@needs_compiler
def test_every_structure_equals_the_executor(tmp_path):
    model = small_networks.quantize(small_networks.network(3), 3, weight_bits=2, activation_bits=4)
    assert_equals_executor(export.realize(export.lower(model)), tmp_path)


@needs_compiler
def test_a_network_over_sequences_equals_the_executor(tmp_path):
    steps = keras.Input((20, 3), name="steps")
    x = keras.layers.Conv1D(5, 3, padding="causal", activation="relu", name="conv1")(steps)
    x = keras.layers.Conv1D(4, 4, strides=2, name="conv2")(keras.layers.MaxPooling1D(2)(x))
    model = keras.Model(steps, keras.layers.GlobalAveragePooling1D(name="average")(x))
    model = wrpn_tf.quantize_model(model, 2, 4, input_range=(0.0, 1.0))
    wrpn_tf.calibrate(model, [np.random.default_rng(0).random((16, 20, 3), np.float32)])
    assert_equals_executor(export.realize(export.lower(model)), tmp_path)


@pytest.fixture(scope="module")
def digits():
    model = wrpn_tf.models.build(
        "digits_cnn", num_classes=10, input_shape=(8, 8, 1), front="tf_keras"
    )
    model = wrpn_tf.quantize_model(model, 2, 4, input_range=(0.0, 1.0))
    images = np.random.default_rng(0).random((32, 8, 8, 1), np.float32)
    wrpn_tf.calibrate(model, [images])
    return export.realize(export.lower(model))


@needs_compiler
def test_digits_cnn_equals_the_executor(digits, tmp_path):
    assert_equals_executor(digits, tmp_path)


@needs_compiler
def test_the_program_writes_all_that_compiles(digits, tmp_path):
    printed = export_c(digits, tmp_path)
    assert "net_run: " in printed and "bytes of memory" in printed
    for source in ("net.c", "net_tflite.c", "wrpn_kernels.c"):
        subprocess.run(
            [COMPILER, *FLAGS, "-c", tmp_path / source, "-o", tmp_path / "out.o"], check=True
        )
    text = (tmp_path / "net_tflite.c").read_text()
    values = text.split("= {")[1].split("}")[0]
    assert bytes(map(int, values.split(","))) == writer.to_flatbuffer(digits)


@needs_compiler
def test_the_example_classifies_pixels(digits, tmp_path):
    """examples/microcontroller/main.c, with the command that it and the docs give."""
    save(digits, tmp_path / "graph.npz")
    command = [sys.executable, "-m", "export.c", f"--model-graph={tmp_path / 'graph.npz'}"]
    subprocess.run([*command, f"--output={tmp_path}"], check=True, capture_output=True)
    main = ROOT / "examples" / "microcontroller" / "main.c"
    sources = [main, tmp_path / "network.c", tmp_path / "wrpn_kernels.c"]
    program = tmp_path / "classify"
    flags = [*FLAGS, f"-I{tmp_path}"]
    subprocess.run([COMPILER, *flags, *sources, "-o", program], check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype(np.uint8)
    codes = (pixels.astype(int) - 128).astype(np.int8)[None]
    (scores,) = export.execute(digits, {digits.inputs[0]: codes}, "tflm")[digits.outputs[0]]
    said = subprocess.run([program], input=pixels.tobytes(), capture_output=True, check=True)
    assert said.stdout.decode().startswith(f"class {scores.argmax()}, score ")
    short = subprocess.run([program], input=b"123", capture_output=True)
    assert short.returncode == 1 and b"the image ends after 3 of 64 bytes" in short.stderr


def test_tensors_that_live_together_do_not_overlap(digits):
    for graph in (digits, random_graphs.network(0)):
        offsets, size = arena.plan(graph)
        sizes = {name: int(np.prod(tensor.shape)) for name, tensor in graph.tensors.items()}
        owner = np.full(size, -1)
        names = list(sizes)
        for name in graph.inputs:
            owner[offsets[name] : offsets[name] + sizes[name]] = names.index(name)
        for operator in graph.operators:
            for name in operator.inputs:
                held = owner[offsets[name] : offsets[name] + sizes[name]]
                assert (held == names.index(name)).all(), name
            start = offsets[operator.output]
            assert all(
                start + sizes[operator.output] <= offsets[name]
                or offsets[name] + sizes[name] <= start
                for name in operator.inputs
            )
            owner[start : start + sizes[operator.output]] = names.index(operator.output)
        for name in graph.outputs:
            held = owner[offsets[name] : offsets[name] + sizes[name]]
            assert (held == names.index(name)).all()
        assert size < sum(sizes.values())


def test_what_has_no_c_form_is_named(digits, monkeypatch):
    monkeypatch.delitem(generator.CALLS, Softmax)
    with pytest.raises(ValueError, match="'output': Softmax has no C form"):
        generator.generate(random_graphs.network(0), "net")
    with pytest.raises(ValueError, match="'2 nets' is no name in C"):
        generator.generate(digits, "2 nets")


@pytest.mark.parametrize("name", ["wrpn_kernels", "string", "stddef", "Math"])
def test_a_name_that_hides_a_header_is_refused(name):
    """With -I, <math.h> of a program would be that of the network."""
    with pytest.raises(ValueError, match=f"{name}.h would hide a header of the C library"):
        generator.check_name(name)


def test_no_constant_needs_an_int_of_32_bits():
    """An int of AVR and MSP430 has 16 bits: a shift out of it gives wrong sums and softmaxes."""
    source = (generator.RUNTIME / "wrpn_kernels.c").read_text()
    shifts = re.findall(r"(\S+) << (\d+)", source)
    assert shifts
    assert not [each for each in shifts if each[0].lstrip("(") == "1" and int(each[1]) >= 15]


def softmax(classes: int) -> IntegerGraph:
    graph = random_graphs.one_operator("softmax", 0)
    shaped = {
        name: dataclasses.replace(tensor, shape=(*tensor.shape[:-1], classes))
        for name, tensor in graph.tensors.items()
    }
    return dataclasses.replace(graph, tensors=shaped)


@needs_compiler
def test_a_softmax_of_many_classes(tmp_path):
    assert_equals_executor(softmax(4095), tmp_path)
    with pytest.raises(ValueError, match="a softmax of 8,192 classes has no C form"):
        generator.generate(softmax(8192), "net")


def test_constants_are_those_of_the_written_arrays(digits):
    source = generator.generate(digits, "net")
    weights = sum(operator.kernel.size for operator in digits.weighted)
    channels = sum(operator.bias.size for operator in digits.weighted)
    windows = source.header.count("extern const wrpn_window")
    assert "wrpn_view" not in source.header
    of_the_sum = 3 * 8
    assert source.constants == weights + channels * (4 + 4 + 8) + of_the_sum + windows * 14 * 4


def test_a_long_name_stays_whole(digits):
    name = "n" * 120
    assert f"{name}_0_kernel" in generator.generate(digits, name).body.split("_run(")[1]


def test_the_array_is_written_where_an_operator_has_no_c_form(tmp_path):
    graph = random_graphs.one_operator("reshape", 0)
    shape = (1,) * 8
    tensors = {n: dataclasses.replace(t, shape=shape) for n, t in graph.tensors.items()}
    reshaped = Reshape(inputs=("input",), output="output")
    graph = dataclasses.replace(graph, tensors=tensors, operators=[reshaped])
    printed = export_c(graph, tmp_path)
    assert "'output' has 7 axes, more than 6 have no C form: the array is written alone" in printed
    assert {path.name for path in tmp_path.glob("*.[ch]")} == {"net_tflite.c", "net_tflite.h"}


def concatenation(parts: int) -> IntegerGraph:
    graph = random_graphs.one_operator("concatenate", 0)
    (operator,), tensor = graph.operators, graph.tensors["input"]
    names = tuple(f"part{index}" for index in range(parts))
    size = tensor.shape[operator.axis] * parts
    shape = (*tensor.shape[: operator.axis], size, *tensor.shape[operator.axis + 1 :])
    tensors = dict.fromkeys(names, tensor) | {"output": dataclasses.replace(tensor, shape=shape)}
    joined = dataclasses.replace(operator, inputs=names)
    return dataclasses.replace(graph, tensors=tensors, operators=[joined], inputs=names)


def test_plain_c_is_written_where_the_interpreter_does_not_run_the_file(tmp_path):
    printed = export_c(concatenation(11), tmp_path)
    assert "'output' is a concatenation of 11 tensors, more than 10, which Tensor" in printed
    assert "the plain C is written alone" in printed
    names = {"net.c", "net.h", "wrpn_kernels.c", "wrpn_kernels.h"}
    assert {path.name for path in tmp_path.glob("*.[ch]")} == names


def test_plain_c_is_written_beside_kernels_in_int4_that_the_interpreter_takes(tmp_path):
    conv = random_graphs.one_operator("conv", 1)
    names = {"input": "image", "output": "codes"}
    (operator,) = conv.operators
    narrow = dataclasses.replace(
        operator,
        inputs=("image",),
        output="codes",
        kernel=np.clip(operator.kernel, -7, 7),
        dtype_bits=4,
    )
    joined = concatenation(11)
    graph = dataclasses.replace(
        joined,
        tensors=joined.tensors | {new: conv.tensors[old] for old, new in names.items()},
        operators=[narrow, *joined.operators],
        inputs=(*joined.inputs, "image"),
        outputs=("output", "codes"),
    )
    assert "the plain C is written alone" in export_c(graph, tmp_path)


def test_a_file_that_the_interpreter_does_not_load_is_refused(tmp_path):
    model = small_networks.quantize(small_networks.network(3), 3, weight_bits=2, activation_bits=4)
    graph = export.realize(export.lower(model), weights="int4")
    save(graph, tmp_path / "graph.npz")
    command = [sys.executable, "-m", "export.c", f"--model-graph={tmp_path / 'graph.npz'}"]
    result = subprocess.run([*command, f"--output={tmp_path}"], capture_output=True, text=True)
    assert result.returncode and "Traceback" not in result.stderr
    assert "which TensorFlow Lite Micro does not run" in result.stderr
    assert "export with --weights=int8" in result.stderr
    assert not list(tmp_path.glob("*.[ch]"))


def test_strings_are_escaped():
    assert literals.string('a"\\?é') == '"a\\042\\134\\077\\303\\251"'
