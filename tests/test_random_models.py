"""Random models come through everything equal, or are refused by a sentence; a few of them here."""

import types

import keras
import pytest
import tf_keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import random_models

BOTH = pytest.mark.parametrize("of", [tf_keras, keras], ids=["tf_keras", "keras"])


def examples(count):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def come_through_or_are_refused(data, of):
    of.backend.clear_session()
    of.utils.set_random_seed(0)
    case = random_models.draw(lambda values: data.draw(st.sampled_from(values)), of)
    try:
        random_models.run(case)
    except random_models.Refused as refusal:
        assert ": " in str(refusal)


@examples(4)
@given(st.data())
def test_random_models_come_through_or_are_refused(data):
    come_through_or_are_refused(data, tf_keras)


@examples(2)
@given(st.data())
def test_random_models_of_keras_3_come_through_or_are_refused(data):
    come_through_or_are_refused(data, keras)


def small(build, of):
    image = of.Input((4, 4, 2), name="image")
    model = of.Model(image, build(image))
    random = random_models.np.random.default_rng(0)
    return random_models.Case(
        model=model,
        images=random.uniform(0, 1, (16, 4, 4, 2)).astype("float32"),
        weight_bits=8,
        activation_bits=8,
        options={},
        parts=(),
    )


@BOTH
def test_a_refusal_names_the_step(of):
    case = small(random_models.doubled(of)(), of)
    with pytest.raises(
        random_models.Refused, match=r"^quantize_model: .* doubled \(Doubled: class"
    ):
        random_models.run(case)


@BOTH
def test_a_copy_that_computes_something_else_is_found(monkeypatch, of):
    case = small(of.layers.Conv2D(3, 3, name="conv"), of)

    def altered(model):
        copy = of.models.clone_model(model)
        copy.set_weights([1.5 * weight for weight in model.get_weights()])
        return copy

    monkeypatch.setattr(random_models, "copy", types.SimpleNamespace(deepcopy=altered))
    with pytest.raises(random_models.Wrong, match="deepcopy: the loaded model computes something"):
        random_models.run(case)


@BOTH
def test_a_function_that_is_not_kept_is_found(monkeypatch, of):
    case = small(of.layers.Conv2D(3, 3, name="conv"), of)
    quantize = random_models.wrpn_tf.quantize_model

    def lossy(model, *bits, **options):
        copy = quantize(model, *bits, **options)
        copy.set_weights([-weight for weight in copy.get_weights()])
        return copy

    monkeypatch.setattr(random_models.wrpn_tf, "quantize_model", lossy)
    with pytest.raises(random_models.Wrong, match=r"output 'conv' is off by .* with 8 bits"):
        random_models.run(case)


def test_a_constant_output_may_be_off_by_a_few_codes():
    """Of one channel SOFTMAX is 1, and 255 / 256 on its grid: the square is off by 2 codes."""

    def squared(image):
        ones = keras.layers.Softmax()(keras.layers.Conv2D(1, 1)(image))
        return keras.layers.Multiply()([ones, ones])

    case = small(squared, keras)
    quantized = random_models.wrpn_tf.quantize_model(case.model, 8, 8)
    random_models.wrpn_tf.calibrate(quantized, case.images)
    random_models._check_function(case, quantized)
