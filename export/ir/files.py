"""Reading files, and writing results whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
      ValueError: if the file cannot be read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file through a temporary one beside it, so that no half result is ever seen.

    Raises:
      ValueError: if the file cannot be written.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # The folder itself may be a file.
            partial.unlink()
        raise ValueError(f"Cannot write {path}: {error.strerror}.") from error
