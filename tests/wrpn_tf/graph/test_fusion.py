"""Fusion groups, of networks and of what quantization makes of them."""

import dataclasses
from typing import Any

import pytest
import small_models
import small_networks
import tf_keras as keras
from tf_keras import layers

import wrpn_tf
from wrpn_tf.graph.canonical import canonical
from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.roles import Kind
from wrpn_tf.tfmot import traversal


@dataclasses.dataclass(frozen=True)
class Item:
    """No more than fusion asks for."""

    name: str
    kind: Kind | None
    inputs: tuple[str, ...]
    layer: Any = None


def chain(*kinds, results=None):
    """The groups of layers that read one another, 'a' first, as strings of names."""
    names = "abcdefgh"[: len(kinds)]
    items = [
        Item(name, kind, (before,) if before else ())
        for name, before, kind in zip(names, ["", *names], kinds, strict=False)
    ]
    fusion = Fusion(items, names[-1] if results is None else results)
    return ["".join(layer.name for layer in group.layers) for group in fusion.groups]


@pytest.mark.parametrize(
    ("kinds", "groups"),
    [
        ("INPUT KERNEL AFFINE RELU", ["a", "bcd"]),
        ("INPUT KERNEL RELU", ["a", "bc"]),
        ("INPUT KERNEL AFFINE", ["a", "bc"]),
        ("INPUT KERNEL AFFINE AFFINE RELU", ["a", "bc", "de"]),
        ("INPUT KERNEL RELU AFFINE", ["a", "bc", "d"]),
        ("INPUT KERNEL RELU RELU", ["a", "bc", "d"]),
        ("INPUT KERNEL KERNEL", ["a", "b", "c"]),
        ("INPUT AFFINE RELU KERNEL", ["a", "bc", "d"]),
        ("INPUT INPUT RELU", ["ab", "c"]),
        ("INPUT KERNEL PASS RELU", ["a", "b", "c", "d"]),
        ("INPUT AVERAGE RELU", ["a", "b", "c"]),
        ("INPUT SIGMOID RELU", ["a", "b", "c"]),
        ("INPUT ADD AFFINE RELU", ["a", "b", "cd"]),
        ("INPUT ADD RELU", ["a", "bc"]),
        ("INPUT MULTIPLY RELU", ["a", "bc"]),
        ("INPUT MULTIPLY AFFINE", ["a", "b", "c"]),
        ("INPUT CONCATENATE RELU", ["a", "b", "c"]),
    ],
)
def test_chains(kinds, groups):
    assert chain(*(Kind[name] for name in kinds.split())) == groups


def test_a_layer_of_no_role_is_alone():
    assert chain(Kind.INPUT, None, Kind.RELU, None) == ["a", "b", "c", "d"]


def test_what_the_network_returns_ends_its_group():
    kinds = Kind.INPUT, Kind.KERNEL, Kind.AFFINE, Kind.RELU
    assert chain(*kinds, results="cd") == ["a", "bc", "d"]
    assert chain(*kinds, results="bd") == ["a", "b", "cd"]


def test_what_several_read_ends_its_group():
    items = [
        Item("image", Kind.INPUT, ()),
        Item("conv", Kind.KERNEL, ("image",)),
        Item("bn", Kind.AFFINE, ("conv",)),
        Item("relu", Kind.RELU, ("bn",)),
        Item("sum", Kind.ADD, ("bn", "bn")),
        Item("sum_relu", Kind.RELU, ("sum",)),
    ]
    fusion = Fusion(items, ["relu", "sum_relu"])
    groups = [[layer.name for layer in group.layers] for group in fusion.groups]
    assert groups == [["image"], ["conv", "bn"], ["relu"], ["sum", "sum_relu"]]
    group = fusion.group("bn")
    assert group is fusion.group("conv")
    assert (group.body.name, group.affine.name, group.end.name) == ("conv", "bn", "bn")
    assert fusion.group("sum").affine is None
    assert fusion.only_reader("bn") is None
    assert fusion.only_reader("sum").name == "sum_relu"
    assert [layer.name for layer in fusion.readers("bn")] == ["relu", "sum", "sum"]


