"""Every integer of the interpreter on this machine against the NumPy executor.

    python benchmarks/runtime_check.py runs/cases

Compares, kernel set by kernel set, what `benchmarks.runtime_cases` wrote. Needs NumPy and either
ai-edge-litert or tflite-runtime, nothing else, so it runs where this package does not: in an
environment of tflite-runtime 2.14, on a board, under qemu. Exits with status 1 on a difference.
"""

import pathlib
import platform
import sys

import numpy as np

try:
    from ai_edge_litert import interpreter as litert

    IS_OLD = False
except ImportError:
    from tflite_runtime import interpreter as litert

    IS_OLD = True

IS_ARM = platform.machine() in ("aarch64", "arm64")
OPTIMIZED, XNNPACK = ("optimized_arm", "xnnpack_arm") if IS_ARM else ("optimized", "xnnpack")
# tflite-runtime 2.14 delegates no int8 operator: its default is its optimized kernels.
RULES = {
    "AUTO": OPTIMIZED if IS_OLD else XNNPACK,
    "BUILTIN_WITHOUT_DEFAULT_DELEGATES": OPTIMIZED,
    "BUILTIN_REF": "reference_2_14" if IS_OLD else "reference",
}


def differences(model: bytes, expected, resolver: str, rule: str) -> tuple[int, int]:
    """How many integers differ, and of how many, one image after the other."""
    kind = getattr(litert.OpResolverType, resolver)
    interpreter = litert.Interpreter(model_content=model, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    codes = {key: expected[key] for key in expected.files if key.startswith(f"{rule}:")}
    different = total = 0
    for index, image in enumerate(expected["image"]):
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        for detail in interpreter.get_output_details():
            actual = interpreter.get_tensor(detail["index"])[0]
            wanted = codes[f"{rule}:{detail['name']}"][index]
            different += int((actual != wanted).sum())
            total += wanted.size
    return different, total


def main() -> None:
    """Runs the program."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    print(f"{litert.__name__.split('.')[0]}, NumPy {np.__version__}, {platform.machine()}")
    failed = False
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*.tflite"))
    if not paths:
        sys.exit(f"error: no .tflite file in {sys.argv[1]}")
    for path in paths:
        expected = np.load(path.with_suffix(".npz"))
        for resolver, rule in RULES.items():
            different, total = differences(path.read_bytes(), expected, resolver, rule)
            failed |= different > 0
            print(f"{path.stem} {resolver} ({rule}): {different:,} of {total:,} integers differ")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
