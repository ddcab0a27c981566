"""What the project promises of its own shape: short modules, and imports that only look down."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("wrpn_tf", "train", "export")
    for path in (ROOT / package).rglob("*.py")
)
MAX_LINES = 300
ABOVE = {  # Who must not be imported, by package.
    "wrpn_tf": {"export", "train", "tests"},
    "export": {"train", "tests"},
    "train": {"tests"},
}


def parse(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and dotted name of everything imported, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and dotted name of every attribute reached from a name, as `wrpn_tf.models.x`."""
    for node in ast.walk(tree):
        names, value = [], node
        while isinstance(value, ast.Attribute):
            names.insert(0, value.attr)
            value = value.value
        if names and isinstance(value, ast.Name):
            yield node.lineno, ".".join([value.id, *names])


def public_face() -> set[str]:
    """The names that `wrpn_tf/__init__.py` imports or assigns."""
    body = parse(Path("wrpn_tf/__init__.py")).body
    imported = {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assigned = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return imported | assigned


def is_public(dotted: str) -> bool:
    """Whether a name below `wrpn_tf` starts on its public face and has no private part."""
    parts = dotted.split(".")[1:]
    private = [part for part in parts if part.startswith("_") and not part.endswith("__")]
    return not parts or (parts[0] in public_face() and not private)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_is_short(module):
    lines = (ROOT / module).read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_imports_only_downwards(module):
    above = ABOVE[module.parts[0]]
    upward = [
        f"{module}:{line}: {name}"
        for line, name in imports(parse(module))
        if name.split(".")[0] in above
    ]
    assert not upward


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] != "wrpn_tf"], ids=str)
def test_module_uses_only_the_public_face(module):
    tree = parse(module)
    names = [*imports(tree), *uses(tree)]
    private = [
        f"{module}:{line}: {name}"
        for line, name in names
        if name.split(".")[0] == "wrpn_tf" and not is_public(name)
    ]
    assert not private
