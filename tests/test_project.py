"""What the project promises of its own shape: folders that import only downwards, no circles."""

import ast
import collections
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("wrpn_tf", "train", "export")
    for path in (ROOT / package).rglob("*.py")
)
# The folders that each folder may import besides itself. Everything of `export` and `train` may
# import the public face of `wrpn_tf`, everything of `train` that of `export`.
LAYERS: dict[str, set[str]] = {
    "wrpn_tf/arithmetic": set(),
    "wrpn_tf/data": set(),
    "wrpn_tf/models": set(),
    "wrpn_tf/graph": {"arithmetic"},
    "wrpn_tf/tfmot": {"arithmetic", "graph"},
    "wrpn_tf/widening": {"graph", "models", "tfmot"},
    "wrpn_tf/costs": {"arithmetic", "graph", "tfmot"},
    "wrpn_tf/reporting": {"costs", "models", "tfmot"},
    "export/ir": set(),
    "export/kernel_sets": {"ir"},
    "export/executor": {"ir", "kernel_sets"},
    "export/realization": {"ir", "kernel_sets"},
    "export/lowering": {"ir", "kernel_sets", "realization"},
    "export/proof": {"ir", "kernel_sets", "lowering", "realization"},
    "export/alignment": {"ir", "kernel_sets", "lowering", "proof", "realization"},
    "export/flatbuffer": {"ir", "kernel_sets"},
    "export/runtime": {"flatbuffer"},
    "export/edge_tpu": {"flatbuffer", "kernel_sets", "runtime"},
    "export/c99": {"ir", "kernel_sets"},
    "export/tools": {"flatbuffer", "ir", "lowering", "runtime"},
    "export/verification": {
        *("alignment", "executor", "flatbuffer", "ir", "kernel_sets", "lowering", "realization"),
        "runtime",
    },
}
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
    """The names that `wrpn_tf/__init__.py` imports or assigns, and the modules among them."""
    body = parse(Path("wrpn_tf/__init__.py")).body
    imported = {
        name
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        for name in (alias.name, f"{node.module}.{alias.name}")
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
    package, *parts = dotted.split(".")
    private = [part for part in parts if part.startswith("_") and not part.endswith("__")]
    face = public_face()
    known = not parts or parts[0] in face or ".".join([package, *parts[:2]]) in face
    return known and not private


def module_of(dotted: str) -> Path | None:
    """The module of ours that a dotted name is, or is a part of."""
    parts = dotted.split(".")
    while parts:
        path = Path(*parts)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate in MODULES:
                return candidate
        parts.pop()
    return None


def dependencies(module: Path) -> set[Path]:
    """The other modules of ours that a module imports, inside functions too."""
    found = {module_of(name) for _, name in imports(parse(module))}
    return {path for path in found if path is not None and path != module}


def folder(module: Path) -> str:
    """The folder of a module, 'wrpn_tf/graph'; '' for those that are in none of `LAYERS`."""
    name = "/".join(module.parts[:2])
    return name if name in LAYERS else ""


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_folder_imports_only_what_is_below(name):
    package = name.split("/")[0]
    allowed = {name} | {f"{package}/{below}" for below in LAYERS[name]}
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        if folder(module) == name
        for other in dependencies(module)
        if other.parts[0] == package and folder(other) not in allowed
    ]
    assert not wrong


def test_every_folder_is_in_the_table():
    folders = {"/".join(m.parts[:2]) for m in MODULES if m.parts[0] != "train" and len(m.parts) > 2}
    assert folders == set(LAYERS)


def test_there_are_no_circles():
    folders = {name: {f"{name.split('/')[0]}/{b}" for b in LAYERS[name]} for name in LAYERS}
    graphlib.TopologicalSorter(folders).prepare()
    modules = collections.defaultdict(set)
    for module in MODULES:
        if module.name != "__init__.py":
            modules[module] = {m for m in dependencies(module) if m.name != "__init__.py"}
    graphlib.TopologicalSorter(modules).prepare()  # CycleError names a circle.


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
