"""The report: what it measures is what the networks compute, and its page stands alone."""

import dataclasses
import math
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import keras
import numpy as np
import pytest
import small_models

import wrpn_tf
from export.flatbuffer import reader
from export.reporting import drawings, facts, page
from export.reporting.signals import decibels, measure


@pytest.fixture(scope="module", params=["tf_keras", "keras"])
def networks(request):
    """A float model, quantized, and images."""
    model = small_models.tiny()
    images = np.asarray(small_models.images(model))
    if request.param == "keras":
        model = wrpn_tf.from_tf_keras(model)
    quantized = wrpn_tf.quantize_model(model, 2, 4, input_range=(-1, 1))
    wrpn_tf.calibrate(quantized, images)
    return model, quantized, images


def test_without_quantizers_it_is_the_float_network(networks):
    model, quantized, images = networks
    wanted, found = (wrpn_tf.infer(m, [images])[0] for m in (model, wrpn_tf.to_float(quantized)))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(wrpn_tf.infer(quantized, [images])[0] - wanted).max() > 1e-3


def test_the_last_signal_is_that_of_the_outputs(networks):
    model, quantized, images = networks
    signals = measure(quantized, wrpn_tf.to_float(quantized), images)
    wanted, actual = (wrpn_tf.infer(m, [images])[0] for m in (model, quantized))
    assert signals[-1].power == pytest.approx(np.sum(wanted.astype(float) ** 2), rel=1e-5)
    assert signals[-1].noise == pytest.approx(np.sum((actual - wanted) ** 2), rel=1e-3)
    assert signals[-1].alone > signals[-1].in_network, "the layers before are to blame"
    for signal in signals:
        if signal.counts is not None:
            assert signal.counts.sum() % len(images) == 0


def test_padding_with_minus_infinity_is_no_signal():
    image = keras.Input((4, 4, 2), name="image")
    sides = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = keras.layers.MaxPooling2D(3)(keras.ops.pad(image, sides, constant_values=-np.inf))
    images = np.random.default_rng(0).uniform(-1, 1, (4, 4, 4, 2)).astype(np.float32)
    quantized = wrpn_tf.quantize_model(keras.Model(image, x), 8, 8, input_range=(-1, 1))
    padded, pooled = measure(quantized, wrpn_tf.to_float(quantized), images)
    assert padded.power == pytest.approx(np.sum(images.astype(float) ** 2), rel=1e-5)
    assert pooled.in_network > 30 and padded.in_network > 30
    assert padded.alone == pooled.alone == math.inf


def test_a_layer_used_twice_and_one_channel_of_results():
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 2), name="image")
    twice = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name="twice")
    x = twice(twice(image))
    gate = keras.layers.Dense(2, activation="sigmoid", name="gate")(
        keras.layers.GlobalAveragePooling2D(name="mean")(x)
    )
    x = keras.layers.Multiply(name="gated")([x, keras.layers.Reshape((1, 1, 2))(gate)])
    map_of_scores = keras.Model(image, keras.layers.Conv2D(3, 1, name="map")(x))
    model = keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
    images = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype(np.float32)
    quantized = wrpn_tf.quantize_model(model, 4, 4)
    wrpn_tf.calibrate(quantized, images)
    assert [state.fixed for state in wrpn_tf.input_quantizers(quantized).values()] == [None]
    found = facts.gather(quantized, images, np.arange(8) % 2, curves={}, floats={})
    assert [network.accuracy for network in found.networks] == [None, None]
    names = {signal.layer for signal in found.signals}
    assert {"twice_relu", "twice_2_relu"} <= names

    quantized = wrpn_tf.quantize_model(map_of_scores, 4, 4, input_range=(-1, 1))
    assert [state.fixed for state in wrpn_tf.input_quantizers(quantized).values()] == [(-1.0, 1.0)]
    with pytest.raises(ValueError, match="has 36 positions; leave them out"):
        facts.gather(quantized, images, np.arange(8) % 2, curves={}, floats={})


def test_decibels():
    assert decibels(100, 1) == 20
    assert decibels(1, 0) == math.inf
    assert decibels(0, 1) == -math.inf


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_page_stands_alone_and_node_data_names_tensors(networks):
    _, quantized, images = networks
    if type(quantized).__module__.startswith("wrpn_tf.tfmot"):
        pytest.skip("once is enough")
    curves = {"training": [0.5, 0.75], "test": [0.25, math.nan]}
    found = facts.gather(quantized, images, None, curves=curves, floats={})
    assert found.verification.different == 0
    text = page.render(dataclasses.replace(found, name="<script>alert(1)</script>"))
    assert "<script" not in text and "http" not in text and "nan" not in text.replace("nance", "")
    for heading in ("Training", "Where accuracy is lost", "Codes", "Edge TPU", "Arm Ethos-U"):
        assert text.count(f"<h2>{heading}</h2>") == 1
    tensors = {tensor.name for tensor in reader.read(found.file).main.tensors}
    results = facts.node_data(found)["results"]
    assert results and results.keys() <= tensors
    (last,) = (s for s in found.signals if s is found.signals[-1])
    assert results[found.tensors[last.layer]] == {"value": round(last.error, 6)}
    refused = dataclasses.replace(found, verification=None, edge_tpu=None, refused="No <form>.")
    assert "no integer form: No &lt;form&gt;." in page.render(refused)


def test_a_float_model_has_no_report(networks):
    model, _, images = networks
    with pytest.raises(ValueError, match="has no quantized kernels"):
        facts.gather(model, images, None, curves={}, floats={})


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ([0.0], ["0.0%", "0.2%", "0.5%", "0.8%", "1.0%", "epoch 1"]),
        ([1.0, 1.0], ["99.0%", "99.2%", "99.5%", "99.8%", "100.0%", "epoch 1", "2"]),
        ([0.5, 0.9, 0.7], ["50%", "60%", "70%", "80%", "90%", "epoch 1", "3"]),
    ],
)
def test_axes_of_curves_are_shares_and_say_what_differs(line, labels):
    svg = drawings.curves({"training": line}, "top-1")
    assert [text.text for text in svg.iter("text")] == labels
    assert len(svg.findall("circle")) == (len(line) == 1)


def test_bars_of_many_codes_have_no_gaps():
    few, many = (drawings.histogram(np.ones(count), 0, "codes") for count in (4, 64))
    width = [float(each.findall("rect")[1].get("width")) for each in (few, many)]
    assert width == [34.4, 2.9]


def test_names_break_behind_underscores():
    cell = Element("tr")
    page._add(cell, "td", "stage1_conv")
    assert ElementTree.tostring(cell) == b"<tr><td>stage1_<wbr />conv</td></tr>"
