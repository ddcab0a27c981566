"""Which outputs get a quantizer, by hand."""

import dataclasses
from typing import Any

import pytest
from tf_keras import layers

from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.placement import KBit, Placement, Range
from wrpn_tf.graph.roles import kind
from wrpn_tf.tfmot.own_layers import Use


@dataclasses.dataclass(frozen=True)
class Item:
    """What placement asks of a node."""

    name: str
    layer: Any
    inputs: tuple[str, ...]

    @property
    def kind(self):
        return kind(self.layer)


def k_bit(bits=4, maximum=None, method="learned"):
    return KBit(bits=bits, method=method, maximum=maximum)


def placed(*steps, results=(), integer=True, wanted=None):
    """The quantizers of layers as tuples: name, layer, inputs; all want 4 bits but for `wanted`."""
    items = [Item("image", layers.InputLayer((4, 4, 2)), ())]
    items += [Item(name, layer, tuple(inputs.split())) for name, layer, inputs in steps]
    asked = {item.name: k_bit() for item in items[1:]} | (wanted or {})
    asked = {name: want for name, want in asked.items() if want != "not annotated"}
    placement = Placement(Fusion(items, results), asked, integer)
    outputs = {item.name: placement.output(item.name) for item in items}
    return {name: output for name, output in outputs.items() if output is not None}


def conv():
    return layers.Conv2D(2, 1)


def activation(name):
    return layers.Activation(name)


@pytest.mark.parametrize("integer", [True, False])
def test_only_the_end_of_a_group_has_one(integer):
    found = placed(
        ("conv", conv(), "image"),
        ("bn", layers.BatchNormalization(), "conv"),
        ("relu", layers.ReLU(), "bn"),
        ("linear", conv(), "relu"),
        ("use", Use(), "linear"),
        ("sum", layers.Add(), "use relu"),
        ("product", layers.Multiply(), "sum relu"),
        ("product_relu", layers.ReLU(), "product"),
        integer=integer,
    )
    eight = {"use": Range(), "sum": Range()} if integer else {}
    assert found == {"relu": k_bit(), "product_relu": k_bit(), **eight}


def test_what_was_not_annotated_or_is_off_has_none():
    steps = (("conv", conv(), "image"), ("relu", layers.ReLU(), "conv"))
    assert placed(*steps, wanted={"relu": None}) == {}
    assert placed(*steps, wanted={"relu": "not annotated"}) == {}
    assert placed(*steps, wanted={"conv": "not annotated"}) == {"relu": k_bit()}


def joined(one, two, *, join=None, **options):
    """Of two branches and what joins them."""
    return placed(
        ("conv_one", conv(), "image"),
        ("one", one, "conv_one"),
        ("conv_two", conv(), "image"),
        ("two", two, "conv_two"),
        ("join", join or layers.Concatenate(), "one two"),
        ("last", conv(), "join"),
        **options,
    )


LAST = {"last": Range()}


def test_branches_of_a_concatenation_leave_it_to_it():
    wanted = {"one": k_bit(2, method="paper"), "two": k_bit(3)}
    found = joined(layers.ReLU(), layers.ReLU(), wanted=wanted)
    assert found == {"join": k_bit(3, method="paper")} | LAST
    found = joined(layers.ReLU(), layers.ReLU(), join=layers.Maximum(), integer=False)
    assert found == {"join": k_bit()}


def test_a_concatenation_of_more_than_relus_has_a_range():
    branches = layers.ReLU(), layers.BatchNormalization()
    assert joined(*branches) == {"join": Range()} | LAST
    assert joined(*branches, integer=False) == {"one": k_bit()}  # It has no grid to leave it to.
    probabilities = Range(fixed=(0.0, 255 / 256))
    for function in ("sigmoid", "softmax"):
        found = joined(layers.ReLU(), activation(function))
        assert found == {"conv_two": Range(), "two": probabilities, "join": Range()} | LAST


def test_a_branch_without_bits_leaves_the_other_its_own():
    found = joined(layers.ReLU(), layers.ReLU(), wanted={"two": None})
    assert found == {"one": k_bit()} | LAST
    found = placed(
        *(("one", layers.ReLU(), "image"), ("two", layers.ReLU(), "image")),
        ("join", layers.Concatenate(), "one two"),
        ("linear", conv(), "image"),
        ("all", layers.Concatenate(), "join linear"),
        wanted={"two": None},
    )
    assert found == {"all": Range()}  # Which has 8 bits for what it joins.


