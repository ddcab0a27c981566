"""Mutation testing: are there changes to a module that its tests do not notice?

    pip install mutmut==3.8.1
    python -m benchmarks.mutation [--module=wrpn_tf/arithmetic/scales.py] [--workers=1]

Copies the repository's files to a temporary folder, has mutmut change the functions of a module
there, one place at a time, runs the module's tests on every mutant, and prints the rows of
docs/mutation.md and the survivors. Modules and their tests are the rows of `TESTS`. Run it from the
repository's root.

The copy differs in two things. A decorator is a call after the function, as mutmut skips functions
with decorators. Properties are tested on 20 examples at most. Mutants of functions that no test
calls, as they work at import, get a process of their own.
"""

from __future__ import annotations

import ast
import collections
import difflib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl import flags

from wrpn_tf import command_line

_MODULES = flags.DEFINE_multi_string("module", [], "A module of `TESTS`; may repeat; none: all.")

# Tests of a module: files, or single tests; fast ones, without training or other processes.
TESTS = {
    "wrpn_tf/arithmetic/bits.py": ["tests/wrpn_tf/arithmetic/test_quantizers.py"],
    "wrpn_tf/arithmetic/numpy_twins.py": ["tests/wrpn_tf/arithmetic/test_quantizers.py"],
    "wrpn_tf/arithmetic/portable.py": ["tests/wrpn_tf/keras3/test_portable.py"],
    "wrpn_tf/arithmetic/quantization_parameters.py": [
        "tests/wrpn_tf/arithmetic/test_quantization_parameters.py"
    ],
    "wrpn_tf/arithmetic/quantizers.py": ["tests/wrpn_tf/arithmetic/test_quantizers.py"],
    "wrpn_tf/arithmetic/related_work.py": ["tests/wrpn_tf/arithmetic/test_related_work.py"],
    "wrpn_tf/arithmetic/scales.py": ["tests/wrpn_tf/arithmetic/test_quantizers.py"],
    "export/edge_tpu/rules.py": ["tests/export/edge_tpu/test_rules.py"],
    "export/edge_tpu/operator_rules.py": ["tests/export/edge_tpu/test_rules.py"],
    "export/realization/accumulator_range.py": [
        "tests/export/realization/test_accumulator_range.py"
    ],
    "export/kernel_sets/ideal.py": ["tests/export/kernel_sets/test_ideal.py"],
    "export/kernel_sets/requantization.py": ["tests/export/kernel_sets/test_rules.py"],
    "export/kernel_sets/thresholds.py": ["tests/export/kernel_sets/test_thresholds.py"],
    "export/alignment/bias_candidates.py": ["tests/export/alignment/test_bias_candidates.py"],
    "export/alignment/kernel_scales.py": ["tests/export/alignment/test_kernel_scales_search.py"],
    "export/alignment/offsets.py": ["tests/export/alignment/test_offsets_search.py"],
    "export/alignment/sums.py": ["tests/export/alignment/test_sums_search.py"],
    "export/lowering/folding.py": [
        f"tests/export/lowering/test_folding.py::{test}"
        for test in (
            "test_no_layer_changes_nothing",
            "test_a_bias_is_an_offset",
            "test_batch_normalization_is_kept_in_the_numbers_that_were_trained",
            "test_batch_normalization_without_a_scale_or_a_center",
            "test_a_rescaling_multiplies_the_bias_before_it",
            "test_parameters_are_what_follows_and_the_scale_and_digest_of_the_codes",
            "test_kernels_are_rows_of_taps_for_each_channel",
        )
    ],
    "export/proof/enumeration.py": ["tests/export/proof/test_enumeration.py"],
    "export/proof/prover.py": ["tests/export/proof/test_prover.py"],
    "export/realization/channels.py": ["tests/export/realization/test_channels.py"],
    "export/realization/context.py": ["tests/export/realization/test_context.py"],
    "export/realization/network.py": ["tests/export/realization/test_context.py"],
}


def main() -> None:
    """Runs the program."""
    if importlib.util.find_spec("mutmut") is None:
        raise ValueError("mutmut is not installed; pip install mutmut==3.8.1 and run again.")
    chosen = _MODULES.value or list(TESTS)
    unknown = sorted(set(chosen) - set(TESTS))
    if unknown:
        raise ValueError(f"No tests are known for {unknown[0]}; add a row to `TESTS`.")
    print("| module | mutants | killed | survivors |\n|---|---|---|---|", flush=True)
    for module in chosen:
        with tempfile.TemporaryDirectory() as folder:
            _report(module, pathlib.Path(folder))


