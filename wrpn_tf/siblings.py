"""Whether the packages that come with this one are found, or something else of their names."""

import importlib.util
import os
import pathlib
import warnings


def warn_if_hidden(name: str) -> None:
    """Warns, in one sentence, where `import NAME` finds another module than the one beside ours.

    A script's own folder comes first where Python looks, and `export.py` is a usual name there.
    """
    home = pathlib.Path(__file__).parents[1] / name
    if not (home / "__init__.py").is_file():
        return
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # A module without a specification: of the process's own making.
        return
    origin = None if spec is None else spec.origin
    if origin is None or os.path.realpath(origin) == os.path.realpath(home / "__init__.py"):
        return
    warnings.warn(
        f"{origin} hides the package {name!r} of wrpn_tf: rename it, or what wrpn_tf has there is "
        "not found.",
        stacklevel=3,
    )
