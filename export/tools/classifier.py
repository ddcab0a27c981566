"""An image classifier in a .tflite file, ours or not: pixels in, best classes out."""

from __future__ import annotations

import dataclasses

import numpy as np

from export.flatbuffer.metadata_reader import Metadata, read_metadata
from export.flatbuffer.reader import Model, Tensor
from export.runtime import runner

_MOST_VALUES = 2**24  # Of an image; a batch is resized in float32.

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interface:
    """What a classifier takes and gives.

    Attributes:
      input_name: the image's tensor.
      output_name: the tensor of scores.
      image_shape: (height, width, channels).
      classes: how many scores there are.
      labels: their names, where the file has them.
      normalization: mean and standard deviation in pixels, ``real = (pixel - mean) / std``; None:
        pixels are the input's codes (uint8, or int8 after subtracting 128).
      scale: the input's quantization, 0 for a float input.
      zero_point: the same.
      dtype: the input's type in NumPy.
    """

    input_name: str
    output_name: str
    image_shape: tuple[int, int, int]
    classes: int
    labels: tuple[str, ...] | None
    normalization: Normalization | None
    scale: float
    zero_point: int
    dtype: str

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The input tensor's values for uint8 images ``[N, height, width, channels]``."""
        dtype = np.dtype(self.dtype)
        if self.normalization is None:
            return images if dtype == np.uint8 else (images.astype(np.int16) - 128).astype(dtype)
        mean, std = (np.asarray(values, np.float32) for values in self.normalization)
        reals = (images.astype(np.float32) - mean) / std
        if dtype.kind == "f":
            return reals.astype(dtype)
        limits = np.iinfo(dtype)
        # Pixels that lie half-way between two codes go up, whatever float32 made of them.
        codes = np.floor(reals / np.float32(self.scale) + (0.5 + 2**-10)) + self.zero_point
        return np.clip(codes, limits.min, limits.max).astype(dtype)


def interface(model: Model, normalization: Normalization | None = None) -> Interface:
    """Finds out what a classifier takes and gives.

    Args:
      model: the file.
      normalization: overrides what its metadata says.

    Raises:
      ValueError: the model is no image classifier, or it has a float input and nothing says how
        pixels become real values.
    """
    if len(model.inputs) != 1 or not model.outputs:
        raise ValueError(f"the model has {len(model.inputs)} inputs; a classifier has one image")
    source, scores = model.inputs[0], model.outputs[0]
    _check_image(source)
    if not scores.shape or scores.size != scores.shape[-1] or scores.size < 2:
        raise ValueError(
            f"the output {scores.name!r} has the shape {list(scores.shape)}; a classifier's has "
            "one dimension beside the batch"
        )
    metadata = read_metadata(model)
    return Interface(
        input_name=source.name,
        output_name=scores.name,
        image_shape=(source.shape[1], source.shape[2], source.shape[3]),
        classes=scores.size,
        labels=metadata.labels,
        normalization=_normalization(source, metadata, normalization),
        scale=float(source.scale[0]) if len(source.scale) else 0.0,
        zero_point=int(source.zero_point[0]) if len(source.zero_point) else 0,
        dtype=source.dtype.name,
    )


def _check_image(source: Tensor) -> None:
    """Raises ValueError where a tensor is no image of a fixed size."""
    if len(source.shape) != 4 or source.shape[0] != 1 or source.shape[3] not in (1, 3):
        raise ValueError(
            f"the input {source.name!r} has the shape {list(source.shape)}; an image has "
            "[1, height, width, 1 or 3]"
        )
    signature = source.signature or source.shape
    if min(signature[1:]) < 0:
        raise ValueError(
            f"the input {source.name!r} takes images of any size, {list(signature)}; give a file "
            "that was converted for one"
        )
    if source.size > _MOST_VALUES:
        raise ValueError(
            f"the input {source.name!r} has the shape {list(source.shape)}; an image has at most "
            f"{_MOST_VALUES:,} values"
        )
    if source.type not in ("UINT8", "INT8", "FLOAT32"):
        raise ValueError(f"the input {source.name!r} is {source.type}; not UINT8, INT8 or FLOAT32")


def _normalization(
    source: Tensor, metadata: Metadata, given: Normalization | None
) -> Normalization | None:
    """See `Interface`: as the user says, else as the file's metadata do.

    Raises:
      ValueError: neither says it of a float input, or it is of another number of channels.
    """
    found = given
    if found is None and metadata.mean is not None and metadata.std is not None:
        found = metadata.mean, metadata.std
    quantized = source.type != "FLOAT32"
    if found is not None:
        _check_channels(found, source)
    if found is None and not quantized:
        raise ValueError(
            "the input is float and the file does not say how pixels become real values: give "
            "--mean and --std, real = (pixel - mean) / std"
        )
    # Files of quantized models often say mean 0, std 1 where they mean codes as they are.
    if quantized and (not len(source.scale) or (given is None and _is_identity(found))):
        found = None
    return found


def _check_channels(normalization: Normalization, source: Tensor) -> None:
    for values in normalization:
        if len(values) not in (1, source.shape[3]):
            raise ValueError(
                f"mean and std have {len(values)} values, the image {source.shape[3]} channels"
            )


def _is_identity(normalization: Normalization | None) -> bool:
    return normalization is not None and set(normalization[0]) == {0} == set(
        value - 1 for value in normalization[1]
    )


class Classifier:
    """A classifier ready to run; made in a process of its own where the file is not ours.

    Args:
      content: the bytes of the .tflite file.
      description: what it takes and gives.
      kernel_set: 'xnnpack', 'optimized' or 'reference'.
      best: how many classes to give for each image.

    Raises:
      ValueError: the file is not a model the Interpreter can run.
    """

    def __init__(self, content: bytes, description: Interface, kernel_set: str, best: int) -> None:
        self._run = runner.Runner(content, kernel_set)
        self._interface = description
        self._best = min(best, description.classes)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Classifies images, one at a time: not every model has a batch.

        Args:
          images: uint8 ``[N, height, width, channels]``.

        Returns:
          int64 ``[N, best]``, the best class first; the lower index first where scores are equal.
        """
        name, output = self._interface.input_name, self._interface.output_name
        scores = [
            self._run({name: image[None]})[output].reshape(-1)
            for image in self._interface.encode(images)
        ]
        order = np.argsort(-np.asarray(scores, np.float64), axis=-1, kind="stable")
        return order[:, : self._best]
