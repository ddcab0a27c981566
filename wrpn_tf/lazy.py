"""Packages whose public names are imported when they are first used.

TensorFlow takes seconds to import, and a program that only prints its flags needs none of it.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, str], renamed: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: The package's `__name__`.
        modules: By public name, the module that has it. A module whose last part is the name is
            public itself: no module shares its name with anything in it.
        renamed: By old name, the name of today.

    Returns:
        `__getattr__`, which raises AttributeError for a name that is not in the table, with today's
        name where it is an old one; and `__dir__`.
    """
    renamed = renamed or {}

    def get(name: str) -> Any:
        if name in renamed:
            raise AttributeError(f"{package}.{name} is now {package}.{renamed[name]}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(modules[name])
        value = module if modules[name].endswith(f".{name}") else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get, names
