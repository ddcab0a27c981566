"""Whether the packages that come with this one are found, or something else of their names."""

import importlib.util
import os
import pathlib
import sys
import warnings

_HOME = pathlib.Path(__file__).parents[1]


def warn_if_hidden(name: str) -> None:
    """Warns, in one sentence, where `import NAME` finds another module than the one beside ours.

    A script's own folder comes first where Python looks, and `export.py` is a usual name there.
    """
    if (origin := _hidden_by(name)) is not None:
        warnings.warn(
            f"{origin} hides the package {name!r} of wrpn_tf: rename it, or what wrpn_tf has there "
            "is not found.",
            stacklevel=3,
        )


def uncover(name: str) -> None:
    """Has `import NAME` find the package beside ours, whatever hides it where Python looks."""
    if _hidden_by(name) is not None:
        sys.path.insert(0, str(_HOME))


def _hidden_by(name: str) -> str | None:
    """The file that `import NAME` finds in the place of the package beside ours, or None."""
    package = _HOME / name / "__init__.py"
    if not package.is_file():
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # A module without a specification: of the process's own making.
        return None
    origin = None if spec is None else spec.origin
    if origin is None or os.path.realpath(origin) == os.path.realpath(package):
        return None
    return origin
