"""Bits between steps, by hand."""

import dataclasses

import pytest
import tf_keras as keras
from tf_keras import layers

import wrpn_tf
from wrpn_tf.costs.dataflow import Dataflow, Step, planned_dataflow, quantized_dataflow
from wrpn_tf.graph.roles import Kind


def flow(*steps, results=()):
    """A dataflow of steps as tuples: name, kind, bits of the output, inputs."""
    return Dataflow(
        [
            Step(
                name=name,
                part_of=name,
                kind=kind,
                layer=None,
                inputs=tuple(inputs.split()),
                shape=(4, 4, 2),
                output_bits=bits,
            )
            for name, kind, bits, inputs in steps
        ],
        results,
    )


def input_bits(found, name):
    return found.input_bits(found.steps[name])


def map_bits(found, name):
    return found.map_bits(found.fusion.group(name))


def test_bits_that_are_read_come_through_what_has_its_inputs_scale():
    found = flow(
        ("image", Kind.INPUT, 8, ""),
        ("conv", Kind.KERNEL, None, "image"),
        ("relu", Kind.RELU, 3, "conv"),
        ("max", Kind.PASS, None, "relu"),
        ("join", Kind.CONCATENATE, None, "max image"),
        ("average", Kind.AVERAGE, 5, "join"),
        ("line", Kind.AFFINE, None, "max"),
        *((f"read_{name}", Kind.KERNEL, None, name) for name in ("max", "join", "average", "line")),
    )
    assert input_bits(found, "conv") == 8
    assert input_bits(found, "read_max") == 3
    assert input_bits(found, "read_join") == 8  # The most of several.
    assert input_bits(found, "read_average") == 5
    assert input_bits(found, "read_line") == 32


@pytest.mark.parametrize(
    ("kind", "bits"),
    [(Kind.AFFINE, 4), (Kind.ADD, 4), (Kind.RELU, 4), (Kind.MULTIPLY, 32), (Kind.PASS, 32)],
)
def test_a_map_has_the_bits_of_what_works_in_its_place(kind, bits):
    found = flow(
        ("image", Kind.INPUT, 8, ""),
        ("conv", Kind.KERNEL, None, "image"),
        ("bn", Kind.AFFINE, None, "conv"),
        ("next", kind, None, "bn image" if kind in (Kind.ADD, Kind.MULTIPLY) else "bn"),
        ("relu", Kind.RELU, 4, "next"),
    )
    assert map_bits(found, "conv") == bits
    assert map_bits(found, "image") == 8


def test_a_map_that_others_read_keeps_its_own_bits():
    steps = [
        ("image", Kind.INPUT, None, ""),
        ("conv", Kind.KERNEL, None, "image"),
        ("relu", Kind.RELU, 4, "conv"),
    ]
    assert map_bits(flow(*steps), "conv") == 4
    assert map_bits(flow(*steps, results=["conv", "relu"]), "conv") == 32
    assert map_bits(flow(*steps, ("other", Kind.SIGMOID, None, "conv")), "conv") == 32
    assert map_bits(flow(*steps), "image") == 32


def test_maps_of_pooling_have_the_bits_of_what_is_pooled():
    found = flow(
        ("image", Kind.INPUT, 8, ""),
        ("relu", Kind.RELU, 4, "image"),
        ("max", Kind.PASS, None, "relu"),
        ("bn", Kind.AFFINE, 8, "max"),
    )
    assert map_bits(found, "max") == 4


def network():
    inputs = keras.Input((6, 6, 2), name="image")
    x = layers.SeparableConv2D(4, 3, activation="relu", name="first")(inputs)
    x = x * 0.5
    x = layers.Conv2DTranspose(3, 2, strides=2, name="up")(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(layers.Flatten(name="flat")(x)))


@pytest.mark.parametrize("first_last", ["integer", "paper"])
def test_a_plan_has_the_steps_of_the_quantized_model(first_last):
    model = network()
    planned = planned_dataflow(model, 3, 4, first_last)
    quantized = quantized_dataflow(wrpn_tf.quantize_model(model, 3, 4, first_last=first_last))
    steps = dict(quantized.steps)
    if first_last == "integer":  # The quantizer of an input is a layer of its own.
        quantizer = steps.pop("quantize_image")
        assert (quantizer.output_bits, planned.steps["image"].output_bits) == (8, 8)
    assert list(planned.steps) == list(steps)
    for name, step in planned.steps.items():
        for field in dataclasses.fields(Step):
            if field.name not in ("layer", "inputs", "part_of") and name != "image":
                assert getattr(step, field.name) == getattr(steps[name], field.name), (name, field)


def test_steps_of_a_plan_by_hand():
    steps = planned_dataflow(network(), 3, 4, "integer").steps
    facts = {
        step.name: (step.part_of, step.weights, step.weight_bits, step.output_bits, step.shape)
        for step in steps.values()
    }
    assert facts == {
        "image": ("image", 0, 32, 8, (6, 6, 2)),
        "first_depthwise": ("first", 9 * 2, 8, 8, (4, 4, 2)),
        "first_pointwise": ("first", 2 * 4, 8, None, (4, 4, 4)),
        "first_relu": ("first", 0, 32, 4, (4, 4, 4)),
        **{name: (name, 0, 32, None, (4, 4, 4)) for name in steps if name.startswith("tf.")},
        "up": ("up", 4 * 4 * 3, 3, 8, (8, 8, 3)),
        "flat": ("flat", 0, 32, None, (192,)),
        "last": ("last", 384, 8, 8, (2,)),
    }
