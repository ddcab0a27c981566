"""What the project promises of its own shape: folders that import only downwards, no circles."""

import ast
import collections
import functools
import graphlib
import importlib
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
    "wrpn_tf/models": {"graph", "quantization"},
    "wrpn_tf/graph": {"arithmetic"},
    "wrpn_tf/tfmot": {"arithmetic", "graph"},
    "wrpn_tf/keras3": {"arithmetic", "graph"},
    "wrpn_tf/quantization": {"arithmetic", "graph"},
    "wrpn_tf/recomputation": {"arithmetic", "graph"},
    "wrpn_tf/widening": {"graph", "models"},
    "wrpn_tf/costs": {"arithmetic", "graph", "quantization"},
    "wrpn_tf/allocation": {"arithmetic", "costs", "graph", "quantization", "reporting"},
    "wrpn_tf/reporting": {"costs", "graph", "models", "quantization"},
    "export/ir": set(),
    "export/kernel_sets": {"ir"},
    "export/realization": {"ir", "kernel_sets"},
    "export/executor": {"ir", "kernel_sets", "realization"},
    "export/lowering": {"ir", "kernel_sets"},
    "export/proof": {"ir", "kernel_sets", "lowering", "realization"},
    "export/alignment": {"ir", "kernel_sets", "lowering", "proof", "realization"},
    "export/flatbuffer": {"ir", "kernel_sets"},
    "export/runtime": set(),
    "export/tflm": {"flatbuffer", "ir", "kernel_sets", "runtime"},
    "export/edge_tpu": {"flatbuffer", "ir", "kernel_sets", "runtime"},
    "export/ethos_u": {"flatbuffer"},
    "export/c99": {"ir", "kernel_sets"},
    "export/tools": {"alignment", "flatbuffer", "ir", "lowering", "realization", "runtime"},
    "export/reporting": {
        *("edge_tpu", "ethos_u", "flatbuffer", "lowering", "realization", "verification"),
    },
    "export/verification": {
        *("alignment", "executor", "flatbuffer", "ir", "kernel_sets", "lowering", "realization"),
        *("runtime", "tflm"),
    },
}
FOUNDATION = {
    Path("wrpn_tf/saved_sizes.py"),
    Path("wrpn_tf/command_line.py"),
    Path("wrpn_tf/files.py"),
    Path("wrpn_tf/fronts.py"),
    Path("wrpn_tf/lazy.py"),
    Path("wrpn_tf/progress.py"),
    Path("wrpn_tf/siblings.py"),
    Path("wrpn_tf/terminal.py"),
}
"""What every folder may import, and what imports nothing of ours but each other."""
LAZY = ("export", "wrpn_tf", "wrpn_tf/models")  # Packages whose names are imported when used.
ABOVE = {  # Who must not be imported, by package.
    "wrpn_tf": {"export", "train", "tests"},
    "export": {"train", "tests"},
    "train": {"tests"},
}


@functools.cache
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


def table(package: str) -> dict[str, str]:
    """The table of a lazy package: by public name, its module."""
    (found,) = (
        node.value
        for node in parse(Path(package, "__init__.py")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PUBLIC"
    )
    return ast.literal_eval(found)


def is_module(dotted: str) -> bool:
    path = ROOT / Path(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def typed(package: str) -> dict[str, str]:
    """What the package's `if TYPE_CHECKING` imports, in the form of its table."""
    found = [
        (alias.name, str(node.module))
        for block in parse(Path(package, "__init__.py")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    whole = {name: f"{module}.{name}" for name, module in found if is_module(f"{module}.{name}")}
    return dict(found) | whole


@functools.cache
def public_face() -> set[str]:
    """The names of `wrpn_tf`, and the modules among them by where they are."""
    names = table("wrpn_tf")
    modules = {module for name, module in names.items() if module.endswith(f".{name}")}
    return {"__version__", *names} | modules | {path.stem for path in FOUNDATION}


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


@functools.cache
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
        if other.parts[0] == package and folder(other) not in allowed and other not in FOUNDATION
    ]
    assert not wrong


def test_the_foundation_imports_nothing_of_ours():
    assert not {other for m in FOUNDATION for other in dependencies(m)} - FOUNDATION


@pytest.mark.parametrize("package", LAZY)
def test_lazy_names_are_typed_and_stand_in_their_modules(package):
    names = table(package)
    assert names == typed(package)
    dotted = package.replace("/", ".")
    for name, module in names.items():
        value = getattr(importlib.import_module(dotted), name)
        if not module.endswith(f".{name}"):
            assert value is getattr(importlib.import_module(module), name)
            programs = ("prove", "verify")  # These are only run.
            hides = is_module(f"{dotted}.{name}") and name not in programs
            assert not hides, f"importing {dotted}.{name} would hide what has this name"


def test_what_every_keras_shares_imports_none():
    known = {"tf_keras", "keras", "tensorflow", "tensorflow_model_optimization"}
    modules = [module for module in MODULES if folder(module) == "wrpn_tf/graph"]
    assert modules
    wrong = [
        f"{module}:{line}: {name}"
        for module in modules
        for line, name in imports(parse(module))
        if name.split(".")[0] in known
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
