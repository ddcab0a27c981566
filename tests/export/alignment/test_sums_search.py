"""The search for a sum's scale, with stand-ins for quantizers and kernels."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from export.alignment import sums
from export.ir.graph import IntegerGraph
from export.ir.operators import Add, Concatenate, Multiply, Pool2D, Subtract
from export.ir.provenance import Provenance
from export.ir.tensors import Tensor
from export.kernel_sets import addition
from wrpn_tf import QuantizationParameters


def float32(value):
    return float(np.float32(value))


def grid(scale, low=0, high=3):
    return QuantizationParameters(scale=float32(scale), low=low, high=high, bits=8)


class Variable:
    def __init__(self, value):
        self.value = np.float32(value)

    def numpy(self):
        return self.value

    def assign(self, value):
        assert np.asarray(value).dtype == np.float32
        self.value = value


class Quantizer:
    """A scale of half of one variable, and clips that two numbers of its steps give."""

    def __init__(self, has_free_scale=True, clips=lambda scale: (0, 3)):
        self.has_free_scale, self.clips = has_free_scale, clips

    def grid(self, variables):
        scale = float(variables["range"].value) / 2
        return grid(scale, *self.clips(scale))


def graph(*operators, scales, layers=None):
    """Tensors of these scales, each made by the layer of its own name."""
    layers = layers or {name: f"quant_{name}" for name in scales}
    return IntegerGraph(
        tensors={
            name: Tensor(shape=(1, 2, 2, 1), quantization=grid(scale))
            for name, scale in scales.items()
        },
        operators=list(operators),
        inputs=("a", "b"),
        outputs=(operators[-1].output,),
        provenance=Provenance(layers=layers),
    )


def add(*inputs, output="sum", kind=Add):
    return kind(inputs=inputs, output=output)


def pool(source, output, **fields):
    fields = {"kind": "max", "window": (1, 1), "strides": (1, 1)} | fields
    return Pool2D(inputs=(source,), output=output, **fields)


@pytest.mark.parametrize("kind", [Add, Subtract])
def test_wrong_pairs_are_those_of_keras_and_of_each_kernel(monkeypatch, kind):
    """Codes 0 to 3 and 0 to 3 in steps of 0.3 and 0.5, whatever the graph says of b."""
    operator = add("a", "b", kind=kind)
    one, other, output = grid(0.3), grid(0.5), grid(0.25, -2, 5)
    sign = 1 if kind is Add else -1
    scales = {"a": one.scale, "b": other.scale, "sum": 99.0}
    steps = list(itertools.product(range(4), repeat=2))
    reals = [Fraction(one.scale) * a + sign * Fraction(other.scale) * b for a, b in steps]
    wanted = [math.floor(real / Fraction(output.scale) + Fraction(1, 2)) for real in reals]
    wanted = np.clip(wanted, -2, 5)
    asked = []

    def keras(values, scale, low, high):
        assert values.dtype == np.float32
        products = [np.float32(one.scale) * np.float32(a) for a, _ in steps]
        others = [np.float32(other.scale) * np.float32(b) for _, b in steps]
        assert values.tolist() == [p + sign * q for p, q in zip(products, others, strict=True)]
        assert (scale, low, high) == (output.scale, -2, 5)
        return wanted + (np.arange(16) == 7)

    def kernel(given, left, right, parameters, kernel_set):
        assert given is operator and parameters == (one, other, output)
        pairs = np.stack([left, right], axis=1)
        assert pairs.dtype == np.int8 and pairs.tolist() == [[a + 124, b + 124] for a, b in steps]
        asked.append(kernel_set)
        errors = {"xnnpack": 2, "optimized": 3, "reference": 5}[kernel_set]
        return wanted + output.zero_point - (np.arange(16) < errors)

    monkeypatch.setattr(sums.numpy_twins, "quantize_codes_np", keras)
    monkeypatch.setattr(addition, "add_codes", kernel)
    pairs = sums._Pairs(graph(operator, scales={"a": 0.3, "b": 7.0, "sum": 1}), operator, scales)
    for enough, count, kernels in ((np.inf, 11, 3), (1, 1, 0), (2, 3, 1), (3, 3, 1), (4, 6, 2)):
        asked.clear()
        found = pairs.different(output, enough)
        assert (found, type(found)) == (count, int)
        assert asked == ["xnnpack", "optimized", "reference"][:kernels]
    assert pairs.different(output) == 11


def test_pairs_fill_vectors_of_16(monkeypatch):
    """Nine pairs and the first seven again."""
    operator = add("a", "b")
    network = graph(operator, scales={"a": 1, "b": 1, "sum": 1})
    for name in "ab":
        network.tensors[name] = Tensor(shape=(1,), quantization=grid(1, 0, 2))
    sizes = []

    def kernel(given, left, right, parameters, kernel_set):
        sizes.append((left.size, right.size))
        assert left[9:].tolist() == left[:7].tolist()
        return left + right - 125 + 1

    monkeypatch.setattr(addition, "add_codes", kernel)
    pairs = sums._Pairs(network, operator, {"a": 1.0, "b": 1.0})
    monkeypatch.setattr(sums.numpy_twins, "quantize_codes_np", lambda values, *_: values)
    assert pairs.different(grid(1, 0, 4)) == 3 * 16
    assert sizes == [(16, 16)] * 3


class Counts:
    """Stands in for `_Pairs`: how many pairs are wrong for a share of the trained scale."""

    def __init__(self, wrong, trained=2.0):
        self.wrong, self.trained, self.asked = wrong, trained, []

    def different(self, output, enough=np.inf):
        share = round((output.scale / self.trained - 1) * 2**15)  # 128 of them are 2^-8.
        self.asked.append(share)
        # No more need be counted than the fewest before.
        assert enough == min(map(self.wrong, self.asked[:-1]), default=np.inf)
        return self.wrong(share)


@pytest.mark.parametrize(
    ("wrong", "share", "trials"),
    [
        (lambda share: 0, 0, 1),
        (lambda share: 0 if share == 1 else 9, 1, 2),
        (lambda share: 0 if abs(share) == 5 else 9, 5, 10),  # 0, 1, -1 and so on: 5 before -5.
        (lambda share: 0 if share == -128 else 9, -128, 257),
        (lambda share: 9, 0, 257),
        (lambda share: 4 if share in (-7, 9) else 5, -7, 257),  # The nearest of the fewest.
        (lambda share: abs(share - 30) + 1, 30, 257),
        (lambda share: 10 - (share == 3), 3, 257),
    ],
)
def test_scales_move_to_the_nearest_with_the_fewest_wrong(wrong, share, trials):
    variables = {"range": Variable(4.0), "other": Variable(-1.0)}
    pairs = Counts(wrong)
    scale = sums._settle_scale(pairs, Quantizer(), variables)
    assert scale == float32(2 * (1 + share / 2**15))
    assert variables["range"].value == np.float32(4) * np.float32(1 + share / 2**15)
    assert variables["other"].value == np.float32(-1) * np.float32(1 + share / 2**15)
    assert len(pairs.asked) == trials
    assert pairs.asked[:5] == [0, 1, -1, 2, -2][: min(trials, 5)]


@pytest.mark.parametrize("clips", [lambda s: (-(s > 2), 3), lambda s: (0, 3 + (s > 2))])
def test_grids_keep_their_codes(clips):
    """Above the trained scale there are other codes: only smaller scales are tried."""
    pairs = Counts(lambda share: 5)
    assert sums._settle_scale(pairs, Quantizer(clips=clips), {"range": Variable(4.0)}) == 2
    assert pairs.asked == [0, *range(-1, -129, -1)]


@pytest.fixture(name="settle")
def settle_fixture(monkeypatch):
    """Settles a graph, where scales of 2 have wrong pairs; and the scales it was asked."""
    asked, networks = {}, []

    class Pairs(Counts):
        def __init__(self, given, operator, scales):
            assert given is networks[-1]
            asked[operator.output] = [scales[name] for name in operator.inputs]
            super().__init__(lambda share: int(share == 0))

    monkeypatch.setattr(sums, "_Pairs", Pairs)

    def run(graph, **quantizers):
        model = object()
        networks.append(graph)
        outputs = {
            f"quant_{name}": (quantizer, {"range": Variable(4.0)})
            for name, quantizer in quantizers.items()
        }

        def named(given):
            assert given is model
            return outputs

        monkeypatch.setattr(sums.wrpn_tf, "named_output_quantizers", named)
        moved = sums.settle_output_scales(model, graph)
        assert set(moved.values()) <= {MOVED / 2}
        found = {name[6:]: each[1]["range"].value / 2 for name, each in outputs.items()}
        return moved, found, asked

    return run


MOVED = float32(2 * (1 + 2.0**-15))


def test_sums_read_moved_scales(settle):
    """The difference reads the first sum through a pool, and a product, which stays."""
    operators = (
        add("a", "b", output="sum"),
        pool("sum", "pooled"),
        Multiply(inputs=("a", "b"), output="product"),
        add("pooled", "product", output="last", kind=Subtract),
    )
    scales = {"a": 1, "b": 1, "sum": 2, "pooled": 2, "product": 2, "last": 2}
    moved, found, asked = settle(
        graph(*operators, scales=scales), sum=Quantizer(), product=Quantizer(), last=Quantizer()
    )
    assert set(moved) == {"sum", "last"}
    assert found == {"sum": MOVED, "product": 2, "last": MOVED}
    assert asked == {"sum": [1, 1], "last": [MOVED, 2]}


def test_a_copy_by_the_layer_of_a_sum_has_its_scale(settle):
    """On the grid of the layer's quantizer, which has moved before."""
    operators = add("a", "b"), pool("sum", "copy"), add("copy", "b", output="last")
    scales = {"a": 1, "b": 1, "sum": 2, "copy": 2, "last": 2}
    layers = {name: f"quant_{name}" for name in scales} | {"copy": "quant_sum"}
    network = graph(*operators, scales=scales, layers=layers)
    moved, found, asked = settle(network, sum=Quantizer(), last=Quantizer())
    assert set(moved) == {"sum", "last"}
    assert found == {"sum": MOVED, "last": MOVED}
    assert asked == {"sum": [1, 1], "last": [MOVED, 1]}


