"""Preflight for the Edge TPU: against the real compiler's results, and rule by rule."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import stat
import subprocess
import sys

import numpy as np
import pytest
import random_graphs
import small_networks
import tf_keras as keras

import export
import wrpn_tf
from export.edge_tpu import compiler, fixes
from export.edge_tpu.fixes import fix
from export.edge_tpu.operator_rules import ALL_RULES
from export.edge_tpu.preflight import predict
from export.edge_tpu.rules import Verdict
from export.flatbuffer import editing, reader, writer

ON_CPU = (Verdict.CPU, Verdict.CPU_FROM_HERE)
UNKNOWN = (Verdict.UNKNOWN_SIZE, Verdict.UNKNOWN_VERSION)


@pytest.fixture(name="compiled_pairs", scope="module")
def compiled_pairs_fixture():
    folder = os.environ.get("WRPN_TF_CORAL")
    if not folder or not (pathlib.Path(folder) / "ground_truth.json").exists():
        pytest.skip("no pairs of models and compiled models: $WRPN_TF_CORAL names their folder")
    folder = pathlib.Path(folder)
    return folder, json.loads((folder / "ground_truth.json").read_text(encoding="utf-8"))


def changed(content, change):
    return reader.read(editing.edit(reader.read(content), change))


def verdicts(model):
    return [finding.verdict for finding in predict(model).findings]


def test_predictions_agree_with_the_compiler(compiled_pairs):
    folder, truth = compiled_pairs
    operators = right = 0
    for pair in truth:
        findings = predict(reader.read_path(folder / pair["model"])).findings
        assert len(findings) == pair["ops"]
        on_cpu = {operator["operator_index"] for operator in pair["cpu_ops"]}
        for finding in findings:
            promised = finding.verdict is Verdict.TPU
            assert not (promised and finding.index in on_cpu), (pair["model"], finding)
            operators += 1
            expected = ON_CPU if finding.index in on_cpu else (Verdict.TPU,)
            right += finding.verdict in expected
    assert len(truth) == 14
    assert right >= 0.99 * operators


def test_compiled_files_tell_what_was_left_on_the_cpu(compiled_pairs):
    folder, truth = compiled_pairs
    for pair in truth:
        model = reader.read_path(folder / pair["model"])
        compiled = reader.read_path(folder / pair["compiled"])
        on_cpu = {operator["operator_index"] for operator in pair["cpu_ops"]}
        assert compiler.left_on_cpu(model, compiled) == on_cpu
        with pytest.raises(ValueError, match="compiled for the Edge TPU already"):
            predict(compiled)


@pytest.mark.parametrize(("name", "shape"), [("digits_cnn", (8, 8, 1)), ("resnet20", (32, 32, 3))])
def test_exported_networks_run_on_the_tpu(name, shape):
    model = wrpn_tf.models.build(name, num_classes=10, input_shape=shape, front="tf_keras")
    model = wrpn_tf.quantize_model(model, 2, 4, input_range=(-1, 1))
    images = np.random.default_rng(0).uniform(-1, 1, (8, *shape)).astype(np.float32)
    wrpn_tf.calibrate(model, [images])
    assert set(verdicts(reader.read(export.to_tflite(model)))) == {Verdict.TPU}


def test_every_rule_is_two_sentences():
    for rule in ALL_RULES:
        assert rule.sentence.endswith(".") and rule.fix.endswith("."), rule


def test_what_follows_the_end_of_the_segment_is_on_the_cpu():
    content = writer.to_flatbuffer(random_graphs.network(5))

    def fuse(parsed):
        (graph,) = parsed.subgraphs
        pool = next(
            op
            for op in graph.operators
            if isinstance(op.builtinOptions, editing.schema.Pool2DOptionsT)
        )
        pool.builtinOptions.fusedActivationFunction = 1

    model = changed(content, fuse)
    found = verdicts(model)
    assert found.count(Verdict.CPU_FROM_HERE) == 1
    at = found.index(Verdict.CPU_FROM_HERE)
    assert "fused activation" in predict(model).findings[at].reason
    assert set(found[:at]) <= {Verdict.TPU}
    assert Verdict.CPU in found[at:]


def test_a_newer_version_rejects_the_file_and_is_fixed():
    content = writer.to_flatbuffer(random_graphs.network(5))

    def raise_versions(parsed):
        for code in parsed.operatorCodes:
            if code.builtinCode == editing.schema.BuiltinOperator.PAD:
                code.version = 4

    model = changed(content, raise_versions)
    assert set(verdicts(model)) == {Verdict.REJECTED}
    fixed = fix(model)
    assert (*fixed.done, *fixed.left) == ("PAD: version 2 instead of 4.",)
    assert Verdict.REJECTED not in verdicts(reader.read(fixed.content))


def test_equal_dense_scales_become_one():
    graph = random_graphs.one_operator("dense", 0)
    graph.operators[0].kernel_scale[:] = graph.operators[0].kernel_scale[0]
    channels = len(graph.operators[0].bias)

    def per_channel(parsed):
        (subgraph,) = parsed.subgraphs
        for index in subgraph.operators[0].inputs[1:]:
            quantization = subgraph.tensors[index].quantization
            quantization.scale = list(quantization.scale) * channels
            quantization.zeroPoint = [0] * channels

    model = changed(writer.to_flatbuffer(graph), per_channel)
    fixed = fix(model)
    assert (*fixed.done, *fixed.left) == (
        "output: one scale for the dense weights, whose channels all had the same.",
    )
    main = reader.read(fixed.content).main
    assert [len(main.tensors[index].scale) for index in main.operators[0].inputs[1:]] == [1, 1]


def test_outside_buffers_are_moved_inside():
    content = writer.to_flatbuffer(random_graphs.one_operator("dense", 0))
    model = reader.read(content)
    kernel = model.main.tensors[model.main.operators[0].inputs[1]].array()
    parsed = editing.schema.ModelT.InitFromPackedBuf(content, 0)
    index = parsed.subgraphs[0].tensors[parsed.subgraphs[0].operators[0].inputs[1]].buffer
    parsed.buffers[index].data = None
    builder = editing.flatbuffers.Builder(1024)
    for _ in range(2):  # Once to know the length.
        parsed.buffers[index].size = kernel.size
        parsed.buffers[index].offset = parsed.buffers[index].offset or 2
        builder = editing.flatbuffers.Builder(1024)
        builder.Finish(parsed.Pack(builder), b"TFL3")
        parsed.buffers[index].offset = len(builder.Output())
    outside = reader.read(bytes(builder.Output()) + kernel.tobytes())
    assert verdicts(outside) == [Verdict.CPU]
    inside = reader.read(editing.edit(outside, lambda _: None))
    assert verdicts(inside) == [Verdict.TPU]
    tensor = inside.main.tensors[inside.main.operators[0].inputs[1]]
    assert np.array_equal(tensor.array(), kernel)


def run(*arguments, path=None):
    environment = os.environ | ({"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else {})
    command = [sys.executable, "-m", "export.edgetpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_program(tmp_path):
    file = tmp_path / "model.tflite"
    file.write_bytes(writer.to_flatbuffer(random_graphs.network(5)))
    table = run(file)
    assert table.returncode == 0
    assert "Predicted, not compiled" in table.stdout
    (record,) = json.loads(run(file, "--format=json").stdout)
    assert record["all_on_tpu"] and record["basis"] == "predicted, not compiled"
    (tmp_path / "wrong").write_bytes(b"text")
    for wrong in (tmp_path / "wrong", tmp_path / "missing"):
        refused = run(wrong)
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    # A compiler on PATH that rejects everything decides.
    compiler = tmp_path / "bin" / "edgetpu_compiler"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    rejected = run(file, "--format=json", path=compiler.parent)
    assert rejected.returncode == 1
    assert len(json.loads(rejected.stdout)[0]["compiled_on_cpu"]) == len(record["operators"])


def test_small_networks_map():
    model = small_networks.quantize(small_networks.network(0), 0)
    assert isinstance(model, keras.Model)
    assert set(verdicts(reader.read(export.to_tflite(model)))) == {Verdict.TPU}


def test_fix_keeps_the_version_that_a_fused_activation_needs(tmp_path):
    """An old parser reads version 3 without it, and computes another network."""
    graph = random_graphs.one_operator("transposed", 0)
    graph.operators[0] = dataclasses.replace(graph.operators[0], relu=False)

    def fuse(parsed):
        parsed.operatorCodes[0].version = 4
        parsed.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 1

    model = changed(writer.to_flatbuffer(graph), fuse)
    fixed = fix(model)
    assert fixed.left == (
        "Not lowered: TRANSPOSE_CONV needs version 4 for the activation that it fuses.",
    )
    assert not fixed.done
    assert reader.read(fixed.content).main.operators[0].version == 4
    (finding,) = predict(model).findings
    assert finding.verdict is Verdict.REJECTED and "fuses an activation" in finding.reason
    (tmp_path / "fused.tflite").write_bytes(model.content)
    arguments = (tmp_path / "fused.tflite", "--fix", f"--output={tmp_path / 'fixed.tflite'}")
    with_fixes = run(*arguments, "--format=json")
    (record,) = json.loads(with_fixes.stdout)
    assert with_fixes.returncode == 1 and not record["all_on_tpu"]
    assert (record["fixes"], record["not_fixed"]) == ([], list(fixed.left))


def test_a_kernel_set_that_does_not_run_a_file_is_reported(monkeypatch, tmp_path):
    load = fixes.runner.Runner

    def failing(content, kernel_set="xnnpack", threads=1):
        if kernel_set == "reference":
            raise ValueError("no such version")
        return load(content, kernel_set, threads)

    class Here:
        def __init__(self, factory, *args):
            self._object = factory(*args)

        def __enter__(self):
            return self._object

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(fixes, "Isolated", Here)
    monkeypatch.setattr(fixes.runner, "Runner", failing)
    model = reader.read(writer.to_flatbuffer(random_graphs.one_operator("conv", 1)))
    fixed = fix(model)
    assert fixed.left == ("Not compared with reference kernels: no such version.",)
    assert not fixed.done
    assert fixed.content == model.content
    monkeypatch.setattr(fixes.runner, "Runner", lambda *_: failing(None, "reference"))
    with pytest.raises(ValueError, match="Not compared with xnnpack kernels: no such version"):
        fix(model)
