"""Random models come through everything equal, or are refused by a sentence; a few of them here."""

import types

import pytest
import tf_keras as keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import random_models


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_random_models_come_through_or_are_refused(data):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    case = random_models.draw(lambda values: data.draw(st.sampled_from(values)))
    try:
        random_models.run(case)
    except random_models.Refused as refusal:
        assert ": " in str(refusal)


def small(build):
    image = keras.Input((4, 4, 2), name="image")
    model = keras.Model(image, build(image))
    random = random_models.np.random.default_rng(0)
    return random_models.Case(
        model=model,
        images=random.uniform(0, 1, (16, 4, 4, 2)).astype("float32"),
        weight_bits=8,
        activation_bits=8,
        options={},
        parts=(),
    )


def test_a_refusal_names_the_step():
    case = small(random_models.Doubled())
    with pytest.raises(
        random_models.Refused, match=r"^quantize_model: .* doubled \(Doubled: class"
    ):
        random_models.run(case)


def test_a_copy_that_computes_something_else_is_found(monkeypatch):
    case = small(keras.layers.Conv2D(3, 3, name="conv"))
    monkeypatch.setattr(random_models, "copy", types.SimpleNamespace(deepcopy=altered))
    with pytest.raises(random_models.Wrong, match="deepcopy: the loaded model computes something"):
        random_models.run(case)


def altered(model):
    copy = keras.models.clone_model(model)
    copy.set_weights([1.5 * weight for weight in model.get_weights()])
    return copy


def test_a_function_that_is_not_kept_is_found(monkeypatch):
    case = small(keras.layers.Conv2D(3, 3, name="conv"))
    quantize = random_models.wrpn_tf.quantize_model

    def lossy(model, *bits, **options):
        copy = quantize(model, *bits, **options)
        copy.set_weights([-weight for weight in copy.get_weights()])
        return copy

    monkeypatch.setattr(random_models.wrpn_tf, "quantize_model", lossy)
    with pytest.raises(random_models.Wrong, match=r"output 'conv' is off by .* with 8 bits"):
        random_models.run(case)
