"""Under which conditions figures were measured: versions, processor, load."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import subprocess
import sys

PACKAGES = (
    *("tensorflow", "tf_keras", "keras", "jax", "tensorflow-model-optimization", "numpy"),
    *("ai-edge-litert", "ai-edge-quantizer", "larq", "qkeras-v3", "HGQ2", "wrpn-tf"),
)
QUIET = 0.5
"""The largest load average, over a minute, at which figures mean something."""

_VERSIONS = """
import importlib.metadata, json, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
found = {name: version(name) for name in sys.argv[1:]}
print(json.dumps({name: value for name, value in found.items() if value}))
"""


def versions(python: str = sys.executable) -> dict[str, str]:
    """The versions of `PACKAGES` in an interpreter's environment, and its own."""
    done = subprocess.run(
        [python, "-c", _VERSIONS, *PACKAGES], capture_output=True, text=True, check=True
    )
    return {"python": platform.python_version()} | json.loads(done.stdout)


def peer_versions(folder: pathlib.Path | None) -> dict[str, dict[str, str]]:
    """`versions` in each of the peers' environments, by name."""
    found = sorted(folder.glob("*/bin/python")) if folder else []
    return {path.parts[-3]: versions(str(path)) for path in found}


def processor() -> str:
    """The model of the CPU, and how many of its cores this process may use."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{(models or [platform.processor()])[0]}, {os.cpu_count()} cores"


def load() -> float:
    """The load average over the last minute."""
    return os.getloadavg()[0]


def warning(load: float) -> str | None:
    """What to say where other programs ran: of the load before the first measurement."""
    return (
        f"the machine was not quiet: load average {load:.1f} before the first measurement; "
        f"figures mean something up to {QUIET}"
        if load > QUIET
        else None
    )
