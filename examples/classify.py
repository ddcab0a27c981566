"""Classifies an image with an exported .tflite file, on a PC, a Raspberry Pi or a Coral board.

    python classify.py model.tflite image.jpg

Needs NumPy, Pillow and either ai-edge-litert or tflite-runtime; copy this one file to the device.
Size, normalization and labels come from the model file. The Edge TPU is used where
libedgetpu.so.1 loads (tried in another process: a library of another version than the runtime
crashes); the model must have gone through edgetpu_compiler for it to matter.
"""

import argparse
import io
import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
from PIL import Image, ImageOps

try:
    from ai_edge_litert import interpreter as litert
except ImportError:
    from tflite_runtime import interpreter as litert

EDGE_TPU = "libedgetpu.so.1"
MOST_LABEL_BYTES = 2**22
PROBE = f"""
try:
    from ai_edge_litert.interpreter import load_delegate, Interpreter
except ImportError:
    from tflite_runtime.interpreter import load_delegate, Interpreter
import sys
delegate = load_delegate({EDGE_TPU!r})
Interpreter(sys.argv[1], experimental_delegates=[delegate]).allocate_tensors()
"""


def edge_tpu_works(model: str) -> bool:
    """Whether the model loads with the Edge TPU, without risking this process."""
    command = [sys.executable, "-c", PROBE, model]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def read_labels(content: bytes) -> list[str]:
    """The class names in the zip archive that ends the file; empty without one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            members = [each for each in archive.infolist() if each.compress_type in kinds]
            names = [each.filename for each in members if each.filename.endswith(".txt")]
            if not names:
                return []
            with archive.open(names[0]) as stream:
                return stream.read(MOST_LABEL_BYTES).decode(errors="replace").splitlines()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return []


def printable(text: str) -> str:
    """The text without what a terminal obeys: escape codes, characters that reverse the line."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def read_normalization(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation from the file's metadata: real = (pixel - mean) / std.

    A walk through the flatbuffer: Model.metadata names a buffer, which holds ModelMetadata, whose
    first subgraph's first input has process units; the one of type 1 is the normalization.
    """
    model = Table(content, 0)
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            buffer = model.tables(4)[entry.number(1)].array(0, np.uint8).tobytes()
            image = Table(buffer, 0).tables(3)[0].tables(2)[0]
            for unit in image.tables(4):
                if unit.number(0, 1) == 1:
                    options = unit.table(1)
                    return options.array(0, np.float32), options.array(1, np.float32)
    raise ValueError("the file has no normalization in its metadata")


def encode(
    picture: Image.Image, source: dict, mean: np.ndarray, std: np.ndarray, *, crop: bool = False
) -> np.ndarray:
    """The input's integers, or real values, for a picture brought to the input's size.

    All of the picture, or with `crop` the largest part in its middle that has the input's
    proportions. A picture that has that size and those colors is taken as it is, pixel by pixel.
    """
    _, height, width, channels = source["shape"]
    picture = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
    if crop:
        factor = min(picture.width / width, picture.height / height)
        across, down = round(factor * width), round(factor * height)
        left, top = (picture.width - across) // 2, (picture.height - down) // 2
        picture = picture.crop((left, top, left + across, top + down))
    picture = picture.resize((width, height), Image.BILINEAR)
    reals = (np.asarray(picture, np.float32).reshape(source["shape"]) - mean) / std
    if source["dtype"] == np.float32:
        return reals.astype(np.float32)
    scale, zero_point = source["quantization"]
    limits = np.iinfo(source["dtype"])
    # Pixels that lie half-way between two codes go up, whatever float32 made of them.
    codes = np.floor(reals / np.float32(scale) + (0.5 + 2**-10)) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(source["dtype"])


class Table:
    """A flatbuffer table, read field by field by number."""

    def __init__(self, data: bytes, at: int):
        self._data = data
        self._at = at + self._read(at, "<u4")

    def _read(self, at: int, kind: str) -> int:
        return int(np.frombuffer(self._data, kind, 1, at)[0])

    def _field(self, index: int) -> int:
        """Where a field is; 0 where it is absent."""
        vtable = self._at - self._read(self._at, "<i4")
        if 4 + 2 * index >= self._read(vtable, "<u2"):
            return 0
        offset = self._read(vtable + 4 + 2 * index, "<u2")
        return self._at + offset if offset else 0

    def number(self, index: int, size: int = 4) -> int:
        """An unsigned number of `size` bytes."""
        at = self._field(index)
        return self._read(at, f"<u{size}") if at else 0

    def table(self, index: int) -> "Table":
        """A table within this one."""
        return Table(self._data, self._field(index))

    def _vector(self, index: int) -> tuple[int, int]:
        at = self._field(index)
        if not at:
            return 0, 0
        at += self._read(at, "<u4")
        return at + 4, self._read(at, "<u4")

    def tables(self, index: int) -> list["Table"]:
        """A vector of tables."""
        start, count = self._vector(index)
        return [Table(self._data, start + 4 * i) for i in range(count)]

    def array(self, index: int, dtype: type) -> np.ndarray:
        """A vector of numbers."""
        start, count = self._vector(index)
        return np.frombuffer(self._data, dtype, count, start)

    def text(self, index: int) -> str:
        """A string."""
        return self.array(index, np.uint8).tobytes().decode()


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the .tflite file")
    parser.add_argument("image", help="an image that Pillow reads")
    parser.add_argument("--crop", action="store_true", help="keep proportions: cut the edges off")
    parser.add_argument("--top", type=int, default=3, help="classes to print")
    parser.add_argument("--cpu", action="store_true", help="do not look for an Edge TPU")
    arguments = parser.parse_args()
    try:
        with open(arguments.model, "rb") as file:
            content = file.read()
        picture = Image.open(arguments.image)
        picture.load()
    except OSError as error:
        sys.exit(f"error: {error}")
    if content[4:8] != b"TFL3":
        sys.exit(f"error: {arguments.model} is not a .tflite file")

    on_tpu = not arguments.cpu and edge_tpu_works(arguments.model)
    delegates = [litert.load_delegate(EDGE_TPU)] if on_tpu else None
    try:
        interpreter = litert.Interpreter(arguments.model, experimental_delegates=delegates)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {arguments.model} does not load: {error}")
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    shape = source["shape"].tolist()
    if len(interpreter.get_input_details()) > 1 or len(shape) != 4 or shape[3] not in (1, 3):
        sys.exit(f"error: {arguments.model} does not take one image [1, height, width, 1 or 3]")
    if source["dtype"] not in (np.uint8, np.int8, np.float32):
        sys.exit(f"error: {arguments.model} takes neither uint8, int8 nor float32")
    try:
        codes = encode(picture, source, *read_normalization(content), crop=arguments.crop)
    except (ValueError, IndexError, RecursionError) as error:
        sys.exit(f"error: {arguments.model}: {error}")
    interpreter.set_tensor(source["index"], codes)
    start = time.perf_counter()
    interpreter.invoke()
    milliseconds = (time.perf_counter() - start) * 1e3

    scale, zero_point = result["quantization"]
    logits = interpreter.get_tensor(result["index"])[0].astype(np.float32)
    if result["dtype"] != np.float32:
        logits = (logits - zero_point) * scale
    labels = dict(enumerate(read_labels(content)))
    for index in np.argsort(-logits)[: arguments.top]:
        print(f"{logits[index]:8.3f}  {printable(labels.get(index, str(index)))}")
    print(f"{milliseconds:.2f} ms on the {'Edge TPU' if on_tpu else 'CPU'}")


if __name__ == "__main__":
    main()
