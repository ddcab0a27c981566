"""Optimizers and learning rate schedules."""

import re
from typing import Any

import tensorflow as tf

from train.config import Config
from wrpn_tf.models.namespaces import keras_named

_MOMENTUM = 0.9
# kernel, depthwise_kernel; of the quantizers' variables PACT's clip, which needs a decay.
_DECAYS = re.compile(r"(kernel|output_clip)(:\d+)?$")


def learning_rate(config: Config, steps: int) -> Any:
    """The schedule of Keras over the training's steps, `steps` an epoch."""
    schedules = keras_named(config.front).optimizers.schedules
    peak, warmup_steps = config.peak_learning_rate, round(config.warmup_epochs * steps)
    if config.schedule == "cosine":
        return schedules.CosineDecay(
            0.0 if warmup_steps else peak,
            decay_steps=max(1, config.epochs * steps - warmup_steps),
            warmup_target=peak if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    decays = [peak * config.decay_factor**i for i in range(len(config.decay_epochs) + 1)]
    # PiecewiseConstantDecay keeps a value up to and with its boundary.
    boundaries = [epoch * steps - 1 for epoch in config.decay_epochs]
    schedule = schedules.PiecewiseConstantDecay(boundaries, decays)
    if not warmup_steps:
        return schedule
    # Each Keras takes schedules of its own class only.
    warm_up = type("WarmUp", (_WarmUp, schedules.LearningRateSchedule), {})
    return warm_up(schedule, warmup_steps)


class _WarmUp:
    """A schedule that rises linearly from 0 over its first steps."""

    def __init__(self, schedule: Any, steps: int) -> None:
        self._schedule = schedule
        self._steps = steps

    def __call__(self, step):
        """See the class."""
        share = tf.cast(step, tf.float32) / self._steps
        return self._schedule(step) * tf.minimum(share, 1.0)

    def get_config(self):
        """The arguments."""
        return {"schedule": self._schedule, "steps": self._steps}


def make_optimizer(config: Config, model: Any, steps: int) -> Any:
    """The optimizer of a model's trainable variables, built; decay is on kernels and PACT's clips.

    Keras subtracts its decay from the kernel beside the gradient, so that SGD's momentum does
    not amplify it; 1 / (1 - momentum) makes it as strong as the L2 penalty that papers quote.
    """
    keras = keras_named(config.front)
    options = {
        "learning_rate": learning_rate(config, steps),
        "global_clipnorm": config.clip_norm or None,
        "use_ema": config.ema > 0,
        "ema_momentum": config.ema or 0.99,
    }
    if config.keras == 2:
        options["jit_compile"] = False  # XLA makes the step slower on CPU.
    if config.optimizer == "adam":
        made = keras.optimizers.Adam(weight_decay=config.weight_decay or None, **options)
    else:
        made = keras.optimizers.SGD(
            momentum=_MOMENTUM,
            nesterov=True,
            weight_decay=config.weight_decay / (1 - _MOMENTUM) or None,
            **options,
        )
    variables = model.trainable_variables
    made.exclude_from_weight_decay([v for v in variables if not _DECAYS.search(v.name)])
    if config.mixed_precision == "fp16":
        made = keras.mixed_precision.LossScaleOptimizer(made)
    made.build(variables)
    return made
