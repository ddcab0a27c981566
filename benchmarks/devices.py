"""What width and bits cost on small devices: one table, and one plot, of trained workdirs.

    python -m benchmarks.devices runs/w8a8 runs/w2a2x2 ... --plot=devices.svg

For each training: test accuracy; bytes of the int8 file, of it through gzip, and of it with kernels
as look-up tables (TensorFlow Lite Micro); RAM of TensorFlow Lite Micro's interpreter; and for Arm
Ethos-U, bytes of weights as Vela codes them, in flash and in SRAM, and the milliseconds that it
estimates. Nothing is run on a device. A float training has its accuracy only. The trainings may be
of several networks and data sets. Needs the extra devices: ethos-u-vela and tflite-micro.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import pathlib
from typing import Any

from absl import flags

from export.ethos_u import compiler
from export.flatbuffer import reader, writer
from export.tflm import compression, interpreter
from export.verification.workdir import Workdir
from wrpn_tf import command_line
from wrpn_tf.arithmetic.bits import OFF
from wrpn_tf.files import write_bytes

TARGETS = {
    "U55-256": ("ethos-u55-256", "Deep_Embedded"),
    "U65-256": ("ethos-u65-256", "Client_Server"),
    "U65-512": ("ethos-u65-512", "Embedded"),
    "U85-256": ("ethos-u85-256", "Flash_High"),
}
"""By column: accelerator and system of Vela."""

_JSON = flags.DEFINE_string("json", None, "Also write all numbers into this .json file.")
_PLOT = flags.DEFINE_string(
    "plot", None, "Also draw accuracy against flash on the first Ethos-U into this .svg file."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One training.

    Attributes:
      name: what distinguishes it.
      network: its architecture and data set.
      width: by what the number of filters is multiplied.
      weight_bits: of its weights.
      activation_bits: of its activations.
      accuracy: on the test images.
      file_bytes: of the int8 file.
      gzip_bytes: of it through gzip -9.
      table_bytes: with kernels as look-up tables; as `file_bytes` where that is no smaller.
      arena_bytes: RAM of TensorFlow Lite Micro's interpreter.
      encoded_bytes: weights, as Vela codes them for the first of `TARGETS`.
      entropy: of a weight, in bits.
      flash_bytes: what Vela puts into flash for the first of `TARGETS`.
      sram_bytes: what it puts into SRAM.
      milliseconds: Vela's estimate, by `TARGETS`.
    """

    name: str
    network: str
    width: float
    weight_bits: int
    activation_bits: int
    accuracy: float
    file_bytes: int
    gzip_bytes: int
    table_bytes: int
    arena_bytes: int
    encoded_bytes: int
    entropy: float
    flash_bytes: int
    sram_bytes: int
    milliseconds: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Float:
    """A training without quantization: what the others are compared with.

    Attributes:
      network: its architecture and data set.
      width: by what the number of filters is multiplied.
      accuracy: on the test images.
    """

    network: str
    width: float
    accuracy: float


def _record(path: str) -> dict[str, Any]:
    file = pathlib.Path(path) / "record.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        _ = record["flags"]["wbits"], record["metrics"]["test_accuracy"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{path} is not the workdir of a finished training: {error}") from error
    return record


def _network(record: dict[str, Any]) -> str:
    return f"{record['flags'].get('arch', '')} on {record['dataset']['name']}".strip()


def measure_float(path: str) -> Float | None:
    """A float training; None: it is quantized.

    Raises:
      ValueError: the workdir holds no finished training.
    """
    record = _record(path)
    if record["flags"]["wbits"] != OFF:
        return None
    return Float(
        network=_network(record),
        width=record["flags"]["width"],
        accuracy=record["metrics"]["test_accuracy"],
    )


def measure(path: str) -> Row:
    """Measures one workdir.

    Raises:
      ValueError: it holds no finished training, or a compiler does not take its file.
    """
    workdir, record = Workdir.load(path), _record(path)
    content = writer.to_flatbuffer(workdir.graph())
    try:
        table_bytes = len(compression.compress(content).content)
    except ValueError as error:
        if "would be smaller" not in str(error):
            raise
        table_bytes = len(content)
    model = reader.read(content)
    compiled = {}
    for name, (accelerator, short) in TARGETS.items():
        system, memory = compiler.target(accelerator, short, None)
        compiled[name] = compiler.compile_model(model, accelerator, system, memory)
    first = next(iter(compiled.values()))
    settings = record["flags"]
    return Row(
        name=pathlib.Path(path).name,
        network=_network(record),
        width=settings["width"],
        weight_bits=settings["wbits"],
        activation_bits=settings["abits"],
        accuracy=record["metrics"]["test_accuracy"],
        file_bytes=len(content),
        gzip_bytes=len(gzip.compress(content, 9)),
        table_bytes=table_bytes,
        arena_bytes=interpreter.arena_bytes(content),
        encoded_bytes=first.encoded_bytes,
        entropy=first.entropy,
        flash_bytes=first.outside_bytes,
        sram_bytes=first.sram_bytes,
        milliseconds={name: 1e3 * each.seconds for name, each in compiled.items()},
    )


