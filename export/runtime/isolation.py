"""A function in a process of its own, so that what kills it does not kill the program.

TFLite's interpreters check little of the file they run: a malformed one can end their process. Here
they run in a child process, whose death is a `ValueError` of one sentence. The child is a fresh
interpreter of Python that imports only what the function needs; requests and replies are pickled.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

_SERVE = """
import sys
sys.path = [path for path in sys.path if path]  # Not the current folder, which `-c` puts first.
from export.runtime.isolation import serve
serve()
"""


class Isolated:
    """An object made and called in a child process; a context manager that ends it.

    Args:
      factory: makes the object; importable by its module and name.
      *args: what it is called with.
      seconds: time after which a call that has not returned is ended.

    Raises:
      ValueError: what the factory raised, or that the process died or took too long.
    """

    def __init__(
        self, factory: Callable[..., Callable[..., Any]], *args: Any, seconds: float = 600
    ) -> None:
        self._seconds = seconds
        self._overdue = False
        self._errors = tempfile.TemporaryFile()
        search = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
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
          ValueError: what it raised, or that the process died or took too long.
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
        timer = threading.Timer(self._seconds, self._give_up)
        timer.start()
        try:
            assert self._process.stdin and self._process.stdout
            pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            error, result = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as failure:
            raise ValueError(self._obituary()) from failure
        finally:
            timer.cancel()
        if error is not None:
            raise error
        return result

    def _give_up(self) -> None:
        self._overdue = True
        self._process.kill()

    def _obituary(self) -> str:
        code = self._process.wait()
        if self._overdue:
            return f"the interpreter did not finish within {self._seconds:g} seconds"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = f" ({lines[-1].strip()})" if lines else ""
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the interpreter died on this file: {how}{last}"


def serve() -> None:
    """The child process: makes the object, then answers calls until its input ends."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What native code prints is not a reply.
    target: Callable[..., Any] = _make
    while True:
        reply: tuple[Exception | None, Any]
        try:
            message = pickle.load(requests)
            result = target(*message)
            if target is _make:
                target, result = result, None
            reply = None, result
        except EOFError:
            return
        except ValueError as error:
            reply = ValueError(str(error)), None
        except Exception as error:  # A mistake of ours: the parent shows it as one.
            reply = RuntimeError(f"{type(error).__name__}: {error}"), None
        pickle.dump(reply, replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()


def _make(factory: Callable[..., Callable[..., Any]], *args: Any) -> Callable[..., Any]:
    return factory(*args)
