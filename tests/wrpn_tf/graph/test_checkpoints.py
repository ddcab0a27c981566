"""Which outputs training keeps, and which it computes again."""

import dataclasses

import pytest
from tf_keras import layers

from wrpn_tf.graph import checkpoints
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.roles import kind


@dataclasses.dataclass(frozen=True)
class Step:
    name: str
    layer: object
    inputs: tuple[str, ...] = ()

    @property
    def kind(self):
        return kind(self.layer)


def fusion(*steps, results):
    return Fusion([Step(*step) for step in steps], [results])


def conv():
    return layers.Conv2D(1, 1)


def block():
    """A residual block, pooling, dropout and a last layer."""
    return fusion(
        ("image", layers.InputLayer((4, 4, 1))),
        ("conv1", conv(), ("image",)),
        ("relu1", layers.ReLU(), ("conv1",)),
        ("conv2", conv(), ("relu1",)),
        ("bn2", layers.BatchNormalization(), ("conv2",)),
        ("add", layers.Add(), ("bn2", "relu1")),
        ("relu2", layers.ReLU(), ("add",)),
        ("pool", layers.MaxPooling2D(), ("relu2",)),
        ("drop", layers.Dropout(0.5), ("pool",)),
        ("last", conv(), ("drop",)),
        results="last",
    )


BITS = {"image": 8, "relu1": 4, "bn2": 8, "relu2": 2, "last": 8}


def test_quantized_outputs_are_kept_and_what_lies_between_is_not():
    network = block()
    between = checkpoints.between_checkpoints(network, BITS)
    assert between == {"conv1", "conv2", "bn2", "add", "pool", "drop"}
    assert checkpoints.checkpoints(network, between) == {"image", "relu1", "relu2"}


def test_an_operand_in_fewer_bits_than_a_byte_is_kept():
    between = checkpoints.between_checkpoints(block(), BITS | {"bn2": 7})
    assert "bn2" not in between and "add" in between


def test_what_two_layers_read_is_kept_without_a_quantizer_too():
    network = block()
    between = checkpoints.between_checkpoints(network, {})
    assert "relu1" not in between and "relu2" in between
    assert checkpoints.checkpoints(network, between) == {"image", "relu1"}


def test_the_grid_of_a_pooling_is_that_of_its_input():
    network = block()
    assert checkpoints.grid_source(network, BITS, "pool") == "relu2"
    assert checkpoints.grid_source(network, BITS, "relu2") == "relu2"
    assert checkpoints.grid_source(network, BITS, "drop") is None  # Dropout multiplies.
    assert checkpoints.grid_source(network, BITS, "add") is None


@pytest.mark.parametrize(
    "layer",
    [
        layers.GaussianNoise(0.1),
        layers.RandomFlip(),
        layers.ActivityRegularization(0.1),
        layers.Conv2D(1, 1, activity_regularizer="l2"),
        layers.LayerNormalization(),
        layers.InputLayer((4, 4, 1)),
    ],
    ids=lambda layer: layer.name,
)
def test_what_cannot_be_repeated_is_called_once_between_checkpoints(layer):
    network = fusion(
        ("image", layers.InputLayer((4, 4, 1))),
        ("conv", conv(), ("image",)),
        ("once", layer, ("conv",)),
        ("last", conv(), ("once",)),
        results="last",
    )
    assert not checkpoints.between_checkpoints(network, {})
    assert checkpoints.checkpoints(network, ()) == {"image", "once"}


def test_a_mask_of_dropout_can_be_repeated():
    network = fusion(
        ("image", layers.InputLayer((4, 4, 1))),
        ("conv", conv(), ("image",)),
        ("drop", layers.Dropout(0.5), ("conv",)),
        ("last", conv(), ("drop",)),
        results="last",
    )
    assert checkpoints.between_checkpoints(network, {}) == {"conv", "drop"}
