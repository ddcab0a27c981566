"""Memory of a training step: what the backward pass keeps, and the peak of the process.

    python -m benchmarks.training_memory --output=memory.json --plot=memory.svg
    python -m benchmarks.training_memory --widths=1 --batches=128 --limit_mib=512

Compares float32, float32 with `tf.recompute_grad` around what lies between branches, bfloat16
(Keras's policy `mixed_bfloat16`), a quantized network, and one with packed activations, in
tf_keras; and float32 and a quantized network, packed or not, in Keras 3, without XLA. Kept bytes
are counted in the graph of the step and depend on no machine: tensors of the forward pass that the
backward pass reads. The peak is that of a process of its own, less what it had before the first
step of that batch; on a GPU also that of its allocator. Beside them stands what
`wrpn_tf.measure_cost` predicts.
`--limit_mib` also looks for the largest batch whose step fits into that much more memory. The
seconds of a step are of one step of each batch.
"""

from __future__ import annotations

import json
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from absl import flags

from wrpn_tf import command_line
from wrpn_tf.models.namespaces import Front, keras_named

PROGRAMS = (
    "float32",
    "bfloat16",
    "float32 recomputed",
    "quantized",
    "quantized packed",
    "Keras 3 float32",
    "Keras 3 quantized",
    "Keras 3 quantized packed",
)
_RECOMPUTED = "float32 recomputed"
_ALIASES = ("Identity", "IdentityN", "Reshape", "StopGradient", "Squeeze", "ExpandDims", "Bitcast")
_NOT_KEPT = ("ReadVariableOp", "Const", "Placeholder")

