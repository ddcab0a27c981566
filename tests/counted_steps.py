"""Programs for `benchmarks.suite.step_server` that say in a file when they step."""

import os
from pathlib import Path


def programs(network):
    log = Path(os.environ["STEP_LOG"])

    def step_of(name):
        def step():
            with log.open("a") as file:
                print(os.environ["STEP_NAME"], name, network.title, file=file)
            taken = log.read_text().count(f"{os.environ['STEP_NAME']} last")
            if taken == int(os.environ.get("STEP_MOST", "99")):
                raise ValueError("no step is left")

        return step

    print("what a library prints")
    return {name: step_of(name) for name in ("float", "last")}