def test_nothing_moves_where_the_method_fixes_the_scale(settle):
    network = graph(add("a", "b"), scales={"a": 1, "b": 1, "sum": 2})
    moved, found, asked = settle(network, sum=Quantizer(has_free_scale=False))
    assert (moved, found, asked) == ({}, {"sum": 2}, {})


def test_sums_after_one_that_stays_move(settle):
    operators = add("a", "b"), add("sum", "b", output="last")
    network = graph(*operators, scales={"a": 1, "b": 1, "sum": 2, "last": 2})
    moved, found, _ = settle(network, sum=Quantizer(has_free_scale=False), last=Quantizer())
    assert (set(moved), found) == ({"last"}, {"sum": 2, "last": MOVED})


def test_the_quantizer_may_be_of_a_pool_behind_a_pool(settle):
    operators = add("a", "b"), pool("sum", "one"), pool("one", "two")
    network = graph(*operators, scales={"a": 1, "b": 1, "sum": 2, "one": 2, "two": 2})
    moved, found, _ = settle(network, two=Quantizer())
    assert (set(moved), found) == ({"sum"}, {"two": MOVED})


@pytest.mark.parametrize(
    "readers",
    [
        [],
        [pool("sum", "one"), pool("sum", "two")],  # Two readers.
        [Concatenate(inputs=("sum", "b"), output="two", axis=3)],  # Of several tensors.
        [add("sum", "b", output="two")],  # Another scale.
    ],
)
def test_a_tensor_that_shares_its_grid_stays(settle, readers):
    scales = {"a": 1, "b": 1, "sum": 2, "one": 2, "two": 2}
    network = graph(add("a", "b"), *readers, scales=scales)
    moved, found, asked = settle(network, two=Quantizer(has_free_scale=False))
    assert (moved, found, asked) == ({}, {"two": 2}, {})