def gains(build):
    inputs = keras.Input((6, 6, 2), name="image")
    network = traversal.read(keras.Model(inputs, build(inputs)))
    return set(Fusion(network.nodes, network.results).gains)


def conv(name, x):
    return layers.Conv2D(2, 1, name=name)(x)


def test_a_gain_before_kernels_alone_is_theirs():
    def half(x):
        return layers.Rescaling(0.5, name="half")(x)

    def shared(x):
        x = half(x)
        return [conv("one", x), conv("two", x)]

    def partly(x):
        x = half(x)
        return [conv("one", x), layers.ReLU()(x)]

    assert gains(lambda x: conv("one", half(x))) == {"half"}
    assert gains(shared) == {"half"}
    assert gains(partly) == set()
    assert gains(lambda x: [conv("one", y := half(x)), y]) == set()
    assert gains(lambda x: conv("one", layers.ReLU()(half(x)))) == set()
    assert gains(lambda x: conv("two", half(conv("one", x)))) == set()  # It is the first's.
    assert gains(lambda x: conv("one", layers.Rescaling(-0.5)(x))) == set()
    assert gains(lambda x: conv("one", layers.Rescaling(0.5, 1.0)(x))) == set()
    assert gains(lambda x: conv("one", layers.Rescaling([0.5, 0.25])(x))) == set()


def test_whose_quantization_parameters_a_tensor_shares():
    inputs = keras.Input((6, 6, 2), name="image")
    one, two = (layers.ReLU(name=f"relu_{name}")(conv(name, inputs)) for name in ("one", "two"))
    x = layers.AveragePooling2D(2, 1, "same", name="average")(one)
    x = layers.Concatenate(name="join")([layers.MaxPooling2D(2, 1, "same", name="max")(x), two])
    x = layers.ZeroPadding2D(name="pad")(layers.Maximum(name="most")([x, x]))
    x = layers.UpSampling2D(interpolation="bilinear", name="up")(x)
    network = traversal.read(keras.Model(inputs, layers.Reshape((-1,), name="flat")(x)))
    fusion = Fusion(network.nodes, network.results)
    names = ["relu_one", "relu_two"]
    assert [layer.name for layer in fusion.sources("max")] == names[:1]
    assert [layer.name for layer in fusion.sources("join")] == names
    assert [layer.name for layer in fusion.sources("flat")] == 2 * names


@pytest.mark.parametrize(
    "build",
    [
        small_models.everything,
        small_models.convnet,
        lambda: small_networks.network(0),
        lambda: small_networks.gated(0),
        lambda: small_networks.decoder(0),
        lambda: small_networks.compared(0),
    ],
    ids=["everything", "convnet", "network", "gated", "decoder", "compared"],
)
def test_a_quantized_network_has_the_groups_of_the_float_network(build):
    model = build()
    network = decomposed(canonical(traversal.read(model), layers), layers)
    planned = Fusion(network.nodes, network.results)
    quantized = wrpn_tf.fusion_groups(wrpn_tf.quantize_model(model))
    kinds = Kind.KERNEL, Kind.AFFINE, Kind.ADD, Kind.MULTIPLY, Kind.RELU
    one, other = (
        {
            tuple(layer.name.removeprefix("quant_") for layer in group.layers)
            for group in fusion.groups
            if group.body.kind in kinds
        }
        for fusion in (planned, quantized)
    )
    assert one == other
    assert {name.removeprefix("quant_") for name in quantized.gains} == set(planned.gains)
    for group in quantized.groups:  # Quantizers stand at the ends and nowhere else.
        assert not any(layer.observes for layer in group.layers[:-1])
        if group.body.kind in kinds and group.body.name not in quantized.gains:
            deferred = quantized.only_reader(group.end.name)
            assert group.end.observes or deferred is not None
