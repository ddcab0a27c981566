"""What one training is: a frozen record of every choice that decides its result."""

import dataclasses
import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from wrpn_tf import Rule, datasets, jpegs, models
from wrpn_tf.arithmetic.methods import ActivationMethod, Method, WeightMethod
from wrpn_tf.models.namespaces import Front

FirstLast = Literal["integer", "paper"]
Optimizer = Literal["sgd", "adam"]
Schedule = Literal["cosine", "step"]
MixedPrecision = Literal["none", "bf16", "fp16"]
Strategy = Literal["one", "mirrored", "multiworker", "tpu"]

# Where and how a training runs, not what it computes: a resumed run may differ in these.
LOCATION_FIELDS = (
    *("workdir", "data_dir", "strategy", "replicas", "packed_activations", "checkpoint_steps"),
    "log_steps",
)

_ONLY_OF_KERAS_3 = {"strategy": "one", "mixed_precision": "none"}
"""Fields that Keras 3 has one value of: the rest is `tf.distribute`'s and TF-MOT's."""

REFERENCES = ("init_from", "teacher")
"""Fields that name another training."""

JPEG_FIELDS = ("image_size", "color")
"""Fields without meaning for data sets in memory."""

ARRAY_FIELDS = ("shift",)
"""Fields without meaning for data sets of JPEG images, which are cropped."""

_NEEDS = {
    "decay_epochs": ("schedule", "step"),
    "decay_factor": ("schedule", "step"),
    "replicas": ("strategy", "mirrored"),
}
"""Fields that have an effect only where another one has a value."""

_PRETRAINED = "pretrained:"