def table(rows: list[Row], floats: list[Float]) -> str:
    """The rows as a Markdown table, with a column for the network where there are several."""
    several = len({row.network for row in [*rows, *floats]}) > 1
    headings = (
        *("width", "A/W", "accuracy", "file", "gzip", "TFLM, tables", "TFLM RAM"),
        *("coded weights", "bits, entropy", "NPU flash", "NPU SRAM"),
        *(f"{name} ms" for name in TARGETS),
    )
    lines = [headings, ("---",) * len(headings)]
    networks = ["network", "---"]
    for each in floats:
        cells = (f"{each.width:g}x", "float", f"{each.accuracy:.2%}")
        lines.append(cells + ("",) * (len(headings) - len(cells)))
        networks.append(each.network)
    for row in rows:
        cells = (
            *(f"{row.width:g}x", f"{row.activation_bits}/{row.weight_bits}", f"{row.accuracy:.2%}"),
            *(f"{row.file_bytes:,}", f"{row.gzip_bytes:,}", f"{row.table_bytes:,}"),
            *(f"{row.arena_bytes:,}", f"{row.encoded_bytes:,}", f"{row.entropy:.2f}"),
            *(f"{row.flash_bytes:,}", f"{row.sram_bytes:,}"),
            *(f"{value:.3f}" for value in row.milliseconds.values()),
        )
        lines.append(cells)
        networks.append(row.network)
    if several:
        lines = [(network, *cells) for network, cells in zip(networks, lines, strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def draw(rows: list[Row], floats: list[Float], path: str) -> None:
    """Accuracy against bytes of flash, a line for each network and width; float is level."""
    from matplotlib import pyplot, ticker

    figure: Any = None
    figure, axes = pyplot.subplots(figsize=(6, 4))
    several = len({row.network for row in [*rows, *floats]}) > 1
    for network, width in sorted({(row.network, row.width) for row in rows}):
        found = sorted(
            (row for row in rows if (row.network, row.width) == (network, width)),
            key=lambda row: row.flash_bytes,
        )
        sizes = [row.flash_bytes / 1024 for row in found]
        label = f"{network}, width {width:g}x" if several else f"width {width:g}x"
        axes.plot(sizes, [100 * row.accuracy for row in found], "o-", label=label)
        for row, size in zip(found, sizes, strict=True):
            text = f"{row.activation_bits}/{row.weight_bits}"
            axes.annotate(
                text, (size, 100 * row.accuracy), xytext=(4, -10), textcoords="offset points"
            )
    for each in floats:
        label = f"{each.network}, float {each.width:g}x" if several else f"float {each.width:g}x"
        axes.axhline(100 * each.accuracy, linestyle="--", color="gray", label=label)
    axes.set_xlabel(f"KiB of flash on {next(iter(TARGETS))}, compiled by Vela")
    axes.set_ylabel("test accuracy, %")
    axes.set_xscale("log")
    axes.margins(0.1)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def main(paths: list[str]) -> None:
    """Runs the program."""
    if not paths:
        raise ValueError("name workdirs: python -m benchmarks.devices runs/w8a8 runs/w2a2x2")
    for missing in (interpreter, compiler):
        if not missing.is_installed():
            raise ValueError(missing.MISSING)
    found = {path: measure_float(path) for path in paths}
    floats = [each for each in found.values() if each is not None]
    rows = sorted(
        (measure(path) for path, each in found.items() if each is None),
        key=lambda row: (row.network, row.width, -row.weight_bits, -row.activation_bits),
    )
    print(table(rows, floats))
    if _JSON.value:
        records = [dataclasses.asdict(row) for row in [*floats, *rows]]
        write_bytes(_JSON.value, f"{json.dumps(records, indent=1)}\n".encode())
    if _PLOT.value:
        draw(rows, floats, _PLOT.value)


if __name__ == "__main__":
    command_line.run(main, arguments="workdir [more workdirs ...]")
