"""Writes the tables of docs/cost.md that compare this package's costs with the paper's.

    python -m benchmarks.cost_tables

The paper's figures are those of `wrpn_tf.paper`; everything between a table's markers is replaced.
A test fails when the page and what this program would write differ.
"""

import functools
import pathlib
import re

import wrpn_tf
from wrpn_tf import command_line, paper

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "cost.md"
NOTABLE = 0.02  # Differences above it are explained.

_ROUNDING = "ours rounds to the {rounded} that the paper prints"
_REASONS = {  # By arch, width, activation and weight bits.
    ("resnet34", 1, 1, 1): (
        "the paper's .03 is 2/64 and leaves out the float first and last layers, which its rows at "
        "2x and 3x contain; with policy `uniform` ours is {uniform:.3f}"
    ),
}


@functools.cache
def _skeleton(arch: str, width: float):
    return wrpn_tf.models.skeleton(arch, width=width)


def relative_cost(cell: paper.CostCell, policy: str) -> float:
    """This package's figure for one of the paper's."""
    cost = wrpn_tf.measure_cost(
        _skeleton(cell.arch, cell.width),
        weight_bits=cell.weight_bits,
        activation_bits=cell.activation_bits,
        policy=policy,
    )
    return cost.compute / wrpn_tf.measure_cost(_skeleton(cell.arch, 1), policy=policy).compute


def cost_table(arch: str) -> str:
    """The paper's cost column of a network, ours, the difference and its reason."""
    policy = paper.POLICIES[arch]
    lines = ["| width | A/W | paper | ours | difference | |", "|---|---|---|---|---|---|"]
    for cell in paper.COSTS:
        if cell.arch != arch:
            continue
        ours = relative_cost(cell, policy)
        difference = ours - cell.cost
        bits = f"{cell.activation_bits}/{cell.weight_bits}"
        lines.append(
            f"| {cell.width}x | {bits} | {cell.cost:.{cell.decimals}f} | {ours:.3f} "
            f"| {difference:+.3f} | {_reason(cell, ours)} |"
        )
    return "\n".join(lines)


def _reason(cell: paper.CostCell, ours: float) -> str:
    if abs(ours - cell.cost) <= NOTABLE:
        return ""
    reason = _REASONS.get((cell.arch, cell.width, cell.activation_bits, cell.weight_bits))
    if reason:
        return reason.format(uniform=relative_cost(cell, "uniform"))
    rounded = round(ours, cell.decimals)
    if rounded != cell.cost:
        raise ValueError(f"{cell}: ours is {ours:.3f}, and nothing says why")
    return _ROUNDING.format(rounded=rounded)


def memory(share: paper.ActivationShare) -> wrpn_tf.Memory:
    """This package's footprints for one of the paper's shares."""
    return wrpn_tf.measure_cost(_skeleton(share.arch, 1), share.batch_size).memory


def share_table() -> str:
    """Figure 1 at batch 1 and 32: the paper's, ours, and ours without the gradients."""
    lines = [
        "| network | | batch | paper | ours | without dZ and dX |",
        "|---|---|---|---|---|---|",
    ]
    for share in paper.SHARES:
        footprint = memory(share)
        training = share.use == "training"
        ours = footprint.training_share if training else footprint.inference_share
        without = footprint.activations / (footprint.activations + footprint.float_weights)
        last = f"{100 * without:.1f} %" if training else ""
        lines.append(
            f"| {share.arch} | {share.use} | {share.batch_size} | {share.percent} % "
            f"| {100 * ours:.1f} % | {last} |"
        )
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its tables written anew."""
    tables = {arch: functools.partial(cost_table, arch) for arch in paper.POLICIES}
    tables["shares"] = share_table
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        block = f"{begin}\n{table()}\n{end}"
        text, found = re.subn(
            f"{begin}.*?{end}", lambda _, block=block: block, text, flags=re.DOTALL
        )
        if found != 1:
            raise ValueError(f"{PAGE}: expected {begin} ... {end} once")
    return text


def main() -> None:
    """Runs the program."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    command_line.run(main, errors=())