class UserError(ValueError):
    """A mistake of the user's, told in one sentence; the command line shows no traceback."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training.

    Attributes:
        workdir: Folder of the run's checkpoints, logs, model and record; created if missing.
        dataset: A name that `wrpn_tf.datasets.load` knows, or 'imagenet2012'.
        data_dir: Folder of prepared TensorFlow Datasets, see `wrpn_tf.datasets.load` and
            `wrpn_tf.jpegs.load_jpegs`.
        image_size: Height and width in pixels that JPEG images are resized to; data sets in memory
            have their own.
        arch: A name that `wrpn_tf.models.build` knows.
        width: Factor on the filters of every convolution, at least 0.25.
        wbits: Bits of the weights, 1 to 8, or 32 for float.
        abits: Bits of the activations, 1 to 8, or 32 for float.
        method: Where quantizer scales come from: 'learned', 'calibrated' or 'paper'.
        weight_method: Another one for the weights ('dynamic', 'dorefa', 'xnor'; see
            `wrpn_tf.quantize_model`), None for `method`.
        activation_method: Another one for the activations ('pact'), None for `method`.
        per_channel: A scale for each output channel of a convolution, not one for its kernel.
        first_last: First and last layer in 8 bits ('integer') or in float ('paper').
        rules: Bits for single layers, which go before `wbits`, `abits` and `first_last`; the first
            that matches wins (see `wrpn_tf.quantize_model`).
        init_from: Workdir or model file of a network of the same architecture, or
            'pretrained:NAME' of `wrpn_tf.models.load_pretrained`, whose weights training starts
            from, float or quantized at any bit-widths; None starts from random weights. A narrower
            network is widened (`wrpn_tf.widen`), unless it is a model file.
        teacher: Workdir or model file of a float network for the same images and classes, or
            'pretrained:NAME', whose logits the network learns from beside the labels (Hinton et
            al. 2015); None for none.
        teacher_weight: Share of the loss against the teacher, 0 to 1.
        temperature: Divides both logits in the loss against the teacher.
        epochs: Passes over the training images, at least 1.
        batch_size: Images per step over all replicas; what does not fill a batch is left out of
            the epoch.
        optimizer: 'sgd' with Nesterov momentum 0.9, or 'adam'.
        learning_rate: Peak of the schedule, for batches of `reference_batch` images.
        reference_batch: The linear scaling rule (Goyal et al. 2017): the peak is `learning_rate`
            times `batch_size` / `reference_batch`. 0: it is `learning_rate` for every batch size.
        schedule: After a linear warm-up, per step: 'cosine' falls to 0; 'step' multiplies with
            `decay_factor` at each of `decay_epochs`.
        warmup_epochs: Length of the warm-up, 0 to `epochs`, may be a fraction.
        decay_epochs: Epochs after which the 'step' schedule decays, ascending.
        decay_factor: What it multiplies with.
        weight_decay: L2 penalty on kernels and PACT's clips (gradient += weight_decay * kernel), at
            least 0; decoupled from the gradient with 'adam' (Loshchilov and Hutter 2019).
        label_smoothing: Share of the label that is spread over all classes, 0 up to 1.
        clip_norm: Largest norm of all gradients together; 0 does not clip.
        ema: Momentum of the moving average of weights that is evaluated and saved; 0 for none.
        bn_images: Training images over which the statistics of batch normalization are taken anew
            after training; 0 leaves the moving averages.
        mixed_precision: Convolutions in 'bf16' or 'fp16'; quantizers, variables and the saved
            model stay in float32.
        keras: 2 for tf_keras and TF-MOT, 3 for Keras 3 on TensorFlow, which has one device
            and float32.
        shift: Training images move by up to this many pixels in each direction.
        flip: Training images are mirrored at random.
        color: Brightness, contrast and saturation change by factors of 1 - color to 1 + color.
        train_images: Use only the first so many training images; 0 means all.
        test_images: Use only the first so many test images; 0 means all.
        seed: Decides initial weights, image order and augmentation.
        deterministic: Only operations that give the same bits at every run; slower.
        strategy: Where it runs: on 'one' device, 'mirrored' on all of this machine, 'multiworker'
            on the machines of $TF_CONFIG, or on a 'tpu'.
        replicas: Of 'mirrored' where there are no GPUs: so many logical CPUs.
        packed_activations: The backward pass keeps activations as packed codes and computes what
            lies between again: less memory, the same training, see `wrpn_tf.pack_activations`.
        checkpoint_steps: Steps between checkpoints, beside those at the end of every epoch; 0:
            only those.
        log_steps: Steps between lines of `metrics.jsonl`.
    """

    workdir: str | os.PathLike[str]
    dataset: str
    arch: str
    data_dir: str | os.PathLike[str] | None = None
    image_size: int = 0
    width: float = 1.0
    wbits: int = 32
    abits: int = 32
    method: Method = "learned"
    weight_method: WeightMethod | None = None
    activation_method: ActivationMethod | None = None
    per_channel: bool = True
    first_last: FirstLast = "integer"
    rules: tuple[Rule, ...] = ()
    init_from: str | os.PathLike[str] | None = None
    teacher: str | os.PathLike[str] | None = None
    teacher_weight: float = 0.5
    temperature: float = 1.0
    epochs: int = 1
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    reference_batch: int = 0
    schedule: Schedule = "cosine"
    warmup_epochs: float = 0.5
    decay_epochs: tuple[int, ...] = ()
    decay_factor: float = 0.1
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    bn_images: int = 0
    mixed_precision: MixedPrecision = "none"
    keras: int = 2
    shift: int = 0
    flip: bool = False
    color: float = 0.0
    train_images: int = 0
    test_images: int = 0
    seed: int = 0
    deterministic: bool = False
    strategy: Strategy = "one"
    replicas: int = 0
    packed_activations: bool = False
    checkpoint_steps: int = 0
    log_steps: int = 50

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            for accepts, text in filter(None, (_TYPES.get(field.type), CHECKS.get(field.name))):
                if not accepts(value):
                    raise UserError(f"{field.name} must be {text}, not {value!r}")
        if self.warmup_epochs > self.epochs:
            raise UserError(
                f"warmup_epochs ({self.warmup_epochs}) must not exceed epochs ({self.epochs})"
            )
        if self.rules and not self.quantized:
            raise UserError(
                "rules, wbits and abits are all 32, which quantizes nothing; give one 1 to 8"
            )
        if self.packed_activations and not self.observes:
            raise UserError(
                "packed_activations needs quantized activations, and abits is 32; set it to 1 to 8"
            )
        if self.keras == 3:
            for name, only in _ONLY_OF_KERAS_3.items():
                if getattr(self, name) != only:
                    raise UserError(
                        f"--keras=3 trains with --{name}={only} alone, not {getattr(self, name)}; "
                        "give --keras=2"
                    )
        is_jpegs = self.dataset == jpegs.NAME
        for name in ARRAY_FIELDS if is_jpegs else JPEG_FIELDS:
            if getattr(self, name):
                raise UserError(f"{name} has no effect on {self.dataset}; leave it out")
        if is_jpegs and not self.image_size:
            raise UserError(f"{self.dataset} needs an image_size; 224 is usual")
        if self.schedule == "step" and not self.decay_epochs:
            raise UserError("schedule step needs decay_epochs, the epochs after which it decays")
        if self.ema and not self.bn_images:
            raise UserError(
                "ema averages weights, so it needs bn_images to take the statistics of batch "
                "normalization for the average"
            )

    @property
    def front(self) -> Front:
        """The Keras that everything of the training is of."""
        return "keras" if self.keras == 3 else "tf_keras"

    @property
    def quantized(self) -> bool:
        """Whether anything is quantized: with all widths at 32 the network stays float."""
        return min(self._weight_bits + self._activation_bits) != 32

    @property
    def observes(self) -> bool:
        """Whether outputs are quantized, so that their scales need a look at images."""
        activations = min(self._activation_bits) != 32
        return self.quantized and (activations or self.first_last == "integer")

    @property
    def deployable(self) -> bool:
        """Whether every layer has 8 bits or less, those too that no rule names."""
        widest = max(self._weight_bits + self._activation_bits)
        return widest <= 8 and self.first_last == "integer"

    @property
    def _weight_bits(self) -> list[int]:
        """All that layers may have, the first and the last by policy aside."""
        return [self.wbits] + [rule.weight_bits for rule in self.rules if rule.weight_bits]

    @property
    def _activation_bits(self) -> list[int]:
        return [self.abits] + [rule.activation_bits for rule in self.rules if rule.activation_bits]

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up, by the linear scaling rule."""
        return self.learning_rate * self.batch_size / (self.reference_batch or self.batch_size)

    def difference(self, recorded: Mapping[str, Any]) -> str | None:
        """What another training had otherwise that decides its result: `first_difference`."""
        values = {n: value for n, value in self.as_json().items() if n not in LOCATION_FIELDS}
        return first_difference(values, recorded)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Config":
        """The config that `as_json` gave.

        Raises:
            ValueError, TypeError: These are not the fields of a config.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        values["rules"] = tuple(map(Rule.from_json, fields.get("rules", ())))
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values; paths become strings, tuples lists, rules objects."""
        return {name: json_value(getattr(self, name)) for name in FIELD_DEFAULTS}


def first_difference(values: Mapping[str, Any], recorded: Mapping[str, Any]) -> str | None:
    """The first of some fields that a training had otherwise: '--wbits=2, not 4'.

    Folders that are moved stay the same: of networks to start and learn from the last name counts.

    Args:
        values: The fields, by name.
        recorded: The training's `as_json`, maybe of an earlier version with fewer fields.
    """
    for name, value in values.items():
        known, value = recorded.get(name, FIELD_DEFAULTS.get(name)), json_value(value)
        if name in REFERENCES and last_name(known) == last_name(value):
            continue
        if known != value:
            if name == "rules":
                return _rules_difference(known, value)
            return f"--{name}={known}, not {value}"
    return None


def _rules_difference(recorded: list[Any], rules: list[Any]) -> str:
    """The first rule that differs: '--rules whose rule 2 is none, not {...}'."""
    pairs = itertools.zip_longest(recorded, rules)
    number, pair = next((i, pair) for i, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
    one, other = ("none" if rule is None else json.dumps(rule) for rule in pair)
    return f"--rules whose rule {number} is {one}, not {other}"


def require_effect(config: Config, given: Iterable[str]) -> None:
    """Raises UserError for the first of some fields that has no effect beside the others.

    Decays that a training would not live to see are an error whoever has set them: with fewer
    epochs a recipe's learning rate would stay where it is.

    Args:
        config: The training.
        given: The fields that the user has set for it.
    """
    late = [str(epoch) for epoch in config.decay_epochs if epoch >= config.epochs]
    if config.schedule == "step" and late:
        raise UserError(
            f"--decay_epochs={','.join(late)} would come after the end with "
            f"--epochs={config.epochs}; give earlier ones, or --schedule=cosine"
        )
    for name in given:
        if name in _NEEDS:
            other, value = _NEEDS[name]
            found = getattr(config, other)
            if found != value:
                raise UserError(
                    f"--{name} has no effect with --{other}={found}; leave it out, or give "
                    f"--{other}={value}"
                )
        if name in ("teacher_weight", "temperature") and config.teacher is None:
            raise UserError(f"--{name} has no effect without --teacher; leave it out, or give one")


def last_name(place: Any) -> str | None:
    """What a path ends with: 'float' of 'runs/float/'."""
    return None if place is None else pathlib.PurePath(place).name


def pretrained_name(place: Any) -> str | None:
    """NAME, where the value of `init_from` or `teacher` is 'pretrained:NAME'; else None."""
    text = str(place)
    return text.removeprefix(_PRETRAINED) if text.startswith(_PRETRAINED) else None


def json_value(value: Any) -> Any:
    """A field's value as it is in JSON."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Rule):
        return value.as_json()
    return list(map(json_value, value)) if isinstance(value, tuple) else value


