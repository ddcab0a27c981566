"""Writing the files of a training; what the system refuses is told in one sentence."""

import contextlib
import os
from collections.abc import Iterator

from export.ir import files
from train.config import UserError


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Holds what writes a file.

    Raises:
        UserError: The system refused something, as for want of space.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # HDF5's own text has lines.
        raise UserError(f"Cannot write {path}: {reason}.") from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        UserError: It cannot be written.
    """
    try:
        files.write_bytes(path, content)
    except ValueError as error:
        raise UserError(str(error)) from error
