"""A process without TensorFlow: quantizes, trains and exports on JAX. Run by `test_jax.py`."""

import importlib.abc
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
FORBIDDEN = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


class Forbid(importlib.abc.MetaPathFinder):
    """What is not installed in a fresh environment for JAX."""

    def find_spec(self, name, path=None, target=None):
        if name in FORBIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Forbid())

import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

import export  # noqa: E402
import wrpn_tf  # noqa: E402
from wrpn_tf.arithmetic import numpy_twins as twins  # noqa: E402
from wrpn_tf.arithmetic import portable, scales  # noqa: E402

random = np.random.default_rng(0)
kernel = random.normal(size=(37, 3, 2, 11)).astype(np.float32)
steps = np.abs(random.normal(size=(1, 1, 1, 11))).astype(np.float32) / 5
axes = (0, 1, 2)

# Values are the NumPy twins', eagerly and compiled.
for name, function, arguments, expected in (
    (
        "fake_quantize",
        lambda x, s: portable.fake_quantize(x, s, -7, 7),
        (kernel, steps),
        twins.fake_quantize_np(kernel, steps, -7, 7),
    ),
    (
        "xnor",
        lambda x: portable.xnor_weights(x, axes),
        (kernel,),
        twins.binarize_np(kernel, twins.mean_magnitude_np(kernel, axes)),
    ),
    (
        "binarize",
        lambda x: portable.binarize(x, portable.mean_magnitude(x, axes)),
        (kernel,),
        twins.binarize_np(kernel, twins.mean_magnitude_np(kernel, axes)),
    ),
    (
        "dynamic",
        lambda x: portable.dynamic_scale(x, 7, axes),
        (kernel,),
        scales.dynamic_scale_np(kernel, 7, axes),
    ),
    (
        "dorefa",
        lambda x: portable.dorefa_weights(x, 3),
        (kernel,),
        twins.dorefa_codes_np(kernel, 3).astype(np.float32) * np.float32(1 / 7),
    ),
    (
        "pact",
        lambda x, clip: portable.pact(x, clip, 15),
        (kernel, np.float32(1.37)),
        twins.pact_np(kernel, 1.37, 15),
    ),
):
    for form in (function, jax.jit(function)):
        different = np.count_nonzero(np.asarray(form(*arguments)) != expected)
        assert not different, f"{name}: {different} of {expected.size} values"
for low, high in [*np.abs(random.normal(size=(50, 2))).astype(np.float32), (1.0, 1.0)]:
    for form, twin in (
        (portable.affine_grid, twins.affine_grid_np),
        (portable.pixel_grid, twins.pixel_grid_np),
    ):
        scale, zero_point = jax.jit(form)(np.float32(-low), np.float32(high))
        assert (np.asarray(scale), zero_point) == twin(-low, high)[:2], (form.__name__, low, high)

# Gradients of LSQ: eager by hand, and compiled.
ones = np.ones_like(kernel)


def total(x, s):
    return (portable.fake_quantize(x, s, -7, 7, 0.5) * ones).sum()


to_kernel, to_scale = jax.jit(jax.grad(total, argnums=(0, 1)))(kernel, steps)
inside = np.abs(kernel / steps) <= 7
slope = twins.quantize_codes_np(kernel, steps, -7, 7) - np.where(inside, kernel / steps, 0)
assert np.array_equal(to_kernel, inside)
assert np.allclose(to_scale, 0.5 * slope.sum(axis=axes, keepdims=True), rtol=1e-4)

# A network.
keras.utils.set_random_seed(0)
image = keras.Input((8, 8, 3), dtype="uint8", name="image")
x = layers.Rescaling(1 / 127.5, -1.0, name="rescaled")(image)
x = layers.Conv2D(6, 3, use_bias=False, name="conv1")(x)
x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="conv2")(x)
x = layers.Add(name="add")([x, y])
x = layers.AveragePooling2D(2, name="pool")(x)
x = layers.Dropout(0.1, name="dropout")(layers.Flatten(name="flat")(x * 0.5))
model = keras.Model(image, layers.Dense(3, activation="softmax", name="kinds")(x))
labels = random.integers(0, 3, 64)  # A class is a colour: its scores are not nearly equal.
colours = 200 * (labels[:, None, None, None] == np.arange(3))
images = (colours + random.integers(0, 56, (64, 8, 8, 3))).astype(np.uint8)
quantized = wrpn_tf.quantize_model(model, 2, 4, input_range=(0, 255))
assert quantized.output_names == ["kinds"]
wrpn_tf.calibrate(quantized, images)
try:
    wrpn_tf.pack_activations(quantized)
except ValueError as error:
    assert "packed on TensorFlow, and Keras's backend is jax" in str(error)
else:
    raise AssertionError("activations were packed")
adam = keras.optimizers.Adam(0.01)
quantized.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
before = {v.path: v.numpy() for v in quantized.weights}
losses = quantized.fit(images, labels, epochs=3, verbose=0).history["loss"]
assert losses[-1] < losses[0]
moved = {v.path for v in quantized.weights if (v.numpy() != before[v.path]).any()}
assert any(path.endswith("kernel_scale") for path in moved)
assert any(path.endswith("output_scale") for path in moved)
assert any(path.endswith("output_maximum") for path in moved)

export.settle(quantized)
file = export.to_tflite(quantized)
proof = export.prove(quantized)
assert not proof.failures(("xnnpack", "optimized_arm")), proof.failures(("xnnpack",))
quantized.save(sys.argv[1])
loaded = wrpn_tf.load_model(sys.argv[1])
assert np.array_equal(loaded.predict(images, verbose=0), quantized.predict(images, verbose=0))
graph = export.realize(export.lower(loaded))
executed = export.execute(graph, {"image": (images.astype(np.int16) - 128).astype(np.int8)})
assert len(executed[graph.outputs[0]]) == len(images)
wrpn_tf.summary(quantized)

verified = export.verify(loaded, file, images, labels)  # The only one that runs LiteRT.
assert not verified.failures and verified.different == 0, str(verified)
assert not set(FORBIDDEN) & set(sys.modules), set(FORBIDDEN) & set(sys.modules)
print("done")