FIELD_DEFAULTS = {field.name: json_value(field.default) for field in dataclasses.fields(Config)}
"""What a record says of a field that is younger than the record."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Whether it is a float, or a whole number that has one."""
    return isinstance(value, float) or (_is_whole(value) and abs(value) <= sys.float_info.max)


def _is_place(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


_TYPES: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_is_whole, "a whole number"),
    float: (_is_number, "a number"),
    tuple[int, ...]: (
        lambda values: isinstance(values, tuple) and all(map(_is_whole, values)),
        "a list of whole numbers",
    ),
    tuple[Rule, ...]: (
        lambda rules: isinstance(rules, tuple) and all(isinstance(rule, Rule) for rule in rules),
        "a tuple of `wrpn_tf.Rule`",
    ),
    str | os.PathLike[str]: (_is_place, "a path"),
    str | os.PathLike[str] | None: (_is_place, "a path"),
}
"""By a field's type, where it is not one of `CHOICES`: what it accepts, and the same in words."""


def _is_bits(value: int) -> bool:
    return 1 <= value <= 8 or value == 32


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _is_share(value: float) -> bool:
    return 0 <= value < 1


def _is_ascending(epochs: tuple[int, ...]) -> bool:
    return list(epochs) == sorted({epoch for epoch in epochs if epoch >= 1})


