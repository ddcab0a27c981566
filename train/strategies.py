"""Where a training runs: the `tf.distribute` strategies by name."""

import json
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from train.config import Config, UserError

WORKER_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
"""What TensorFlow raises in a worker when another one is gone."""


def connect(config: Config) -> tf.distribute.Strategy:
    """Creates the strategy of a training; call it before any other operation of TensorFlow.

    'multiworker' waits for all machines of $TF_CONFIG.

    Raises:
        UserError: The devices are not there, or the replicas cannot share `config.batch_size`.
    """
    strategy = _STRATEGIES[config.strategy](config)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise UserError(
            f"batch_size ({config.batch_size}) must be divisible by the {replicas} replicas of "
            f"strategy {config.strategy}"
        )
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the workdir: the chief, or else the first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type != "worker" or not resolver.task_id


def synchronize(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Lets batch normalization see the whole batch of a step, as it does on one device."""
    if strategy.num_replicas_in_sync == 1:
        return
    for layer in model.layers:
        layer = getattr(layer, "layer", layer)  # Within a wrapper.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized, layer.fused = True, False


def distribute(
    strategy: tf.distribute.Strategy,
    batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
) -> Any:
    """Gives each process the batches of its own reader, which `batches` makes."""
    return strategy.distribute_datasets_from_function(batches)


def _one(config: Config) -> tf.distribute.Strategy:
    return tf.distribute.get_strategy()


def _mirrored(config: Config) -> tf.distribute.Strategy:
    """All GPUs; without any, `config.replicas` logical CPUs."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and config.replicas in (0, len(gpus)):
        return tf.distribute.MirroredStrategy()
    if gpus or config.replicas < 2:
        raise UserError(
            f"strategy mirrored: this machine has {len(gpus)} GPUs, replicas is {config.replicas}; "
            "without GPUs, --replicas=2 or more makes logical CPUs"
        )
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration() for _ in range(config.replicas)]
    tf.config.set_logical_device_configuration(cpu, logical)
    return tf.distribute.MirroredStrategy(tf.config.list_logical_devices("CPU"))


def _multiworker(config: Config) -> tf.distribute.Strategy:
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster, task = json.loads(text)["cluster"], json.loads(text)["task"]
        address = cluster[task["type"]][task["index"]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            "strategy multiworker needs the environment variable TF_CONFIG with this machine's "
            'place in the cluster, as in {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": '
            f'{{"type": "worker", "index": 0}}}}; it is {text!r}'
        ) from error
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.UnknownError as error:
        raise UserError(
            f"cannot listen on port {address.rpartition(':')[2]}, this worker's in TF_CONFIG "
            f"({error.message}); another program may have it"
        ) from error


def _tpu(config: Config) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(
            os.environ.get("TPU_NAME", "")
        )
    except (ValueError, tf.errors.OpError, RuntimeError) as error:
        raise UserError(
            "strategy tpu: there is no TPU here, and none named by the environment variable "
            f"TPU_NAME ({error})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


_STRATEGIES: dict[str, Callable[[Config], tf.distribute.Strategy]] = {
    "one": _one,
    "mirrored": _mirrored,
    "multiworker": _multiworker,
    "tpu": _tpu,
}