def test_a_branch_whose_values_others_see_keeps_its_own():
    found = joined(layers.ReLU(), layers.ReLU(), results=["one"])
    assert found == {"one": k_bit(), "join": k_bit()} | LAST
    found = joined(layers.ReLU(), layers.ReLU(), wanted={"join": "not annotated"})
    assert found == {"one": k_bit(), "two": k_bit()} | LAST


def test_a_maximum_below_that_of_all_clips_by_itself():
    found = joined(layers.ReLU(6.0), layers.ReLU(6.0))
    assert found == {"join": k_bit(maximum=6.0)} | LAST
    found = joined(layers.ReLU(6.0), layers.ReLU(4.0))
    assert found == {"two": k_bit(maximum=4.0), "join": k_bit(maximum=6.0)} | LAST
    found = joined(activation("relu6"), layers.ReLU())
    assert found == {"one": k_bit(maximum=6.0), "join": k_bit()} | LAST
    found = joined(layers.ReLU(6.0), layers.BatchNormalization())
    assert found == {"one": k_bit(maximum=6.0), "join": Range()} | LAST


@pytest.mark.parametrize("integer", [True, False])
def test_through_what_passes_values_on(integer):
    found = placed(
        ("conv", conv(), "image"),
        ("relu", layers.ReLU(), "conv"),
        ("pool", layers.MaxPooling2D(1), "relu"),
        ("one", layers.Concatenate(), "pool pool"),
        ("two", layers.Concatenate(), "one one"),
        ("three", layers.Concatenate(), "two"),
        ("flat", layers.Flatten(), "three"),
        integer=integer,
    )
    # Read twice, an output has more than one reader.
    assert found == {"relu": k_bit(), "one": k_bit(), "three": k_bit()}
    found = placed(
        ("conv", conv(), "image"),
        ("relu", layers.ReLU(), "conv"),
        ("pool", layers.MaxPooling2D(1), "relu"),
        ("join", layers.Concatenate(), "pool"),
        integer=integer,
    )
    assert found == {"join": k_bit()}


def test_an_average_has_a_grid_of_its_own_where_all_are_integers():
    steps = (
        ("conv", conv(), "image"),
        ("relu", layers.ReLU(), "conv"),
        ("average", layers.AveragePooling2D(2), "relu"),
        ("join", layers.Concatenate(), "average"),
    )
    assert placed(*steps) == {"average": k_bit(), "join": k_bit()}
    assert placed(*steps, integer=False) == {"relu": k_bit(), "join": k_bit()}
    assert placed(*steps[:3]) == {"average": k_bit()}
    assert placed(*steps[:3], integer=False) == {"relu": k_bit()}
    linear = steps[0], ("average", layers.AveragePooling2D(2), "conv")
    assert placed(*linear) == {"average": Range()}


def test_probabilities_have_the_grid_of_their_operator_where_something_reads_them():
    steps = (("one", activation("sigmoid"), "image"), ("two", layers.Softmax(), "one"))
    assert placed(*steps, results=["two"]) == {"one": Range(fixed=(0.0, 255 / 256))}
    assert placed(*steps, integer=False) == {}


@pytest.mark.parametrize(
    ("layer", "ends"),
    [
        (layers.Rescaling(2.0, -1.0), (-1.0, 0.9921875)),
        (layers.Rescaling(3.0), (0.0, 2.98828125)),
        (layers.Rescaling(256.0, -255.0), (-255.0, 0.0)),
        (layers.Rescaling(1.0, -1.0), None),  # 256 codes below 0.
        (layers.Rescaling(2.0, 1.0), None),
        (layers.Rescaling(2.0, -0.3), None),
        (layers.Rescaling(-2.0, 1.0), None),
        (layers.Rescaling([2.0, 2.0], -1.0), None),
        (layers.Rescaling(2.0, [-1.0, -1.0]), None),
        (layers.BatchNormalization(), None),
    ],
)
def test_a_line_of_a_sigmoid_has_its_codes(layer, ends):
    for before, expected in ((activation("sigmoid"), ends), (layers.Add(), None)):
        found = placed(("it", before, "image"), ("line", layer, "it"), results=["line"])
        assert found["line"] == Range(fixed=expected)
        steps = ("it", before, "image"), ("line", layer, "it")
        assert placed(*steps, results=["line"], integer=False) == {}


def test_a_gain_before_kernels_has_none():
    steps = (("half", layers.Rescaling(0.5), "image"), ("conv", conv(), "half"))
    assert placed(*steps) == {"conv": Range()}
    assert placed(*steps, results=["half"]) == {"half": Range(), "conv": Range()}