@pytest.fixture(name="settle_joint")
def settle_joint_fixture(monkeypatch):
    """Settles a concatenation, at whose second scale or later each of its sums is right.

    Gives the scale of the concatenation, and the scales of the inputs of each sum that was counted.
    """
    asked = {}

    class Pairs:
        def __init__(self, given, operator, scales):
            asked[operator.output] = [scales[name] for name in operator.inputs]
            self._right = {"sum": 2, "other": 5}[operator.output]

        def different(self, output, enough=np.inf):
            return int(round((output.scale / 2 - 1) * 2**15) < self._right)

    def run(*operators, **quantizers):
        scales = dict.fromkeys(["a", "b", *(each.output for each in operators)], 2)
        network = graph(*operators, scales=scales)
        monkeypatch.setattr(sums, "_Pairs", Pairs)
        outputs = {
            f"quant_{name}": (quantizer, {"range": Variable(4.0)})
            for name, quantizer in quantizers.items()
        }
        monkeypatch.setattr(sums.wrpn_tf, "named_output_quantizers", lambda _: outputs)
        sums.settle_output_scales(object(), network)
        found = {name[6:]: each[1]["range"].value / 2 for name, each in outputs.items()}
        return found, asked

    return run


SUMS = add("a", "b"), add("b", "a", output="other")
JOIN = Concatenate(inputs=("sum", "other"), output="join", axis=3)