def _one_of(choices: Iterable[str]) -> str:
    return "one of " + ", ".join(choices)


DATASETS = (*datasets.names(), jpegs.NAME)
CHOICES: dict[str, tuple[str, ...]] = {
    "dataset": DATASETS,
    "arch": tuple(models.ARCHITECTURES),
    "method": get_args(Method),
    "weight_method": get_args(WeightMethod),
    "activation_method": get_args(ActivationMethod),
    "first_last": get_args(FirstLast),
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "mixed_precision": get_args(MixedPrecision),
    "strategy": get_args(Strategy),
}
"""Per field that is one of a few words: the words."""

CHECKS = {
    "image_size": (lambda size: size == 0 or size >= 32, "at least 32, or 0"),
    "width": (lambda width: math.isfinite(width) and width >= 0.25, "at least 0.25"),
    "wbits": (_is_bits, "1 to 8, or 32 for float"),
    "abits": (_is_bits, "1 to 8, or 32 for float"),
    "teacher_weight": (lambda weight: 0 <= weight <= 1, "0 to 1"),
    "temperature": (_is_positive, "a positive number"),
    "epochs": (lambda epochs: epochs >= 1, "at least 1"),
    "batch_size": (lambda size: size >= 1, "at least 1"),
    "learning_rate": (_is_positive, "a positive number"),
    "reference_batch": (lambda size: size >= 0, "at least 0, where 0 does not scale"),
    "warmup_epochs": (lambda epochs: math.isfinite(epochs) and epochs >= 0, "at least 0"),
    "decay_epochs": (_is_ascending, "ascending epochs of at least 1"),
    "decay_factor": (lambda factor: 0 < factor <= 1, "above 0, at most 1"),
    "weight_decay": (lambda decay: math.isfinite(decay) and decay >= 0, "at least 0"),
    "label_smoothing": (_is_share, "at least 0, less than 1"),
    "clip_norm": (lambda norm: math.isfinite(norm) and norm >= 0, "at least 0, where 0 does not"),
    "ema": (_is_share, "at least 0, less than 1"),
    "bn_images": (lambda count: count >= 0, "at least 0"),
    "shift": (lambda pixels: pixels >= 0, "at least 0"),
    "color": (_is_share, "at least 0, less than 1"),
    "train_images": (lambda count: count >= 0, "at least 0, where 0 means all"),
    "test_images": (lambda count: count >= 0, "at least 0, where 0 means all"),
    "seed": (lambda seed: 0 <= seed < 2**31, "0 to 2**31 - 1"),
    "keras": ((2, 3).__contains__, "2 or 3"),
    "replicas": (lambda count: count >= 0, "at least 0"),
    "checkpoint_steps": (lambda steps: steps >= 0, "at least 0, where 0 is only every epoch's end"),
    "log_steps": (lambda steps: steps >= 1, "at least 1"),
} | {name: (words.__contains__, _one_of(words)) for name, words in CHOICES.items()}
"""Per field: what it accepts, and the same in words. Shared with the command line's flags."""
