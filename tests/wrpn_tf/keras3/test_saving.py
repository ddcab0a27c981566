"""Saved Keras 3 models: in a new process, without scopes; nothing that the file brings is run."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from both_keras import twins
from keras import layers

import export
import wrpn_tf

IMAGES = np.random.default_rng(1).uniform(-1, 1, (4, 6, 6, 2)).astype(np.float32)

LOADING = """
import sys
import numpy as np
import wrpn_tf, export
model = wrpn_tf.load_model(sys.argv[1], compile=True)
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.asarray(model(images)))
model.fit(images, np.zeros((4, 3)), verbose=0)
assert "tf_keras" not in sys.modules
"""


def trained():
    model = wrpn_tf.quantize_model(twins("convnet")[0], 2, 4)
    wrpn_tf.calibrate(model, IMAGES)
    model.compile("adam", "mse", jit_compile=False)
    model.fit(IMAGES, np.ones((4, 3)), verbose=0)
    return model


def test_a_new_process_loads_and_goes_on(tmp_path):
    model = trained()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    paths = [str(tmp_path / name) for name in ("model.keras", "images.npy", "outputs.npy")]
    result = subprocess.run([sys.executable, "-c", LOADING, *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    np.testing.assert_array_equal(np.load(paths[2]), np.asarray(model(IMAGES)))


def test_weights_alone_load_into_a_model_that_is_quantized_alike(tmp_path):
    model = trained()
    model.save_weights(tmp_path / "model.weights.h5")
    other = wrpn_tf.quantize_model(twins("convnet")[0], 2, 4)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(np.asarray(other(IMAGES)), np.asarray(model(IMAGES)))
    assert export.to_tflite(other) == export.to_tflite(model)
    float_weights = wrpn_tf.quantize_model(twins("convnet")[0], 32, 4, first_last="paper")
    with pytest.raises(ValueError):
        float_weights.load_weights(tmp_path / "model.weights.h5")


def test_optimizer_state_comes_back(tmp_path):
    model = trained()
    model.save(tmp_path / "model.keras")
    loaded = wrpn_tf.load_model(tmp_path / "model.keras", compile=True)
    found = [
        [variable.numpy() for variable in copy.optimizer.variables] for copy in (model, loaded)
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not wrpn_tf.load_model(tmp_path / "model.keras").compiled


def test_code_in_a_file_is_not_run_unless_asked(tmp_path):
    image = keras.Input((4,))
    model = keras.Model(image, layers.Lambda(lambda x: 2 * x)(image))
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"lambda\.keras: .*[Ll]ambda") as refusal:
        wrpn_tf.load_model(tmp_path / "lambda.keras")
    assert str(refusal.value).endswith("of the artifact, load it with trust_code=True.")
    assert wrpn_tf.load_model(tmp_path / "lambda.keras", trust_code=True) is not None


def test_a_class_that_is_not_known_is_named_without_the_configuration_of_the_model(tmp_path):
    class Double(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    image = keras.Input((4,))
    keras.Model(image, Double()(image)).save(tmp_path / "own.keras")
    with pytest.raises(ValueError) as refusal:
        wrpn_tf.load_model(tmp_path / "own.keras")
    sentence = str(refusal.value).partition("own.keras: ")[2]
    assert sentence.startswith("Could not locate class 'Double'. Make sure custom classes and ")
    assert sentence.endswith(" before trying to load them.")


def test_annotations_are_saved_and_applied(tmp_path):
    image = keras.Input((6, 6, 2), name="image")
    x = wrpn_tf.quantize_annotate(layers.Conv2D(4, 3, name="conv"), 2, 4)(image)
    x = wrpn_tf.quantize_annotate(layers.ReLU(name="relu"), activation_bits=4)(x)
    x = layers.Flatten(name="flat")(x)
    model = keras.Model(image, layers.Dense(3, name="head")(x))
    model.save(tmp_path / "annotated.keras")
    loaded = wrpn_tf.load_model(tmp_path / "annotated.keras")
    np.testing.assert_array_equal(np.asarray(loaded(IMAGES)), np.asarray(model(IMAGES)))
    quantized = wrpn_tf.quantize_apply(loaded)
    views = {view.name: view for view in wrpn_tf.view(quantized)}
    assert views["conv"].kernel.bits == 2 and views["relu"].grid.bits == 4
    assert views["head"].kernel is None
    with pytest.raises(ValueError, match="Layers without annotation: flat, head"):
        wrpn_tf.quantize_apply(loaded, integer=True)
    with pytest.raises(ValueError, match="has no annotated layers"):
        wrpn_tf.quantize_apply(twins("tiny")[0])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_hdf5_is_refused_with_what_keras_3_can_do(tmp_path):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.save(tmp_path / "net.h5")
    sentence = r"net\.h5: Keras 3\.[\d.]+ wrote it, of which \.keras files are read; open it with "
    with pytest.raises(ValueError, match=sentence) as refusal:
        wrpn_tf.load_model(tmp_path / "net.h5")
    assert "tf_keras" not in str(refusal.value)
    keras.saving.load_model(tmp_path / "net.h5").save(tmp_path / "net.keras")
    (kernel, _), (old, _) = (
        each.get_weights() for each in (wrpn_tf.load_model(tmp_path / "net.keras"), model)
    )
    assert np.array_equal(kernel, old)
    model.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(ValueError, match=r"holds weights only.*model\.save\('net\.keras'\)"):
        wrpn_tf.load_model(tmp_path / "net.weights.h5")
