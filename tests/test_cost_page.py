"""The tables of docs/cost.md are what the package computes, and they agree with the paper."""

import pytest

from benchmarks import cost_tables
from wrpn_tf import paper


def test_the_page_is_up_to_date():
    text = cost_tables.PAGE.read_text(encoding="utf-8")
    assert cost_tables.page(text) == text, "run python -m benchmarks.cost_tables"


def test_the_paper_has_39_cells():
    assert len(paper.COSTS) == 9 + 5 + 25


@pytest.mark.parametrize("cell", paper.COSTS, ids=str)
def test_costs_are_the_papers(cell):
    ours = cost_tables.relative_cost(cell, paper.POLICIES[cell.arch])
    if cell.decimals == 1:
        assert round(ours, 1) == cell.cost
    elif (cell.arch, cell.width, cell.weight_bits) == ("resnet34", 1, 1):
        assert round(cost_tables.relative_cost(cell, "uniform"), 2) == cell.cost
    else:
        assert abs(ours - cell.cost) < 0.01


@pytest.mark.parametrize("share", [s for s in paper.SHARES if s.arch.startswith("resnet")], ids=str)
def test_residual_networks_have_the_papers_activation_shares(share):
    memory = cost_tables.memory(share)
    ours = memory.inference_share
    if share.use == "training":  # The figure leaves the gradients out.
        ours = memory.activations / (memory.activations + memory.float_weights)
    assert round(100 * ours, 1) == share.percent
