"""Predicts which operators of a .tflite file the Edge TPU runs: rules, then what follows from them.

The compiler makes one segment. An operator that breaks a rule runs on the CPU, and so does every
operator that needs what it computes; operators before the segment, which need nothing of it, may
run on the CPU without ending it. One operator that the compiler cannot parse rejects the file.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from export.edge_tpu.operator_rules import ALL_RULES
from export.edge_tpu.rules import Rule, Site, Verdict
from export.flatbuffer.reader import Model, Operator, Subgraph

# Of the 8 MiB on the chip, what is left for parameters beside the program and activations.
CACHE_BYTES = int(7.9 * 2**20)
COMPILED_OPERATOR = "edgetpu-custom-op"
_ETHOS_U = "ethos-u"
_NOBODY = "No output of the model needs it."
_UNKNOWN = (Verdict.UNKNOWN_SIZE, Verdict.UNKNOWN_VERSION)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What becomes of one operator, and why.

    Attributes:
      index: its position in the file.
      operator: its name.
      version: its version.
      output: name of the first tensor it writes.
      verdict: what becomes of it.
      reason: the rule it breaks or the operator it follows; empty where it is on the TPU.
      fix: what to do about it.
    """

    index: int
    operator: str
    version: int
    output: str
    verdict: Verdict
    reason: str = ""
    fix: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """A file's operators, and what their parameters take on the chip.

    Attributes:
      findings: one for each operator, in the order of the file.
      parameter_bytes: constants of the operators on the TPU, as the file has them.
    """

    findings: tuple[Finding, ...]
    parameter_bytes: int

    @property
    def maps(self) -> bool:
        """Whether every operator that is used is on the TPU."""
        used = (finding for finding in self.findings if finding.verdict is not Verdict.UNUSED)
        return all(finding.verdict is Verdict.TPU for finding in used)

    @property
    def streamed_bytes(self) -> int:
        """Parameters that do not fit on the chip and come from the host at every inference."""
        return max(0, self.parameter_bytes - CACHE_BYTES)

    def counts(self) -> dict[Verdict, int]:
        """How many operators have each verdict; those that occur."""
        counted = collections.Counter(finding.verdict for finding in self.findings)
        return {verdict: counted[verdict] for verdict in Verdict if counted[verdict]}


def predict(model: Model) -> Prediction:
    """Predicts what the compiler makes of each operator.

    Raises:
      ValueError: if the file was compiled already.
    """
    graph = model.main
    if any(operator.name == COMPILED_OPERATOR for operator in graph.operators):
        raise ValueError("this file is compiled for the Edge TPU already; give the one before")
    if any(operator.name == _ETHOS_U for operator in graph.operators):
        raise ValueError("this file is compiled for Arm Ethos-U; give the one before")
    broken = [_first_broken(Site(operator=op, subgraph=graph)) for op in graph.operators]
    unused = _unused(graph)
    rejecting = next(
        (i for i, rule in enumerate(broken) if rule and rule.verdict is Verdict.REJECTED), None
    )
    if rejecting is not None:
        findings = _rejected(graph, broken, rejecting)
    else:
        findings = _flow(graph, broken)
        findings = [
            _finding(graph, i, Verdict.UNUSED, _NOBODY, "") if i in unused else finding
            for i, finding in enumerate(findings)
        ]
    on_tpu = [
        operator
        for operator, finding in zip(graph.operators, findings, strict=True)
        if finding.verdict in (Verdict.TPU, *_UNKNOWN)
    ]
    return Prediction(findings=tuple(findings), parameter_bytes=_parameter_bytes(graph, on_tpu))


def _unused(graph: Subgraph) -> set[int]:
    """Operators that no output needs, which the compiler drops."""
    needed, unused = set(graph.outputs), set()
    for index in reversed(range(len(graph.operators))):
        operator = graph.operators[index]
        keeps_state = any(i >= 0 and graph.tensors[i].variable for i in operator.inputs)
        if needed.isdisjoint(operator.outputs) and not keeps_state:
            unused.add(index)
        else:
            needed.update(operator.inputs)
    return unused


def _first_broken(site: Site) -> Rule | None:
    return next((rule for rule in ALL_RULES if rule.applies(site)), None)


def _finding(graph: Subgraph, index: int, verdict: Verdict, reason: str, fix: str) -> Finding:
    operator = graph.operators[index]
    return Finding(
        index=index,
        operator=operator.name,
        version=operator.version,
        output=graph.tensors[operator.outputs[0]].name,
        verdict=verdict,
        reason=reason,
        fix=fix,
    )


def _rejected(graph: Subgraph, broken: list[Rule | None], rejecting: int) -> list[Finding]:
    """The findings of a file that the compiler does not parse."""
    because = f"Operator {rejecting} ({graph.operators[rejecting].name}) rejects the file."
    return [
        _finding(graph, index, Verdict.REJECTED, rule.sentence, rule.fix)
        if rule and rule.verdict is Verdict.REJECTED
        else _finding(graph, index, Verdict.REJECTED, because, "")
        for index, rule in enumerate(broken)
    ]


def _flow(graph: Subgraph, broken: list[Rule | None]) -> list[Finding]:
    """Each operator's own rule, or else the worst that its inputs went through."""
    # For each tensor that the segment has touched: the finding that decides about its readers.
    touched: dict[int, Finding] = {}
    findings = []
    for index, operator in enumerate(graph.operators):
        before = [touched[tensor] for tensor in operator.inputs if tensor in touched]
        ended = next((f for f in before if f.verdict in (Verdict.CPU, Verdict.CPU_FROM_HERE)), None)
        unsure = next((f for f in before if f.verdict in _UNKNOWN), None)
        rule = broken[index]
        decides = ended or unsure
        if rule and rule.verdict is Verdict.CPU:
            follows = bool(before) and ended is None
            verdict = Verdict.CPU_FROM_HERE if follows else Verdict.CPU
            finding = decides = _finding(graph, index, verdict, rule.sentence, rule.fix)
        elif decides:
            verdict = Verdict.CPU if ended else decides.verdict
            reason = f"It follows operator {decides.index} ({decides.operator})."
            finding = _finding(graph, index, verdict, reason, "")
        elif rule:
            finding = _finding(graph, index, rule.verdict, rule.sentence, rule.fix)
        else:
            finding = _finding(graph, index, Verdict.TPU, "", "")
        findings.append(finding)
        if before or finding.verdict is not Verdict.CPU:
            touched.update(dict.fromkeys(operator.outputs, decides or finding))
    return findings


def _parameter_bytes(graph: Subgraph, operators: Iterable[Operator]) -> int:
    """Bytes of the constants of some operators, each tensor once."""
    constants = {
        index: graph.tensors[index].data
        for operator in operators
        for index in operator.inputs
        if index >= 0
    }
    return sum(len(data) for data in constants.values() if data is not None)
