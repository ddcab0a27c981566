"""The claim on training: a step in few bits, relative to a float step."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks.suite import environments, stepping
from benchmarks.suite.environments import UnavailableError
from benchmarks.suite.networks import NETWORKS
from benchmarks.suite.settings import Row, Settings, quartiles

_ROOT = pathlib.Path(__file__).parents[2]
_PROGRAMS = "benchmarks.suite.programs"
_TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Programs that share a process.

    Attributes:
      title: what is printed before their names.
      module: has `programs(network)`: training steps by name, the float one first.
      requirements: what pip installs in an environment of their own; none: they run in this one.
      variables: of the process's environment; none and no requirements: they run in this process.
    """

    title: str
    module: str
    requirements: tuple[str, ...] = ()
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_here(self) -> bool:
        """Whether the programs run in this process."""
        return not self.requirements and not self.variables


SOURCES = (
    Source(title="tf_keras", module=f"{_PROGRAMS}.ours_tf_keras"),
    Source(title="Keras 3, TensorFlow", module=f"{_PROGRAMS}.ours_keras"),
    Source(
        title="Keras 3, JAX",
        module=f"{_PROGRAMS}.ours_keras",
        variables={"KERAS_BACKEND": "jax"},
    ),
    Source(
        title="Keras 3 alone",
        module=f"{_PROGRAMS}.keras_float",
        requirements=("keras", "tensorflow"),
        variables=_TENSORFLOW,
    ),
    Source(
        title="Larq, tf_keras",
        module=f"{_PROGRAMS}.larq_binary",
        requirements=("larq", "tensorflow", "tf_keras"),
        variables={"TF_USE_LEGACY_KERAS": "1"},  # Larq's layers are of tf.keras.
    ),
    Source(
        title="QKeras, Keras 3",
        module=f"{_PROGRAMS}.qkeras_4_bits",
        requirements=("qkeras-v3", "tf_keras"),  # Its TF-MOT needs tf_keras.
        variables=_TENSORFLOW,
    ),
    Source(
        title="HGQ2, Keras 3",
        module=f"{_PROGRAMS}.hgq2_learned_bits",
        requirements=("HGQ2", "tensorflow"),
        variables=_TENSORFLOW,
    ),
)


class Here:
    """A source's programs in this process."""

    def __init__(self, source: Source, network: str) -> None:
        self._programs = importlib.import_module(source.module).programs(NETWORKS[network])
        self.names = list(self._programs)

    def seconds(self, name: str, steps: int) -> float:
        """Mean seconds of some steps."""
        return stepping.seconds(self._programs[name], steps)


class Child:
    """A source's programs in a process of their own, which waits until it is told to go on.

    Args:
      source: whose.
      network: key of `NETWORKS`.
      python: the interpreter.

    Raises:
      UnavailableError: the programs cannot be made there; the message is the process's.
    """

    def __init__(self, source: Source, network: str, python: str = sys.executable) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.suite.step_server", source.module, network],
            cwd=_ROOT,
            env=os.environ | source.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.names: list[str] = self._answer()
        except UnavailableError:
            self.close()
            raise

    def seconds(self, name: str, steps: int) -> float:
        """Mean seconds of some steps; UnavailableError where the process ends instead."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([name, steps]), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        reason = environments.last_line(self._errors.read())
        raise UnavailableError(reason or f"its process ended with {self._process.returncode}")

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()  # Its stdin ends, and so does it.
        self._errors.close()


def step_rows(network: str, settings: Settings, sources: tuple[Source, ...] = SOURCES) -> list[Row]:
    """Times of a training step and their ratios to float, of all programs in turns.

    'to_first' is the ratio to the first program of all, float tf_keras, and 'to_float' that to the
    float step of the same process: quartiles over the rounds.
    """
    running: dict[str, Here | Child] = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    reasons: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for source in sources:
            if settings.alone and not source.is_here:
                continue
            try:
                running[source.title] = _started(source, network, settings.environments, stack)
            except UnavailableError as error:
                reasons[source.title] = str(error)
        for _ in range(settings.rounds):
            for title, process in running.items():
                if title in reasons:  # It ended in an earlier round.
                    continue
                try:
                    for name in process.names:
                        times = seconds.setdefault((title, name), [])
                        times.append(process.seconds(name, settings.steps))
                except UnavailableError as error:
                    reasons[title] = str(error)
    programs = {key: times for key, times in seconds.items() if key[0] not in reasons}
    floats: dict[str, list[float]] = {}
    for (title, _), times in programs.items():
        floats.setdefault(title, times)
    first = next(iter(floats.values()), [])
    return [
        {
            "network": network,
            "program": f"{title}: {name}",
            "seconds": times,
            "to_first": quartiles(times, first),
            "to_float": quartiles(times, floats[title]),
        }
        for (title, name), times in programs.items()
    ] + [
        {"network": network, "program": title, "reason": reason}
        for title, reason in reasons.items()
    ]


def _started(
    source: Source,
    network: str,
    folder: pathlib.Path | None,
    stack: contextlib.ExitStack,
) -> Here | Child:
    if source.is_here:
        return Here(source, network)
    python = sys.executable
    if source.requirements:
        python = environments.python(folder, source.requirements)
    child = Child(source, network, python)
    stack.callback(child.close)
    return child
