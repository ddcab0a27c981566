"""One training at a time in a workdir."""

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
    """Holds a workdir, which exists, for this process; whatever ends the process gives it back.

    A file system that has no locks is a warning.

    Raises:
        UserError: Another process holds it.
    """
    path = pathlib.Path(workdir) / _NAME
    with path.open("a") as file:
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
        yield
