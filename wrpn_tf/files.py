"""Reading files, and writing results whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Iterator

MOST_BYTES = 2**31
"""What a file that is read may have."""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
      ValueError: if the file cannot be read, is no regular file (which may never end), or has more
        than `MOST_BYTES`.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"Cannot read {path}: it is not a regular file.")
            if status.st_size > MOST_BYTES:
                raise ValueError(
                    f"Cannot read {path}: it has {status.st_size:,} bytes, more than "
                    f"{MOST_BYTES:,}."
                )
            return file.read()
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from error


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # A pipe without a writer opens, too.


class WriteError(ValueError):
    """A file cannot be written: no room, no right, a folder in its place; told in one sentence."""


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Holds what writes a file.

    Raises:
      WriteError: if the system refuses something.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # HDF5's own text has lines.
        raise WriteError(f"Cannot write {path}: {reason}.") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A path beside the file, of the same suffix; what is written there becomes the file.

    No half result is ever seen: a file that was there stays until the new one is whole, and for
    good where that fails. A missing folder is made.

    Raises:
      WriteError: if the file cannot be written.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    with writing(path):
        try:
            _make_folder(path.parent)
            yield partial
            os.replace(partial, path)
        finally:
            with contextlib.suppress(OSError):  # It was moved, or its folder is a file.
                partial.unlink()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
      WriteError: if the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_bytes(content)


def require_writable(*paths: str | os.PathLike[str]) -> None:
    """Finds out before long work whether files can be written, and leaves nothing behind.

    Raises:
      WriteError: if one cannot.
    """
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            raise WriteError(f"Cannot write {path}: it is a folder.")
        missing = [part for part in path.parents if not os.path.lexists(part)]
        probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
        with writing(path):
            try:
                _make_folder(path.parent)
                probe.write_bytes(b"1")
                probe.unlink()
            finally:
                for part in missing:
                    with contextlib.suppress(OSError):  # It was not made, or is used by now.
                        part.rmdir()


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # Which says of a file in its place only that it exists.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
