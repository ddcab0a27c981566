"""What Vela, the compiler of Arm Ethos-U, makes of .tflite files, side by side.

    python -m export.ethosu model.tflite [more.tflite] --accelerator=ethos-u55-256
    python -m export.ethosu model.tflite --accelerator=ethos-u65-512 --system=Embedded --layers

Shows operators on NPU and CPU, bytes of the coded weights and bits a weight beside their entropy,
flash, SRAM, and the compiler's estimate of cycles and time. What keeps an operator off the NPU is
said with the remedy. Needs the package ethos-u-vela. Exits with status 0 only where the NPU runs
every operator of every file.
"""

from __future__ import annotations

import json

from absl import flags

from wrpn_tf import command_line

_MODEL = flags.DEFINE_multi_string(
    "model", [], "The .tflite file, if it is not named without a flag."
)
_ACCELERATOR = flags.DEFINE_string(
    "accelerator", "ethos-u55-256", "As Vela names it: ethos-u55-256, ethos-u65-512, ethos-u85-256."
)
_SYSTEM = flags.DEFINE_string(
    "system",
    None,
    "Vela's system configuration, as Ethos_U55_Deep_Embedded or Deep_Embedded; default: weights in "
    "off-chip flash, tensors in SRAM.",
)
_MEMORY = flags.DEFINE_string(
    "memory",
    None,
    "Vela's memory mode; default: Shared_Sram, or Dedicated_Sram_384KB where the system has DRAM.",
)
_LAYERS = flags.DEFINE_bool("layers", False, "Show every operator.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")


def main(paths: list[str]) -> int:
    """Runs the program; returns 0 only where the NPU runs everything."""
    paths = command_line.model_files("export.ethosu", paths, _MODEL.value)

    from rich.console import Console

    from export.ethos_u import compiler, tables
    from export.flatbuffer import reader

    system, memory = compiler.target(_ACCELERATOR.value, _SYSTEM.value, _MEMORY.value)
    files = []
    for path in paths:
        model = reader.read_path(path)
        try:
            compiled = compiler.compile_model(model, _ACCELERATOR.value, system, memory)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        files.append((path, compiled))
    if _JSON.value:
        print(json.dumps([tables.record(*file) for file in files], indent=1))
    else:
        tables.show(Console(), files, layers=_LAYERS.value)
    return 1 if any(compiled.on_cpu for _, compiled in files) else 0


if __name__ == "__main__":
    command_line.run(main, arguments="model.tflite [more.tflite ...]")