def _report(module: str, folder: pathlib.Path) -> None:
    _copy(folder, module)
    mutants = _mutate(folder, module)
    results = _test(folder, module, list(mutants))
    survivors = [name for name, result in results.items() if result == "survived"]
    late = list(results.values()).count("late")
    killed = len(results) - len(survivors)
    share = f"{killed} ({killed / len(results):.1%})"
    print(f"| `{module}` | {len(results)} | {share} | {len(survivors)} |")
    if late:
        print(f"Of the killed, {late} ran out of time.")
    for name in survivors:
        print(f"{name.rpartition('.')[2]}\n{mutants[name]}", flush=True)


def _copy(folder: pathlib.Path, module: str) -> None:
    """Copies what git would commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for path in filter(os.path.isfile, listed.split("\0")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path)
    for test in TESTS[module]:
        path = folder / test.partition("::")[0]
        path.write_text(re.sub(r"max_examples=\d+", "max_examples=20", path.read_text()))
    # mutmut wants a section of its own; it is read in the current folder.
    (folder / "setup.cfg").write_text(f"[mutmut]\nsource_paths = {module}\n")


def _mutate(folder: pathlib.Path, module: str) -> dict[str, str]:
    """Writes a module with all its mutants in the place of the module.

    Returns:
      The lines in which each mutant differs, by its name.
    """
    from mutmut.mutation.file_mutation import mutate_file_contents

    source = _with_called_decorators((folder / module).read_text())
    root = os.getcwd()
    os.chdir(folder)
    try:
        mutated = mutate_file_contents(module, source)
    finally:
        os.chdir(root)
    (folder / module).write_text(mutated.code)
    functions = {
        node.name: (ast.get_source_segment(mutated.code, node) or "").splitlines()[1:]
        for node in ast.walk(ast.parse(mutated.code))
        if isinstance(node, ast.FunctionDef)
    }
    changes = {}
    for name in mutated.mutant_names:
        original = functions[re.sub(r"\d+$", "orig", name)]
        lines = difflib.unified_diff(original, functions[name], lineterm="", n=0)
        changes[f"{module[:-3].replace('/', '.')}.{name}"] = "\n".join(
            line for line in lines if not line.startswith(("---", "+++", "@@"))
        )
    return changes


def _test(folder: pathlib.Path, module: str, names: list[str]) -> dict[str, str]:
    """What became of each mutant: see `benchmarks.mutation_plugin`."""
    with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
        json.dump(names, file)
        file.flush()
        _run_tests(folder, module, ["-p", "benchmarks.mutation_plugin"], {"MUTANTS": file.name})
        file.seek(0)
        results = json.load(file)
    for name in (name for name, result in results.items() if result == "not called"):
        failed = _run_tests(folder, module, [], {"MUTANT_UNDER_TEST": name})
        results[name] = "killed" if failed else "survived"
    return results


def _run_tests(
    folder: pathlib.Path, module: str, arguments: list[str], variables: dict[str, str]
) -> bool:
    """Whether tests fail, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--hypothesis-seed=0"]
    done = subprocess.run(
        [*command, *arguments, *TESTS[module]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "."} | variables,
        capture_output=True,
        text=True,
    )
    if arguments and done.returncode:
        raise RuntimeError(f"the tests of {module} do not run:\n{done.stdout}{done.stderr}")
    return done.returncode != 0


def _with_called_decorators(source: str) -> str:
    """``@f`` above a function becomes ``name = f(name)`` below it."""
    removed, added = set[int](), collections.defaultdict[int, list[str]](list)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            removed |= set(range(node.decorator_list[0].lineno, node.lineno))
            added[node.end_lineno or 0] += [
                f"{' ' * node.col_offset}{node.name} = {ast.unparse(decorator)}({node.name})"
                "  # pragma: no mutate"
                for decorator in reversed(node.decorator_list)
            ]
    lines = [
        line
        for number, text in enumerate(source.splitlines(), 1)
        for line in ([] if number in removed else [text]) + added[number]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command_line.run(main, errors=(ValueError,))
