"""One training, or one sweep, at a time in a workdir."""

import contextlib
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator

from train.config import UserError

_NAME = ".lock"


@contextlib.contextmanager
def locked(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Holds a workdir for this process; whatever ends the process gives it back.

    Folders that are made for that, and are empty but for the lock in the end, are removed: a
    training that failed at its start leaves none. A file system that has no locks is a warning.

    Raises:
        UserError: Another process holds it, or something that is no lock has the place of one.
    """
    folder = pathlib.Path(workdir)
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _NAME
    try:
        opened = open(path, "a", opener=_at_once)
    except OSError as error:
        raise UserError(
            f"{path} cannot be opened as a lock ({error.strerror}); remove it, or give another "
            "workdir"
        ) from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training in {workdir}; wait for it, or give another workdir"
            ) from error
        except OSError as error:
            print(
                f"warning: {workdir} cannot be locked ({error.strerror}); see that no other "
                "training uses it",
                file=sys.stderr,
            )
        try:
            yield
        finally:
            if missing and [entry.name for entry in folder.iterdir()] == [_NAME]:
                path.unlink()
                for part in missing:
                    with contextlib.suppress(OSError):  # Another process uses it.
                        part.rmdir()


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o666)  # A pipe would wait for a reader.
