"""What one training is: a frozen record of every choice that decides its result."""

import dataclasses
import math
import os
from collections.abc import Iterable
from typing import Literal, get_args

from wrpn_tf import datasets, models

Method = Literal["learned", "calibrated", "paper"]
FirstLast = Literal["integer", "paper"]
METHODS: tuple[Method, ...] = get_args(Method)
FIRST_LAST: tuple[FirstLast, ...] = get_args(FirstLast)

# Where a training runs, not what it computes: a resumed run may differ in these.
LOCATION_FIELDS = ("workdir", "data_dir")


class UserError(ValueError):
    """A mistake of the user's, told in one sentence; the command line shows no traceback."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training.

    Attributes:
        workdir: Folder of the run's checkpoints, logs, model and record; created if missing.
        dataset: A name that `wrpn_tf.datasets.load` knows.
        data_dir: Folder of prepared TensorFlow Datasets, see `wrpn_tf.datasets.load`.
        arch: A name that `wrpn_tf.models.build` knows.
        width: Factor on the filters of every convolution, at least 0.25.
        wbits: Bits of the weights, 1 to 8, or 32 for float.
        abits: Bits of the activations, 1 to 8, or 32 for float.
        method: Where quantizer scales come from: 'learned', 'calibrated' or 'paper'.
        first_last: First and last layer in 8 bits ('integer') or in float ('paper').
        init_from: Workdir or model file of a float network of the same architecture and width
            whose weights training starts from; None starts from random weights.
        epochs: Passes over the training images, at least 1.
        batch_size: Images per step; what does not fill a batch is left out of the epoch.
        learning_rate: Peak of the schedule: a linear warm-up, then a cosine to 0, per step.
        warmup_epochs: Length of the warm-up, 0 to `epochs`, may be a fraction.
        weight_decay: L2 penalty on kernels (gradient += weight_decay * kernel), at least 0.
        shift: Training images move by up to this many pixels in each direction.
        flip: Training images are mirrored at random.
        train_images: Use only the first so many training images; 0 means all.
        seed: Decides initial weights, image order and augmentation.
    """

    workdir: str | os.PathLike[str]
    dataset: str
    arch: str
    data_dir: str | os.PathLike[str] | None = None
    width: float = 1.0
    wbits: int = 32
    abits: int = 32
    method: Method = "learned"
    first_last: FirstLast = "integer"
    init_from: str | os.PathLike[str] | None = None
    epochs: int = 1
    batch_size: int = 128
    learning_rate: float = 0.1
    warmup_epochs: float = 0.5
    weight_decay: float = 1e-4
    shift: int = 0
    flip: bool = False
    train_images: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (accepts, range_text) in CHECKS.items():
            value = getattr(self, name)
            if not accepts(value):
                raise UserError(f"{name} must be {range_text}, not {value!r}")
        if self.warmup_epochs > self.epochs:
            raise UserError(
                f"warmup_epochs ({self.warmup_epochs}) must not exceed epochs ({self.epochs})"
            )

    @property
    def quantized(self) -> bool:
        """Whether anything is quantized: with both widths at 32 the network stays float."""
        return (self.wbits, self.abits) != (32, 32)

    @property
    def deployable(self) -> bool:
        """Whether the network has an integer form: all in 8 bits or less, first and last too."""
        return max(self.wbits, self.abits) <= 8 and self.first_last == "integer"

    def as_json(self) -> dict[str, str | int | float | bool | None]:
        """The fields as JSON values; paths become strings."""
        return {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in dataclasses.asdict(self).items()
        }


def _is_bits(value: int) -> bool:
    return 1 <= value <= 8 or value == 32


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _one_of(choices: Iterable[str]) -> str:
    return "one of " + ", ".join(choices)


CHECKS = {
    "dataset": (lambda name: name in datasets.names(), _one_of(datasets.names())),
    "arch": (lambda name: name in models.ARCHITECTURES, _one_of(tuple(models.ARCHITECTURES))),
    "width": (lambda width: math.isfinite(width) and width >= 0.25, "at least 0.25"),
    "wbits": (_is_bits, "1 to 8, or 32 for float"),
    "abits": (_is_bits, "1 to 8, or 32 for float"),
    "method": (METHODS.__contains__, _one_of(METHODS)),
    "first_last": (FIRST_LAST.__contains__, _one_of(FIRST_LAST)),
    "epochs": (lambda epochs: epochs >= 1, "at least 1"),
    "batch_size": (lambda size: size >= 1, "at least 1"),
    "learning_rate": (_is_positive, "a positive number"),
    "warmup_epochs": (lambda epochs: math.isfinite(epochs) and epochs >= 0, "at least 0"),
    "weight_decay": (lambda decay: math.isfinite(decay) and decay >= 0, "at least 0"),
    "shift": (lambda pixels: pixels >= 0, "at least 0"),
    "train_images": (lambda count: count >= 0, "at least 0, where 0 means all"),
    "seed": (lambda seed: 0 <= seed < 2**31, "0 to 2**31 - 1"),
}
"""Per field: what it accepts, and the same in words. Shared with the command line's flags."""