def test_a_concatenation_has_a_scale_that_serves_all_its_sums(settle_joint):
    found, asked = settle_joint(*SUMS, JOIN, join=Quantizer())
    assert found == {"join": float32(2 * (1 + 5 * 2.0**-15))}
    assert asked == {"sum": [2, 2], "other": [2, 2]}


def test_what_reads_a_concatenation_of_concatenations_reads_its_scale(settle_joint):
    """A concatenation without a quantizer of its own has that of its reader."""
    inner = Concatenate(inputs=("other", "other"), output="inner", axis=3)
    outer = Concatenate(inputs=("pooled", "inner"), output="outer", axis=3)
    last = add("outer", "a", output="sum"), pool("sum", "last")
    operators = add("a", "b", output="other"), pool("other", "pooled"), inner, outer, *last
    found, asked = settle_joint(*operators, outer=Quantizer(), last=Quantizer())
    assert found["outer"] == float32(2 * (1 + 5 * 2.0**-15))
    assert asked["sum"] == [found["outer"], 2]
    assert found["last"] == float32(2 * (1 + 2 * 2.0**-15))


@pytest.mark.parametrize(
    ("operators", "quantizers"),
    [
        ((*SUMS, JOIN), {"join": False}),
        ((*SUMS, JOIN), {"sum": False, "join": True}),  # On the same grid by chance.
        ((*SUMS, JOIN, pool("sum", "pooled")), {"join": True}),  # Read by something else.
        ((*SUMS, Concatenate(inputs=("sum", "a"), output="join", axis=3)), {"join": True}),
    ],
)
def test_a_grid_of_several_quantizers_or_readers_stays(settle_joint, operators, quantizers):
    given = {name: Quantizer(has_free_scale=free) for name, free in quantizers.items()}
    found, asked = settle_joint(*operators, **given)
    assert (set(found.values()), asked) == ({2}, {})


def test_scale_constraints_of_copies():
    assert sums._copies(pool("a", "b")) and sums._copies(pool("a", "b", kind="average"))
    assert sums._copies(Concatenate(inputs=("a",), output="b", axis=3))
    assert not sums._copies(Concatenate(inputs=("a", "b"), output="c", axis=3))
    assert not sums._copies(add("a", "b"))
