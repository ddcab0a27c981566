"""The trainer on digits: what it leaves, that it resumes exactly, and what it refuses."""

import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console
from tensorflow.python.framework.config import is_op_determinism_enabled

import export
import wrpn_tf
from train import callbacks, finishing, networks, sources, trainer
from train.checkpoints import saved_steps
from train.config import Config, UserError, require_effect
from train.deployment import deploy
from train.losses import Student
from train.optimizers import learning_rate, make_optimizer
from train.record import Record
from wrpn_tf import datasets, models

BITS = [
    pytest.param({}, id="float"),
    pytest.param({"wbits": 2, "abits": 4}, id="w2a4"),
]
BOTH_KERAS = [*BITS, pytest.param({"wbits": 2, "abits": 4, "keras": 3}, id="w2a4, Keras 3")]


def config(workdir: pathlib.Path, **changes: Any) -> Config:
    base = Config(
        workdir=workdir,
        dataset="digits",
        arch="digits_cnn",
        width=0.5,
        epochs=2,
        batch_size=64,
        train_images=320,
        shift=1,
    )
    return dataclasses.replace(base, **changes)


def train(run: Config) -> dict[str, float]:
    return trainer.train(run, verbose=0)


Finished = Callable[..., pathlib.Path]


@pytest.fixture(name="finished", scope="module")
def finished_fixture(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Workdirs of finished trainings, each of which the tests that read it share."""
    workdirs: dict[str, pathlib.Path] = {}

    def finished(**options: Any) -> pathlib.Path:
        name = "-".join(f"{key}_{value}" for key, value in options.items()) or "float"
        if name not in workdirs:
            workdirs[name] = tmp_path_factory.mktemp(name)
            train(config(workdirs[name], **options))
        return workdirs[name]

    return finished


def saved_weights(workdir: pathlib.Path) -> list[np.ndarray]:
    return wrpn_tf.load_model(workdir).get_weights()


def assert_same_weights(left: pathlib.Path, right: pathlib.Path) -> None:
    for one, other in zip(saved_weights(left), saved_weights(right), strict=True):
        np.testing.assert_array_equal(one, other)


class Interrupted(Exception):
    """Stands for the end of the process."""


def test_deterministic_operations_end_with_their_training(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def evaluate(*_: Any) -> None:
        found.append(is_op_determinism_enabled())
        raise Interrupted

    monkeypatch.setattr(finishing, "evaluate", evaluate)
    for wanted in (True, False):
        with pytest.raises(Interrupted):
            train(config(tmp_path / str(wanted), epochs=1, deterministic=wanted))
    assert found == [True, False]


@pytest.fixture
def interrupt_at_step_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends a training of 5 steps an epoch in its second epoch, once."""

    def stop(self: Any, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self._step == 8:
            raise Interrupted

    monkeypatch.setattr(callbacks.StopOnNonFinite, "on_train_batch_end", stop)


@pytest.mark.parametrize("bits", BOTH_KERAS)
def test_it_leaves_a_model_and_a_record(finished: Finished, bits: dict[str, int]) -> None:
    workdir = finished(**bits)
    run = config(workdir, **bits)
    record = json.loads((workdir / "record.json").read_text())
    assert record["flags"] == run.as_json()
    assert [entry["epoch"] for entry in record["history"]] == [1, 2]
    schedule = learning_rate(run, 5)  # Of the last step of each epoch.
    expected = pytest.approx([float(schedule(4)), float(schedule(9))])
    assert [entry["learning_rate"] for entry in record["history"]] == expected
    assert record["dataset"]["class_names"] == list("0123456789")
    assert record["versions"]["tensorflow"]
    assert not list(workdir.rglob("*.partial.*"))

    data = datasets.load("digits")
    file = workdir / ("model.keras" if bits.get("keras") == 3 else "model.h5")
    model = wrpn_tf.load_model(file)
    logits = model.predict(data.normalize(data.test_images), batch_size=360, verbose=0)
    accuracy = (logits.argmax(-1) == data.test_labels).mean()
    assert accuracy == pytest.approx(record["metrics"]["test_accuracy"], abs=0.01)


@pytest.mark.parametrize("bits", BOTH_KERAS)
@pytest.mark.parametrize("checkpoint_steps", [0, 2])
def test_a_resumed_training_ends_with_the_same_weights(
    tmp_path: pathlib.Path,
    finished: Finished,
    interrupt_at_step_8: None,
    monkeypatch: pytest.MonkeyPatch,
    bits: dict[str, Any],
    checkpoint_steps: int,
) -> None:
    options = bits | {"checkpoint_steps": checkpoint_steps}
    with pytest.raises(Interrupted):
        train(config(tmp_path / "resumed", **options))
    assert not (tmp_path / "resumed" / "model.h5").exists()
    assert not (tmp_path / "resumed" / "model.keras").exists()
    assert saved_steps(tmp_path / "resumed" / "checkpoints")[0] == (6 if checkpoint_steps else 5)
    monkeypatch.undo()
    keras.backend.clear_session()
    train(config(tmp_path / "resumed", **options))
    assert_same_weights(tmp_path / "resumed", finished(**bits))
    record = json.loads((tmp_path / "resumed" / "record.json").read_text())
    assert [entry["epoch"] for entry in record["history"]] == [1, 2]


def test_an_epoch_whose_validation_was_interrupted_is_in_the_record(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its last step is one of those that are saved."""

    def stop(self: Any, logs: Any = None) -> None:
        raise Interrupted

    monkeypatch.setattr(callbacks.StopOnNonFinite, "on_test_begin", stop)
    run = config(tmp_path / "run", checkpoint_steps=5)
    with pytest.raises(Interrupted):
        train(run)
    monkeypatch.undo()
    train(run)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert [entry["epoch"] for entry in record["history"]] == [1, 2]


def test_a_resumed_training_is_where_its_last_call_says(tmp_path: pathlib.Path) -> None:
    data = datasets.load("digits")
    for place in ("old", "new"):
        starts = {"data_dir": place, "init_from": f"{place}/float/"}
        Record.open(config(tmp_path / "run", **starts)).resume(0, data)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["flags"]["data_dir"] == record["dataset"]["data_dir"] == "new"
    with pytest.raises(UserError, match=r"--init_from=old/float/, not old/other; give"):
        Record.open(config(tmp_path / "run", init_from="old/other"))


def test_a_finished_training_is_left_alone(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = train(config(tmp_path, epochs=1))
    assert json.loads((tmp_path / "record.json").read_text())["metrics"] == metrics
    before = (tmp_path / "model.h5").stat().st_mtime_ns
    assert train(config(tmp_path, epochs=1)) == metrics
    assert (tmp_path / "model.h5").stat().st_mtime_ns == before
    assert "nothing to do" in capsys.readouterr().out


def test_another_flag_in_the_same_workdir(finished: Finished) -> None:
    with pytest.raises(UserError, match=r"--learning_rate=0\.1, not 0\.2"):
        train(config(finished(epochs=1), epochs=1, learning_rate=0.2))


@pytest.mark.parametrize("bits", BITS)
def test_init_from_a_float_network(
    tmp_path: pathlib.Path, finished: Finished, bits: dict[str, int]
) -> None:
    train(config(tmp_path, init_from=finished(), epochs=1, learning_rate=1e-9, **bits))
    before = wrpn_tf.load_model(finished()).get_layer("conv1").kernel.numpy()
    after = [
        weight.numpy()
        for weight in wrpn_tf.load_model(tmp_path).weights
        if weight.shape == before.shape
    ]
    assert any(np.allclose(weight, before, atol=1e-6) for weight in after)


def test_a_quantized_network_starts_one_of_fewer_bits(tmp_path: pathlib.Path) -> None:
    train(config(tmp_path / "8", epochs=1, wbits=8, abits=8))
    train(
        config(
            tmp_path / "2", epochs=1, wbits=2, abits=4, init_from=tmp_path / "8", learning_rate=1e-9
        )
    )
    before, after = (
        {v.name: v.numpy() for v in wrpn_tf.load_model(tmp_path / bits / "model.h5").weights}
        for bits in ("8", "2")
    )
    kernels = [name for name in before if name.endswith("kernel:0")]
    assert len(kernels) == 5
    for name in kernels:
        np.testing.assert_allclose(after[name], before[name], atol=1e-6)
    low, high = (
        after["quant_conv2_pointwise/kernel_scale:0"],
        before["quant_conv2_pointwise/kernel_scale:0"],
    )
    assert (low > 10 * high).all()  # 1 level in the place of 127, fitted anew.


def test_a_narrow_network_is_widened_to_start_a_wide_one(
    tmp_path: pathlib.Path, finished: Finished
) -> None:
    options = {"width": 1.0, "epochs": 1, "learning_rate": 1e-9, "wbits": 4, "abits": 4}
    train(config(tmp_path, init_from=finished(epochs=1), **options))
    narrow, wide = (
        {v.name.removeprefix("quant_"): v.numpy() for v in wrpn_tf.load_model(workdir).weights}
        for workdir in (finished(epochs=1), tmp_path)
    )
    first, last = narrow["conv1/kernel:0"], narrow["logits/kernel:0"]
    np.testing.assert_allclose(wide["conv1/kernel:0"], np.repeat(first, 2, axis=-1), atol=1e-6)
    shares = wide["logits/kernel:0"].reshape(-1, 2, 10)
    np.testing.assert_allclose(shares.sum(axis=1), last, atol=1e-6)
    assert not np.allclose(shares[:, 0], shares[:, 1])


def saved_untrained(run: Config, data: datasets.Dataset) -> Any:
    """Leaves the workdir of a training that has not changed its network; returns that."""
    shape = data.image_shape
    model = models.build(
        run.arch, width=run.width, num_classes=10, input_shape=shape, front="tf_keras"
    )
    Record.open(run).resume(0, data)
    finishing.save_model(model, wrpn_tf.trained_file(run.workdir, run.front))
    return model


def test_a_width_that_was_rounded_starts_a_wider_network(tmp_path: pathlib.Path) -> None:
    data = datasets.load("digits")
    narrow = saved_untrained(config(tmp_path / "narrow", width=1.3), data)
    run = config(tmp_path / "wide", width=2.0, init_from=tmp_path / "narrow")
    wide = networks.build(run, sources.ArraySource(run, data), starts=True)
    images = data.normalize(data.test_images[:8])
    np.testing.assert_allclose(wide(images), narrow(images), atol=1e-5)


def test_a_network_that_widening_cannot_give_its_layers_is_named(tmp_path: pathlib.Path) -> None:
    data = datasets.load("digits")
    saved_untrained(config(tmp_path / "narrow", arch="resnet18"), data)
    start = {"init_from": tmp_path / "narrow", "width": 1.25}
    run = config(tmp_path / "wide", arch="resnet18", **start)
    with pytest.raises(UserError, match=r"init_from: .*narrow is narrower.*'stage1_block1_short"):
        networks.build(run, sources.ArraySource(run, data), starts=True)


def test_a_training_of_keras_3_starts_and_learns_from_one_of_tf_keras_and_is_exported(
    tmp_path: pathlib.Path, finished: Finished
) -> None:
    start = {"init_from": finished(epochs=1), "teacher": finished(epochs=1)}
    run = config(tmp_path, epochs=1, keras=3, wbits=2, abits=4, learning_rate=1e-9)
    metrics = train(dataclasses.replace(run, **start))
    before = wrpn_tf.load_model(finished(epochs=1)).get_layer("conv1").kernel.numpy()
    model = wrpn_tf.load_model(tmp_path)
    assert type(model).__module__ == "wrpn_tf.keras3.model"
    np.testing.assert_allclose(model.get_layer("conv1").layer.kernel, before, atol=1e-6)
    deployment = deploy(tmp_path, images=20, console=Console(quiet=True))
    assert deployment is not None
    verified = deployment.verification
    assert verified.accuracy is not None
    assert verified.accuracy.device == pytest.approx(metrics["test_accuracy"], abs=1e-6)
    assert verified.different == 0


def test_where_rules_leave_nothing_in_float_the_network_is_settled_and_exported(
    tmp_path: pathlib.Path,
) -> None:
    rules = tuple(
        wrpn_tf.Rule(layer_class=kind, weight_bits=4, activation_bits=4)
        for kind in ("Conv2D", "DepthwiseConv2D", "Dense", "ReLU")
    )
    quiet = Console(quiet=True)
    for name, few in (("all", rules), ("some", rules[:2])):
        run = config(tmp_path / name, epochs=1, rules=few)
        assert not run.deployable
        train(run)
    deployment = deploy(tmp_path / "all", images=20, console=quiet)
    assert deployment is not None and deployment.verification.different == 0
    settled = wrpn_tf.load_model(tmp_path / "all")
    export.settle(settled)
    for one, other in zip(saved_weights(tmp_path / "all"), settled.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert deploy(tmp_path / "some", images=20, console=quiet) is None
    assert not (tmp_path / "some" / "model.tflite").exists()


def test_rules_do_not_hide_that_a_network_diverged(tmp_path: pathlib.Path) -> None:
    run = config(tmp_path, rules=(wrpn_tf.Rule(layer_class="Conv2D", weight_bits=4),))
    source = sources.load(run)
    model = networks.build(run, source, starts=False)
    assert not finishing.is_integer_only(model, run)
    name, (_, kernel, _) = next(iter(wrpn_tf.named_kernel_quantizers(model).items()))
    kernel.assign(np.full_like(kernel, np.nan))
    with pytest.raises(UserError, match=rf"no integer form: .*NaN or infinite: {name}\."):
        finishing.finish(model, dataclasses.replace(run, bn_images=0), source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "mirrored"}, "--keras=3 trains with --strategy=one alone, not mirrored"),
        ({"mixed_precision": "bf16"}, "with --mixed_precision=none alone, not bf16"),
        ({"keras": 4}, "keras must be 2 or 3, not 4"),
    ],
)
def test_what_keras_3_trains_without(
    tmp_path: pathlib.Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        config(tmp_path, **{"keras": 3} | change)


def test_init_from_names_the_first_layer_that_differs(
    tmp_path: pathlib.Path, finished: Finished
) -> None:
    with pytest.raises(UserError, match=r"conv1/kernel:0 of .*\[3, 3, 1, 8\]"):
        train(config(tmp_path / "narrow", init_from=finished(epochs=1), width=0.25))
    with pytest.raises(UserError, match="not a resnet8; it has no layer"):
        train(config(tmp_path / "other", init_from=finished(epochs=1), arch="resnet8"))
    with pytest.raises(UserError, match="there is no model at"):
        train(config(tmp_path / "none", init_from=tmp_path / "nowhere"))


def test_decay_is_for_kernels_only(tmp_path: pathlib.Path) -> None:
    run = config(tmp_path)
    model = models.build("digits_cnn", num_classes=10, input_shape=(8, 8, 1), front="tf_keras")
    optimizer = make_optimizer(run, model, steps=10)
    decayed = {v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {
        "conv1/kernel:0",
        "conv2_depthwise/depthwise_kernel:0",
        "conv2_pointwise/kernel:0",
        "conv3/kernel:0",
        "logits/kernel:0",
    }


def test_decay_is_for_learned_clips_too(tmp_path: pathlib.Path) -> None:
    network = models.build("digits_cnn", num_classes=10, input_shape=(8, 8, 1), front="tf_keras")
    model = wrpn_tf.quantize_model(network, 2, 4, activation_method="pact")
    optimizer = make_optimizer(config(tmp_path), model, steps=10)
    decayed = {
        v.name.split("/")[-1] for v in model.trainable_variables if optimizer._use_weight_decay(v)
    }
    assert decayed == {"kernel:0", "depthwise_kernel:0", "output_clip:0"}


def test_a_diverging_training_stops(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"the loss is .* Try a smaller learning_rate"):
        train(config(tmp_path, learning_rate=1e30, warmup_epochs=0.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wbits": 9}, "wbits must be 1 to 8, or 32 for float, not 9"),
        ({"arch": "vgg"}, "arch must be one of digits_cnn"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"wbits": 0}, "wbits must be 1 to 8, or 32 for float, not 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0, less than 1"),
        ({"decay_factor": 0.0}, "decay_factor must be above 0"),
        ({"decay_epochs": (0, 1)}, "decay_epochs must be ascending epochs of at least 1"),
        ({"decay_epochs": (2, 1)}, "decay_epochs must be ascending"),
        ({"ema": 0.5}, "so it needs bn_images"),
        ({"dataset": "imagenet2012", "shift": 1}, "shift has no effect on imagenet2012"),
        ({"warmup_epochs": 3.0}, "must not exceed epochs"),
        ({"flip": "false"}, "flip must be true or false, not 'false'"),
        ({"epochs": None}, "epochs must be a whole number, not None"),
        ({"seed": True}, "seed must be a whole number, not True"),
        ({"width": "2"}, "width must be a number, not '2'"),
        ({"learning_rate": 10**400}, "learning_rate must be a number, not 1000"),
        ({"decay_epochs": 30}, "decay_epochs must be a list of whole numbers, not 30"),
        ({"init_from": 3}, "init_from must be a path, not 3"),
        ({"method": None}, "method must be one of learned"),
    ],
)
def test_config_errors(tmp_path: pathlib.Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(tmp_path, **change)


def test_what_a_config_may_be(tmp_path: pathlib.Path) -> None:
    config(tmp_path, epochs=2, warmup_epochs=2.0, decay_factor=1.0, teacher_weight=1.0)
    config(tmp_path, schedule="step", decay_epochs=(1, 2), teacher_weight=0.0)
    widest = config(tmp_path, wbits=8, abits=8)
    assert widest.deployable and not dataclasses.replace(widest, first_last="paper").deployable
    weights = config(tmp_path, wbits=8, abits=32)
    assert weights.observes and not dataclasses.replace(weights, first_last="paper").observes


@pytest.mark.parametrize(
    ("teacher", "other", "difference"),
    [
        ("runs/float/", "moved/float", None),
        ("runs/float", "runs/b", "--teacher=runs/b, not runs/f"),
    ],
)
def test_networks_to_learn_from_may_be_moved(
    tmp_path: pathlib.Path, teacher: str, other: str, difference: str | None
) -> None:
    recorded = config(tmp_path, teacher=other).as_json()
    found = config(tmp_path, teacher=teacher).difference(recorded)
    assert found is None if difference is None else found.startswith(difference)


@pytest.mark.parametrize("name", ["teacher_weight", "temperature"])
def test_what_is_of_a_teacher_needs_one(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} has no effect without --teacher"):
        require_effect(config(tmp_path), [name])
    require_effect(config(tmp_path, teacher="float"), [name])


def test_a_batch_larger_than_the_data(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"batch_size \(64\) must not exceed .* \(10\)"):
        train(config(tmp_path, train_images=10))


def test_a_user_error_on_the_command_line_is_one_sentence(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "train.cifar10", "--data_dir", str(tmp_path)]
    done = subprocess.run(
        [*command, "--workdir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 1
    assert "error: data set 'cifar10' is not prepared: nothing at" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("keras", [2, 3])
def test_packed_activations_train_the_same_network(keras: int, tmp_path: pathlib.Path) -> None:
    """A resumed training may have them where the first part did not: they are no other training."""
    changes = {"wbits": 2, "abits": 4, "epochs": 1, "keras": keras}
    for name, packed in (("ordinary", False), ("packed", True)):
        train(config(tmp_path / name, packed_activations=packed, **changes))
    assert_same_weights(tmp_path / "ordinary", tmp_path / "packed")


def test_a_student_packs_its_activations(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = models.build("digits_cnn", num_classes=10, input_shape=(8, 8, 1), front="keras")
    network.save(tmp_path / "teacher.keras")
    packed = []

    def pack(model: keras.Model) -> None:
        packed.append(model)
        raise Interrupted

    monkeypatch.setattr(wrpn_tf, "pack_activations", pack)
    run = config(tmp_path / "run", wbits=2, abits=4, packed_activations=True, keras=3)
    with pytest.raises(Interrupted):
        train(dataclasses.replace(run, teacher=tmp_path / "teacher.keras"))
    assert [isinstance(model, Student) for model in packed] == [True]


def test_packed_activations_need_quantized_ones(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"packed_activations needs .* abits is 32"):
        config(tmp_path, packed_activations=True)


def test_a_workdir_that_is_a_file_is_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for workdir in (file, file / "below"):
        with pytest.raises(UserError, match=rf"--workdir={workdir} cannot be a folder: {file} is"):
            train(config(workdir))


def test_a_training_that_does_not_begin_leaves_no_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError):
        train(config(tmp_path / "new" / "deep", dataset="cifar10", data_dir=tmp_path / "none"))
    assert not list(tmp_path.iterdir())
    kept = tmp_path / "kept"
    kept.mkdir()
    with pytest.raises(UserError):
        train(config(kept / "new", dataset="cifar10", data_dir=tmp_path / "none"))
    assert kept.is_dir() and not list(kept.iterdir())
