"""Training steps in a process of its own, which takes them when it is told to.

    python -m benchmarks.suite.step_server benchmarks.suite.programs.larq_binary resnet20

Prints the names of the module's programs as a line of JSON. For every line `["name", 3]` on stdin
it then takes so many steps of that program and prints the mean seconds of one. What libraries
print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from benchmarks.suite import stepping
from benchmarks.suite.networks import NETWORKS


def main(module: str, network: str) -> None:
    """Serves until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    programs = importlib.import_module(module).programs(NETWORKS[network])
    print(json.dumps(list(programs)), file=answers, flush=True)
    for line in sys.stdin:
        name, steps = json.loads(line)
        print(stepping.seconds(programs[name], steps), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
