"""Images for a float model: of an .npy file or a folder, as the model takes them."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from export.tools.image_files import ENDINGS, image_files

_LEAST_SPAN = 0.02  # Of the input range: images of [0, 1] span 0.004 of (0, 255).
_ROOM = 0.01  # Of the input range: rounding of whoever normalized.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images that are known to be there, and not read yet.

    Attributes:
      path: an .npy file, or a folder of image files at any depth.
      count: how many there are.
      array: the file's, mapped into memory; None for a folder.
    """

    path: pathlib.Path
    count: int
    array: np.ndarray | None

    @property
    def are_pixels(self) -> bool:
        """Whether they are integers, 0 to 255."""
        return self.array is None or self.array.dtype == np.uint8

    def chosen(self, most: int) -> np.ndarray:
        """The numbers of up to `most` images, spread evenly: what `read` reads."""
        return np.linspace(0, self.count - 1, min(most, self.count)).astype(int)

    def read(
        self, shape: tuple[int | None, ...], most: int, input_range: tuple[float, float] | None
    ) -> np.ndarray:
        """Up to `most` images, spread evenly, as float32 ``[images, *shape]``.

        Args:
          shape: of an image, (height, width, channels); None for any size. Files of a folder are
            cropped to its aspect and resized to it.
          most: how many at most.
          input_range: real values of the pixels 0 and 255; None only where they are no pixels.

        Raises:
          ValueError: the images have another shape, or are not what `input_range` says.
        """
        chosen = self.chosen(most)
        if self.array is None:
            images = self._from_folder(shape, chosen)
        else:
            images = self.array[chosen]
        fits = [size in (None, given) for given, size in zip(images.shape[1:], shape, strict=False)]
        if images.ndim != 1 + len(shape) or not all(fits):
            raise ValueError(
                f"The images of {self.path} have the shape {images.shape[1:]}; the model takes "
                f"{shape}."
            )
        if self.are_pixels:
            assert input_range is not None
            low, high = input_range
            return (images * np.float32((high - low) / 255) + np.float32(low)).astype(np.float32)
        reals = images.astype(np.float32)
        if input_range is not None:
            self._check_range(reals, input_range)
        return reals

    def _from_folder(self, shape: tuple[int | None, ...], chosen: np.ndarray) -> np.ndarray:
        from export.tools import images  # TensorFlow, which takes seconds.

        height, width, channels = shape if len(shape) == 3 else (None, None, None)
        if height is None or width is None or channels not in (1, 3):
            raise ValueError(
                f"The model takes {shape}; image files are brought to one (height, width, 1 or 3): "
                "give an .npy file."
            )
        files = image_files(self.path)
        found = images.from_files(str(self.path), [str(files[index]) for index in chosen])
        size = (height, width, channels)
        return np.concatenate([batch for batch, _ in found.batches(size, "crop", 1.0, 32)])

    def _check_range(self, reals: np.ndarray, input_range: tuple[float, float]) -> None:
        least, largest = float(reals.min()), float(reals.max())
        low, high = input_range
        room = _ROOM * (high - low)
        if not (low - room <= least <= largest <= high + room):
            raise ValueError(
                f"The images of {self.path} reach from {least:.4g} to {largest:.4g}, and the input "
                f"range is {low:g} to {high:g}; give the range that they were normalized to."
            )
        if largest - least < _LEAST_SPAN * (high - low):
            raise ValueError(
                f"The images of {self.path} reach from {least:.4g} to {largest:.4g} only, and the "
                f"input range is {low:g} to {high:g}; one of the two is not what the model takes."
            )


def of_flags(
    path: str | None, words: Sequence[str] | None
) -> tuple[ImageSource | None, tuple[float, float] | None]:
    """The images of --images and the range of --input_range, checked before any model is loaded.

    Args:
      path: see `find`; None: no images.
      words: the lowest and the largest real value of a pixel, as they were typed.

    Raises:
      ValueError: no such images, no range, or pixels whose range is not given.
    """
    input_range = None if words is None else _parse_range(words)
    source = find(path) if path else None
    if source and source.are_pixels and input_range is None:
        raise ValueError(
            f"{path} holds pixels: --input_range=0,1 says what 0 and 255 are to the model"
        )
    return source, input_range


def _parse_range(words: Sequence[str]) -> tuple[float, float]:
    try:
        low, high = map(float, words)
    except ValueError:
        low = high = math.nan
    if not (low <= 0 <= high and 0 < high - low < math.inf):
        raise ValueError(
            f"--input_range={','.join(words)} must be two numbers with 0 in between, what "
            "the pixels 0 and 255 are to the model: 0,255 or 0,1 or -1,1"
        )
    return low, high


def find(path: str) -> ImageSource:
    """The images at a path, of which only the header or the names are read.

    Raises:
      ValueError: there are none, or the file holds something else.
    """
    place = pathlib.Path(path)
    if place.is_dir():
        count = len(image_files(place))
        if not count:
            raise ValueError(f"{path} has no image files ({', '.join(ENDINGS)}).")
        return ImageSource(path=place, count=count, array=None)
    if not place.is_file():
        raise ValueError(f"There is no file or folder {path}.")
    try:
        array = np.load(place, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, EOFError):  # NumPy's sentence says how to load what may run code.
        array = None
    if not isinstance(array, np.ndarray) or array.ndim < 2 or not array.size:
        raise ValueError(f"{path} is no .npy file of an array [images, height, width, channels].")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{path} holds {array.dtype}; expected pixels in uint8, or floats.")
    return ImageSource(path=place, count=len(array), array=array)
