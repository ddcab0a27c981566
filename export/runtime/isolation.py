"""A function in a process of its own, so that what kills it does not kill the program.

TFLite's interpreters check little of the file they run: a malformed one can end their process, fill
the memory, or never return. Here they run in a child process with limits on both, whose death is a
`ValueError` of one sentence. The child is a fresh interpreter of Python that imports only what the
function needs; requests and replies are pickled. It is no sandbox: it is the same user's process.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from wrpn_tf.saved_sizes import limit_resource

SECONDS = 60
"""What a call may take; a run of a batch of more than ten takes a tenth of it for each."""
MEMORY = 4 * 2**30
"""Bytes that the process may have beside what it has when the object is made."""
REPLY = 2**30
"""Bytes that a reply may have."""
_OUTPUT = 2**24  # Bytes that native code may print.
_BATCH = 10
_LAST_SECONDS = 10  # Between the end of its replies and that of the process.
_SERVE = """
import sys
sys.path = [path for path in sys.path if path]  # Not the current folder, which `-c` puts first.
from export.runtime.isolation import serve
serve(float(sys.argv[1]))
"""

_seconds: float | None = None  # In the child: the limit.


class Isolated:
    """An object made and called in a child process; a context manager that ends it.

    Args:
      factory: makes the object; importable by its module and name.
      *args: what it is called with.
      seconds: time after which a call that has not returned is ended; see `restart_clock`.

    Raises:
      ValueError: what the factory raised, or that the process died, took too long, or needs more
        than `MEMORY`.
    """

    def __init__(
        self, factory: Callable[..., Callable[..., Any]], *args: Any, seconds: float = SECONDS
    ) -> None:
        self._seconds = seconds
        self._errors = tempfile.TemporaryFile()
        search = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": search},
        )
        try:
            self._ask(factory, *args)
        except BaseException:
            self.close()
            raise

    def __call__(self, *args: Any) -> Any:
        """Calls the object.

        Raises:
          ValueError: what it raised, or that the process died, took too long, or needs more than
            `MEMORY`.
        """
        return self._ask(*args)

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _ask(self, *message: Any) -> Any:
        try:
            assert self._process.stdin and self._process.stdout
            pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            error, result = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as failure:
            raise ValueError(self._obituary()) from failure
        if error is not None:
            raise error
        return result

    def _obituary(self) -> str:
        try:
            code = self._process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "the interpreter gave no reply that can be read"
        if code == -signal.SIGALRM:
            return f"the interpreter did not finish within {self._seconds:g} seconds"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = f" ({lines[-1].strip()})" if lines else ""
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the interpreter died on this file: {how}{last}"


def serve(seconds: float) -> None:
    """The child process: makes the object, then answers calls until its input ends."""
    global _seconds
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What native code prints is not a reply.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # Ends the process, whatever it does.
    _seconds = seconds
    target: Callable[..., Any] = _make
    while True:
        try:
            message = pickle.load(requests)
        except EOFError:
            return
        if target is _make:
            _limit_memory()
        restart_clock()
        target, content = _answer(target, message)
        signal.setitimer(signal.ITIMER_REAL, 0)  # The parent may take its time to read.
        replies.write(content)
        replies.flush()


def restart_clock(batch: float = 1) -> None:
    """Gives a process of `Isolated` its seconds anew, before each run of a model.

    Args:
      batch: how many times more images the run is of than the model says.
    """
    if _seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, _seconds * max(1, batch / _BATCH))


def _answer(target: Callable[..., Any], message: tuple[Any, ...]) -> tuple[Any, bytes]:
    """What to call from now on, and the reply."""
    try:
        result = target(*message)
        if target is _make:
            target, result = result, None
        content = pickle.dumps((None, result), pickle.HIGHEST_PROTOCOL)
        if len(content) > REPLY:
            raise ValueError(f"its outputs are more than {REPLY / 2**30:g} GiB")
        return target, content
    except ValueError as error:
        failure: Exception = ValueError(str(error))
    except MemoryError:
        failure = ValueError(f"the interpreter needs more than {MEMORY / 2**30:g} GiB of memory")
    except Exception as error:  # A mistake of ours: the parent shows it as one.
        failure = RuntimeError(f"{type(error).__name__}: {error}")
    return target, pickle.dumps((failure, None), pickle.HIGHEST_PROTOCOL)


def _limit_memory() -> None:
    """Limits what the process may have from now on, where the system tells what it has."""
    limit_resource(resource.RLIMIT_FSIZE, _OUTPUT)
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return
    limit_resource(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)


def _make(factory: Callable[..., Callable[..., Any]], *args: Any) -> Callable[..., Any]:
    return factory(*args)
