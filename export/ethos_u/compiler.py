"""Runs Vela on a .tflite file and reads what it says.

Vela places each operator on the NPU or the CPU, codes the weights without loss, lays the tensors
out in SRAM, and estimates cycles. The codes of weights are as long as their entropy asks, so files
with few codes shrink although they hold int8.
"""

from __future__ import annotations

import configparser
import csv
import dataclasses
import importlib.resources
import importlib.util
import io
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any

import numpy as np

from export.flatbuffer.editing import edit
from export.flatbuffer.reader import BITS, WEIGHTED, Model

ACCELERATORS = (
    *("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256"),
    *("ethos-u65-256", "ethos-u65-512"),
    *("ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048"),
)
DEFAULT_SYSTEMS = {
    "ethos-u55": "Ethos_U55_Deep_Embedded",
    "ethos-u65": "Ethos_U65_Embedded",
    "ethos-u85": "Ethos_U85_SYS_Flash_High",
}
"""By family: a system with weights in off-chip flash and tensors in SRAM."""

MISSING = "the package ethos-u-vela is not installed (pip install ethos-u-vela)"

_SECONDS = 600
_CONFIG = "Arm/vela.ini"
_COMPILED = "ethos-u"
_MICRO = "TFLM_DECODE"
_WARNING = re.compile(
    r"^Warning \([^)]*\) operator: (?P<operator>\S+), ofm: '(?P<name>.*)'\n(?P<reason>(?:.+\n)+)",
    re.MULTILINE,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator of the file.

    Attributes:
      operator: its name.
      output: name of the tensor it writes.
      on_npu: whether the NPU runs it.
      cycles: estimated by the compiler; 0 where it is part of another operator or on the CPU.
      weights: how many weights it has.
      encoded_bytes: what Vela's code of them takes, without biases and scales.
      entropy: of a weight, in bits: what a code that looks at one weight at a time takes at least.
      reason: why it is not on the NPU, in Vela's words.
    """

    operator: str
    output: str
    on_npu: bool
    cycles: int
    weights: int
    encoded_bytes: int
    entropy: float
    reason: str = ""

    @property
    def bits(self) -> float:
        """Bits that the code takes for a weight."""
        return 8 * self.encoded_bytes / self.weights if self.weights else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compilation:
    """What Vela made of a file; times and cycles are its estimates, nothing was run.

    Attributes:
      accelerator: as 'ethos-u55-256'.
      system: Vela's name of the system configuration.
      memory: Vela's name of the memory mode.
      layers: one for each operator of the file, in order.
      cycles: of one inference.
      seconds: of one inference, on the NPU.
      sram_bytes: tensors, and weights on their way.
      outside_bytes: in flash or DRAM: weights, biases and scales; in a mode with dedicated SRAM,
        tensors too.
      encoded_bytes: all weights in Vela's code.
      file_bytes: of the compiled file.
    """

    accelerator: str
    system: str
    memory: str
    layers: tuple[Layer, ...]
    cycles: int
    seconds: float
    sram_bytes: int
    outside_bytes: int
    encoded_bytes: int
    file_bytes: int

    @property
    def on_cpu(self) -> list[Layer]:
        """What the NPU does not run."""
        return [layer for layer in self.layers if not layer.on_npu]

    @property
    def weights(self) -> int:
        """How many weights the layers on the NPU have."""
        return sum(layer.weights for layer in self.layers if layer.on_npu)

    @property
    def bits(self) -> float:
        """Bits for a weight on the NPU, on average."""
        return 8 * self.encoded_bytes / self.weights if self.weights else 0.0

    @property
    def entropy(self) -> float:
        """Of a weight on the NPU, in bits, on average."""
        total = sum(layer.entropy * layer.weights for layer in self.layers if layer.on_npu)
        return total / self.weights if self.weights else 0.0


def is_installed() -> bool:
    """Whether there is a compiler."""
    return importlib.util.find_spec("ethosu") is not None


def systems() -> dict[str, tuple[str, ...]]:
    """Vela's system configurations, by family of accelerators ('ethos-u55')."""
    names = [name.partition(".")[2] for name in _config().sections() if name.startswith("System")]
    families = {
        family: "_".join(part.capitalize() for part in family.split("-")) + "_"
        for family in DEFAULT_SYSTEMS
    }
    return {
        family: tuple(name for name in names if name.startswith(prefix))
        for family, prefix in families.items()
    }


def memory_modes() -> tuple[str, ...]:
    """Vela's memory modes."""
    sections = _config().sections()
    return tuple(name.partition(".")[2] for name in sections if name.startswith("Memory_Mode"))


def _config() -> configparser.ConfigParser:
    if not is_installed():
        raise ValueError(MISSING)
    parser = configparser.ConfigParser()
    parser.read_string((importlib.resources.files("ethosu") / "config_files" / _CONFIG).read_text())
    return parser


def target(accelerator: str, system: str | None, memory: str | None) -> tuple[str, str]:
    """The names of a system and a memory mode, where they are short or left out.

    Args:
      accelerator: one of `ACCELERATORS`.
      system: a system of its family, with or without 'Ethos_U55_' before it; None: the default.
      memory: a memory mode; None: shared SRAM, or dedicated SRAM where the system has DRAM.

    Raises:
      ValueError: there are none of these names, or the package is not installed.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"--accelerator is one of {', '.join(ACCELERATORS)}, not {accelerator!r}")
    family = accelerator.rpartition("-")[0]
    known = systems()[family]
    wanted = system or DEFAULT_SYSTEMS[family]
    found = [name for name in known if wanted == name or name.endswith(f"_{wanted}")]
    if not found:
        raise ValueError(f"--system of {accelerator} is one of {', '.join(known)}, not {wanted!r}")
    name = min(found, key=len)
    modes = memory_modes()
    if memory is not None and memory not in modes:
        raise ValueError(f"--memory is one of {', '.join(modes)}, not {memory!r}")
    ports = _config()[f"System_Config.{name}"]
    dram = "Dram" in ports.values()
    return name, memory or ("Dedicated_Sram_384KB" if dram else "Shared_Sram")


def check(model: Model) -> None:
    """Raises ValueError where Vela should not be given a file, and says what to give it."""
    names = {operator.name for operator in model.main.operators if operator.custom}
    if _COMPILED in names:
        raise ValueError("this file is compiled for Ethos-U already; give the one before")
    if _MICRO in names:
        raise ValueError(
            "its kernels are look-up tables for TensorFlow Lite Micro; give the file before: Vela "
            "codes its weights by itself"
        )
    narrow = {tensor.type for tensor in model.main.tensors if BITS.get(tensor.type, 8) < 8}
    if narrow:
        raise ValueError(
            f"it holds {' and '.join(sorted(narrow))} weights, which end Vela with a division by "
            "zero; give it the int8 file: Vela codes its weights in as few bits by itself"
        )


def compile_model(model: Model, accelerator: str, system: str, memory: str) -> Compilation:
    """Compiles a file.

    Args:
      model: the file.
      accelerator: one of `ACCELERATORS`.
      system: one of its `systems`.
      memory: one of the `memory_modes`.

    Raises:
      ValueError: Vela does not take the file; the message says why.
    """
    check(model)
    if not is_installed():
        raise ValueError(MISSING)
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "model.tflite").write_bytes(edit(model, _rename))
        command = [
            *(sys.executable, "-m", "ethosu.vela", "model.tflite", "--output-dir", "out"),
            *("--accelerator-config", accelerator, "--config", _CONFIG),
            *("--system-config", system, "--memory-mode", memory),
            *("--verbose-performance", "--enable-debug-db"),
        ]
        said = _run(command, folder, model)
        out = pathlib.Path(folder) / "out"
        try:
            (summary,) = csv.DictReader(io.StringIO(next(out.glob("*_summary_*.csv")).read_text()))
            rows = list(csv.DictReader(io.StringIO((out / "model_per-layer.csv").read_text())))
            encoded = _encoded(ElementTree.parse(out / "model_debug.xml").getroot())
            file_bytes = (out / "model_vela.tflite").stat().st_size
        except (OSError, StopIteration, ValueError, ElementTree.ParseError) as error:
            raise ValueError(f"Vela wrote no report that can be read: {error}") from error
    return Compilation(
        accelerator=accelerator,
        system=system,
        memory=memory,
        layers=_layers(model, rows, encoded, said),
        cycles=round(float(summary["cycles_total"])),
        seconds=float(summary["inference_time"]),
        sram_bytes=_kibibytes(summary, "sram_memory_used"),
        outside_bytes=sum(
            _kibibytes(summary, f"{area}_memory_used")
            for area in ("on_chip_flash", "off_chip_flash", "dram")
        ),
        encoded_bytes=round(float(summary["total_npu_encoded_weights"])),
        file_bytes=file_bytes,
    )


def _kibibytes(summary: Mapping[str, str], column: str) -> int:
    return round(float(summary[column]) * 1024)


def _rename(parsed: Any) -> None:
    """Names tensors so that Vela's reports, which are CSV keyed by name, can hold them."""
    for graph in parsed.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            tensor.name = _name(index)


def _name(index: int) -> str:
    return f"tensor_{index}_"


def _with_own_names(text: str, model: Model) -> str:
    tensors = model.main.tensors
    return re.sub(r"tensor_(\d+)_", lambda found: tensors[int(found[1])].name, text)


def _run(command: list[str], folder: str, model: Model) -> str:
    """What Vela prints; ValueError where it fails."""
    try:
        run = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"Vela did not finish within {_SECONDS} seconds") from error
    if run.returncode < 0:
        raise ValueError(f"Vela died on this file: {signal.Signals(-run.returncode).name}")
    if run.returncode:
        lines = (run.stderr.strip() or run.stdout.strip()).splitlines()
        reason = _with_own_names(lines[-1], model) if lines else "no reason"
        raise ValueError(f"Vela does not compile this file: {reason}")
    return run.stdout


