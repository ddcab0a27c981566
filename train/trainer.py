"""The one trainer: read `train` from top to bottom."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.framework import config as determinism

import wrpn_tf
from train import callbacks, finishing, networks, sources, strategies
from train.checkpoints import Checkpoints, saved_steps
from train.config import Config, UserError
from train.lock import locked
from train.losses import LabelLoss, Student
from train.optimizers import make_optimizer
from train.precision import use_mixed_precision
from train.record import Record
from wrpn_tf.files import require_writable
from wrpn_tf.models.namespaces import keras_named


def train(config: Config, *, verbose: int | str = "auto") -> dict[str, float]:
    """Trains, evaluates and saves one network; resumes what an earlier call left unfinished.

    Leaves in `config.workdir`: `model.h5`, with Keras 3 `model.keras` (for `wrpn_tf.load_model`),
    `record.json` (see `train.record`), `metrics.jsonl`, `checkpoints/` and TensorBoard's `logs/`.

    Args:
        config: The training. A workdir belongs to one config: all fields but its locations must
            be those of the calls before.
        verbose: Progress: 0 none, 1 a bar, 2 a line per epoch; 'auto' is a bar on a terminal and
            lines elsewhere.

    Returns:
        'test_accuracy' in [0, 1], 'test_loss' and 'train_seconds'. A finished training returns
        its recorded metrics at once. Of several workers all but the chief return nothing.

    Raises:
        UserError: The config does not fit the machine, the workdir, the data or the networks to
            start or learn from; the loss is no longer finite; too many images are corrupt; or
            another process trains in the workdir.
        WriteError: A file cannot be written.
    """
    finished = _finished(Record.open(config))
    if finished:
        return finished
    strategy = strategies.connect(config)
    with _operations(config):
        if not strategies.is_chief(strategy):
            return _train(config, Record.open(config), strategy, verbose)
        require_writable(pathlib.Path(config.workdir) / "record.json")
        with locked(config.workdir):
            record = Record.open(config)  # Another process may have written it since.
            return _finished(record) or _train(config, record, strategy, verbose)


@contextlib.contextmanager
def _operations(config: Config) -> Iterator[None]:
    """Has deterministic operations for a training that wants them, and not for the next one."""
    if not config.deterministic or determinism.is_op_determinism_enabled():
        yield
        return
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        determinism.disable_op_determinism()  # TensorFlow has no public way.


def _finished(record: Record) -> dict[str, float] | None:
    """The metrics of a finished training."""
    if record.metrics is not None:
        print(f"{record.path} records a finished training; nothing to do.")
    return record.metrics


def _train(
    config: Config, record: Record, strategy: tf.distribute.Strategy, verbose: int | str
) -> dict[str, float]:
    """`train` in a workdir that no other process writes."""
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    keras = keras_named(config.front)
    keras.utils.set_random_seed(config.seed)
    if config.keras == 2:
        keras.backend.experimental.enable_tf_random_generator()  # Its state is in checkpoints.
    elif keras.backend.backend() != "tensorflow":
        raise UserError(
            f"training programs run on TensorFlow, and Keras's backend is "
            f"{keras.backend.backend()}; set KERAS_BACKEND=tensorflow, or train with model.fit"
        )
    is_chief = strategies.is_chief(strategy)
    source = sources.load(config)
    steps = source.train_size // config.batch_size
    folder = pathlib.Path(config.workdir) / "checkpoints"

    # The last checkpoint is resumed if there is one; else a given float network is the start;
    # else the random weights are. Building is the same in each case, quantizers need calibration
    # only where no checkpoint holds their state. The plain network, on one device and in float32,
    # is what a training starts with, what is looked at in between and what is saved.
    starts = not saved_steps(folder)
    plain = networks.build(config, source, starts=starts)
    with strategy.scope():
        network = networks.build(config, source, starts=False)
        if starts:
            network.set_weights(plain.get_weights())
        use_mixed_precision(network, config.mixed_precision)
        strategies.synchronize(network, strategy)
        teacher = networks.load_teacher(config, source.data)
        model = network if teacher is None else Student.of(network, teacher, config)
        if config.packed_activations:
            wrpn_tf.pack_activations(model)
        model.compile(
            optimizer=make_optimizer(config, network, steps),
            loss=LabelLoss(config.label_smoothing).call,
            weighted_metrics=["accuracy"],
            jit_compile=False,  # XLA makes the step slower on CPU.
        )
        # Metrics are the same on all replicas; tf_keras would add those of several workers.
        model.distribute_reduction_method = "first"
        checkpoints = Checkpoints(
            network,
            model.optimizer,
            folder,
            config=config,
            every=config.checkpoint_steps,
            epoch_steps=steps,
            is_chief=is_chief,
        )

    checkpoints.require_space()

    # One call of `fit` for the rest of an interrupted epoch, one for all whole epochs.
    step = checkpoints.restore()
    if step:
        print(f"Resuming {config.workdir} after step {step} of {config.epochs * steps}.")
    record.resume(step // steps, source.data, writes=is_chief)
    while step < config.epochs * steps:
        epoch, done = divmod(step, steps)
        observers = callbacks.observers(
            config, record, network, plain, source, step, steps, is_chief=is_chief, verbose=verbose
        )
        with callbacks.terminal_restored(observers):
            model.fit(
                strategies.distribute(strategy, source.training(step, config.epochs)),
                steps_per_epoch=steps - done,
                initial_epoch=epoch,
                epochs=epoch + 1 if done else config.epochs,
                validation_data=strategies.distribute(strategy, source.test()),
                validation_steps=source.test_steps(strategy.num_replicas_in_sync),
                verbose=0,
                shuffle=False,  # Datasets have an order of their own.
                # Records come before the checkpoint: they may be ahead of it, never behind.
                callbacks=[*observers, checkpoints],
            )
        step = checkpoints.restore()

    if config.ema:
        model.optimizer.finalize_variable_values(network.trainable_variables)
    plain.set_weights(network.get_weights())
    if not is_chief:
        return {}
    finishing.finish(plain, config, source)
    metrics = finishing.evaluate(plain, source)
    finishing.save_model(plain, wrpn_tf.trained_file(config.workdir, config.front))
    return record.finish(**metrics)
