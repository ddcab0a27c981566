"""Grouped convolutions, split: the same accumulators, and no group left."""

import dataclasses

import numpy as np
import pytest
import random_graphs

from export.executor import execution
from export.ir.operators import Concatenate, Conv2D, GroupedConv2D, Slice
from export.ir.validation import validate
from export.realization import grouped_convolutions


@pytest.mark.parametrize("seed", range(8))
def test_the_parts_compute_the_whole(seed):
    graph = random_graphs.one_operator("grouped conv", seed)
    split = grouped_convolutions.split(graph)
    validate(split)
    (operator,) = graph.operators
    count = operator.groups(graph.tensors["input"].shape[3])
    assert [type(each) for each in split.operators] == [Slice, Conv2D] * count + [Concatenate]
    images = random_graphs.Draw(seed).codes((3, *graph.tensors["input"].shape[1:]))
    # The optimized kernel rounds a convolution with groups otherwise than one without.
    for kernel_set in ("xnnpack", "reference"):
        whole = execution.execute(graph, {"input": images}, kernel_set)["output"]
        parts = execution.execute(split, {"input": images}, kernel_set)["output"]
        assert np.array_equal(whole, parts)


def test_the_kernels_of_the_parts_belong_to_the_layer():
    graph = random_graphs.one_operator("grouped conv", 1)
    (operator,) = graph.operators
    (found,) = grouped_convolutions.kernels_by_layer(grouped_convolutions.split(graph)).items()
    assert found[0] == "output"
    assert np.array_equal(np.concatenate([part.kernel for part in found[1]]), operator.kernel)
    assert grouped_convolutions.kernels_by_layer(graph) == {"output": [operator]}


@pytest.mark.parametrize("part", ["output/group0", "output/group1/input"])
def test_a_part_with_the_name_of_a_layer_is_refused(part):
    graph = random_graphs.one_operator("grouped conv", 1)
    tensors = {**graph.tensors, part: graph.tensors["output"]}
    graph = dataclasses.replace(graph, tensors=tensors)
    with pytest.raises(ValueError, match=f"'output' would have the name .*'{part}': rename"):
        grouped_convolutions.split(graph)


def test_a_graph_without_groups_stays():
    graph = random_graphs.network(0)
    assert grouped_convolutions.split(graph) is graph


def test_groups_that_do_not_divide_the_channels_are_refused():
    graph = random_graphs.one_operator("grouped conv", 2)
    (operator,) = graph.operators
    fields = {field.name: getattr(operator, field.name) for field in dataclasses.fields(Conv2D)}
    for wrong in (
        Conv2D(**fields),
        GroupedConv2D(**fields | {"kernel": np.repeat(operator.kernel, 7, axis=3)}),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            validate(dataclasses.replace(graph, operators=[wrong]))