_ARCH = flags.DEFINE_string("arch", "resnet20", "Architecture.")
_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of the images.", 8)
_CLASSES = flags.DEFINE_integer("classes", 10, "Number of classes.", 2)
_WIDTHS = flags.DEFINE_list("widths", ["1", "2", "4"], "Factors on the filters.")
_BATCHES = flags.DEFINE_list("batches", ["32", "128", "512"], "Images per step.")
_WBITS = flags.DEFINE_integer("wbits", 4, "Weight bits.", 1, 8)
_ABITS = flags.DEFINE_list("abits", ["4", "2"], "Activation bits.")
_PROGRAMS = flags.DEFINE_list("programs", list(PROGRAMS), "What to compare.")
_PEAKS = flags.DEFINE_boolean("peaks", True, "Run the steps; else only count.")
_LIMIT = flags.DEFINE_integer(
    "limit_mib", 0, "MiB for the largest batch; 0: do not look for it.", 0
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_PLOT = flags.DEFINE_string("plot", None, ".svg or .png to draw: shares as in WRPN's figure 1.")
_CHILD = flags.DEFINE_string("child", None, "One measurement, as JSON: for this program's own use.")


def stored_bytes(model: Any, batch: int = 8) -> float:
    """Bytes an image that the forward pass of a training step keeps for the backward pass.

    Weights, statistics and others that do not grow with the batch do not count.

    Args:
      model: built tf_keras model of one input or several, or a callable with `input_shapes`.
      batch: images; of twice as many the difference is taken.
    """
    return (_kept(model, 2 * batch) - _kept(model, batch)) / batch


def _kept(model: Any, batch: int) -> int:
    import tensorflow as tf

    forward: set[str] = set()

    def step(*images):
        with tf.GradientTape() as tape:
            # Integers have no gradient, so the images' is not computed.
            floats = [tf.cast(image, tf.float32) for image in images]
            outputs = model(floats if len(floats) > 1 else floats[0], training=True)
            loss = tf.add_n(
                [tf.cast(tf.reduce_sum(y), tf.float32) for y in tf.nest.flatten(outputs)]
            )
        forward.update(op.name for op in tf.compat.v1.get_default_graph().get_operations())
        return [g for g in tape.gradient(loss, model.trainable_variables) if g is not None]

    specs = [tf.TensorSpec((batch, *image.shape[1:]), tf.int8) for image in model.inputs]
    graph = tf.function(step).get_concrete_function(*specs).graph
    pending, seen = [tensor.op for tensor in graph.outputs], set()
    found: dict[str, int] = {}
    while pending:
        op = pending.pop()
        if op.name in seen or op.name in forward:
            continue
        seen.add(op.name)
        for tensor in op.inputs:
            if tensor.op.name not in forward:
                pending.append(tensor.op)
                continue
            tensor = _source(tensor)
            if tensor.op.type not in _NOT_KEPT and tensor.shape.is_fully_defined():
                found[tensor.name] = tensor.shape.num_elements() * tensor.dtype.size
    return sum(found.values())


def _source(tensor: Any) -> Any:
    """The tensor whose memory this one shares."""
    while tensor.op.type in _ALIASES:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


class Recomputed:
    """A float model's training call, with `tf.recompute_grad` around what lies between branches.

    Args:
      model: built Functional model.
    """

    def __init__(self, model: Any):
        import tensorflow as tf

        from wrpn_tf.recomputation.segmented_call import SegmentedCall

        def segment(root):
            leaves = root.leaves()
            names = [id(leaf) for leaf in leaves]
            compute = tf.recompute_grad(
                lambda *tensors: root(dict(zip(names, tensors, strict=True)))
            )
            return compute(*(leaf.tensor for leaf in leaves))

        self.inputs, self.trainable_variables = model.inputs, model.trainable_variables
        self._call = SegmentedCall(model, segment)

    def __call__(self, images: Any, training: bool) -> Any:
        """The outputs; `training` must be True."""
        return self._call(images)


def network(program: str, width: float, weight_bits: int, activation_bits: int) -> Any:
    """The network of a program."""
    import wrpn_tf

    keras = keras_named(_front(program))
    policy = "mixed_bfloat16" if program == "bfloat16" else "float32"
    keras.mixed_precision.set_global_policy(policy)
    shape = (_SIZE.value, _SIZE.value, 3)
    model = wrpn_tf.models.build(
        _ARCH.value,
        width=width,
        num_classes=_CLASSES.value,
        input_shape=shape,
        front=_front(program),
    )
    keras.mixed_precision.set_global_policy("float32")
    if program == _RECOMPUTED:
        return Recomputed(model)
    if not _has_bits(program):
        return model
    model = wrpn_tf.quantize_model(model, weight_bits, activation_bits)
    if program.endswith("packed"):
        wrpn_tf.pack_activations(model)
    return model


def _front(program: str) -> Front:
    return "keras" if program.startswith("Keras 3") else "tf_keras"


def _has_bits(program: str) -> bool:
    return "quantized" in program


def _child(task: dict[str, Any]) -> dict[str, Any]:
    """Measures one program at one width and batch, in this process."""
    import tensorflow as tf

    front = _front(task["program"])
    keras = keras_named(front)
    model = network(task["program"], task["width"], _WBITS.value, task["abits"])
    found: dict[str, Any] = {"stored_per_image": stored_bytes(model)}
    if not task["batch"]:
        return found
    options = {"jit_compile": False} if front == "tf_keras" else {}
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, **options)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    size = _SIZE.value

    @tf.function(
        input_signature=[tf.TensorSpec((None, size, size, 3)), tf.TensorSpec((None,), tf.int64)]
    )
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, tf.cast(model(images, training=True), tf.float32))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    def run(batch: int) -> float:
        random = np.random.default_rng(0)
        images = tf.constant(random.normal(size=(batch, size, size, 3)).astype(np.float32))
        labels = tf.constant(random.integers(0, _CLASSES.value, batch))
        float(step(images, labels))  # The first one touches memory for the first time.
        start = time.perf_counter()
        float(step(images, labels))
        return time.perf_counter() - start

    run(2)
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.experimental.reset_memory_stats("GPU:0")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if task.get("limit_mib"):
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + task["limit_mib"] * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    found["seconds"] = run(task["batch"])
    found["peak"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if gpus:
        found["allocator_peak"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return found


def _measure(task: dict[str, Any]) -> dict[str, Any] | None:
    """`_child` in a process of its own; None where it does not end well."""
    shared = ("arch", "image_size", "classes", "wbits")
    command = [sys.executable, "-m", "benchmarks.training_memory", f"--child={json.dumps(task)}"]
    command += [f"--{name}={flags.FLAGS[name].value}" for name in shared]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and not task.get("limit_mib"):
        raise RuntimeError(f"{task} ended with {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1]) if not done.returncode else None


def _largest_batch(task: dict[str, Any], limit_mib: int) -> int:
    """The largest multiple of 16 images whose step fits into so much memory more."""
    low, high = 0, 16
    while _measure(task | {"batch": high, "limit_mib": limit_mib}) is not None:
        low, high = high, 2 * high
    while high - low > 16:
        middle = (low + high) // 32 * 16
        fits = _measure(task | {"batch": middle, "limit_mib": limit_mib}) is not None
        low, high = (middle, high) if fits else (low, middle)
    return low


def _predicted(task: dict[str, Any]) -> dict[str, float]:
    """What the cost model says of an image, in bytes."""
    import wrpn_tf

    model = wrpn_tf.models.build(
        _ARCH.value,
        width=task["width"],
        num_classes=_CLASSES.value,
        input_shape=(_SIZE.value, _SIZE.value, 3),
        front="tf_keras",
    )
    bits = {}
    if _has_bits(task["program"]):
        bits = {"weight_bits": _WBITS.value, "activation_bits": task["abits"]}
    memory = wrpn_tf.measure_cost(model, max(1, task["batch"]), **bits).memory
    return {
        "packed": memory.packed,
        "packed_training": memory.packed_training,
        "training": memory.training,
        "float_weights": memory.float_weights,
    }


def main() -> None:
    """Runs the program."""
    if _CHILD.value:
        print(json.dumps(_child(json.loads(_CHILD.value))))
        return
    rows: list[dict[str, Any]] = []
    for width in map(float, _WIDTHS.value):
        for program in _PROGRAMS.value:
            for abits in map(int, _ABITS.value) if _has_bits(program) else (32,):
                task = {"program": program, "width": width, "abits": abits}
                for batch in map(int, _BATCHES.value) if _PEAKS.value else (0,):
                    row = task | {"batch": batch}
                    rows.append(row | (_measure(row) or {}) | {"predicted": _predicted(row)})
                    print(json.dumps(rows[-1]), flush=True)
                if _LIMIT.value:
                    rows.append(task | {"limit_mib": _LIMIT.value})
                    rows[-1]["largest_batch"] = _largest_batch(task, _LIMIT.value)
                    print(json.dumps(rows[-1]), flush=True)
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if _PLOT.value:
        _plot(rows, _PLOT.value)


def _plot(rows: list[dict[str, Any]], path: str) -> None:
    """Activations' share of the memory, by batch size, measured: the peak beside the weights."""
    from matplotlib.figure import Figure

    from wrpn_tf.reporting import plots

    widths = sorted({row["width"] for row in rows})
    figure = Figure(figsize=(4.2 * len(widths), 3.8), layout="constrained")
    for axes, width in zip(
        figure.subplots(1, len(widths), sharey=True, squeeze=False).ravel(), widths, strict=True
    ):
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            if row["width"] == width and "peak" in row:
                label = row["program"] + (f", {row['abits']} bits" if row["abits"] < 32 else "")
                weights = row["predicted"]["float_weights"]
                share = 100 * row["peak"] / (row["peak"] + weights)
                lines.setdefault(label, []).append((row["batch"], share))
        for label, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), "o-", label=label, markersize=4)
        axes.set_xscale("log", base=2)
        axes.set(title=f"{_ARCH.value} {width:g}x", xlabel="batch size")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("activations in the memory of a step, %")
    figure.axes[-1].legend(frameon=False, fontsize=7)
    plots.save(figure, path)


if __name__ == "__main__":
    command_line.run(main, errors=(RuntimeError, ValueError))