def _encoded(database: ElementTree.Element) -> dict[str, int]:
    """Bytes of coded weights, by the name of the tensor that their operator writes."""
    tables = {
        table.attrib["name"]: list(csv.DictReader(io.StringIO((table.text or "").strip())))
        for table in database
    }
    names = {row["id"]: row["name"] for row in tables["perf"]}
    found: dict[str, int] = {}
    for row in tables["perf_debug"]:
        if row["weight_total_bytes"]:
            name = names[row["id"]]
            found[name] = found.get(name, 0) + int(row["weight_total_bytes"])
    return found


def _layers(
    model: Model, rows: list[dict[str, str]], encoded: Mapping[str, int], said: str
) -> tuple[Layer, ...]:
    """The file's operators, by the names of their outputs."""
    graph = model.main
    reasons = {
        found["name"]: _with_own_names(_words(found["reason"]), model)
        for found in _WARNING.finditer(said)
    }
    on_cpu = {row["Name"] for row in rows if row["Target"] == "CPU"} | reasons.keys()
    cycles: dict[str, int] = {}
    for row in rows:
        cycles[row["Name"]] = cycles.get(row["Name"], 0) + round(float(row["Op Cycles"]))
    layers = []
    for operator in graph.operators:
        name = _name(operator.outputs[0])
        # A clip behind a kernel is a part of it there, and has its name.
        weights = np.zeros(0, np.int8)
        if operator.name in WEIGHTED and graph.tensors[operator.inputs[1]].data is not None:
            weights = graph.tensors[operator.inputs[1]].array()
        layers.append(
            Layer(
                operator=operator.name,
                output=graph.tensors[operator.outputs[0]].name,
                on_npu=name not in on_cpu,
                cycles=cycles.get(name, 0),
                weights=weights.size,
                encoded_bytes=encoded.get(name, 0) if weights.size else 0,
                entropy=entropy(weights),
                reason=reasons.get(name, ""),
            )
        )
    return tuple(layers)


def _words(reason: str) -> str:
    first = reason.strip().splitlines()[0]
    return first.removeprefix("Reason:").strip()


def entropy(weights: np.ndarray) -> float:
    """Bits of information in one of some weights, drawn alone; 0 where there are none."""
    if not weights.size:
        return 0.0
    _, counts = np.unique(weights, return_counts=True)
    shares = counts / weights.size
    return float(-(shares * np.log2(shares)).sum()) + 0.0
