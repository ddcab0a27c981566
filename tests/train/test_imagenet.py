"""ImageNet's program on a tiny folder of JPEG files."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import jpeg_folders
import numpy as np
import pytest
import tensorflow as tf
from real_data import DATA, needs

import wrpn_tf
from train import callbacks, deployment, finishing, flags, imagenet, jpeg_input
from train import trainer as trainer_module
from train.checkpoints import saved_steps
from train.config import Config, UserError
from train.data import to_real
from train.experiments import experiments, reported
from wrpn_tf import command_line, jpegs, paper
from wrpn_tf.files import WriteError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return jpeg_folders.write(tmp_path_factory.mktemp("jpegs"))


@pytest.fixture(scope="module")
def finished(folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A finished training of 8 steps an epoch, two epochs."""
    run = config(folder, tmp_path_factory.mktemp("run"))
    trainer_module.train(run, verbose=0)
    return run


def config(folder: pathlib.Path, workdir: pathlib.Path, **changes: Any) -> Config:
    base = Config(
        workdir=workdir,
        dataset=jpegs.NAME,
        data_dir=folder,
        arch="digits_cnn",
        width=0.5,
        wbits=2,
        abits=4,
        image_size=32,
        epochs=2,
        batch_size=8,
        bn_images=16,
        flip=True,
        color=0.4,
        checkpoint_steps=3,
        log_steps=1,
    )
    return dataclasses.replace(base, **changes)


def batches(data: jpegs.JpegDataset, **options: Any) -> list[tuple[np.ndarray, ...]]:
    corrupt = options.pop("corrupt", jpeg_input.CorruptImages(1000))
    made = jpeg_input.training_batches(
        data, corrupt, batch_size=8, epochs=2, flip=True, color=0.4, **options
    )
    return list(made.as_numpy_iterator())


def test_batches_do_not_depend_on_where_training_began(folder: pathlib.Path) -> None:
    data = jpegs.load_jpegs(folder, 32)
    whole = batches(data)
    assert len(whole) == 16
    for left, right in zip(whole[11:], batches(data, first_step=11), strict=True):
        for one, other in zip(left, right, strict=True):
            np.testing.assert_array_equal(one, other)
    assert {image.shape for image, *_ in whole} == {(8, 32, 32, 3)}
    lowest, highest = data.input_range
    assert all(lowest <= image.min() <= image.max() <= highest for image, *_ in whole)


def test_two_readers_share_the_batch_of_each_step(folder: pathlib.Path) -> None:
    data = jpegs.load_jpegs(folder, 32)
    parts = [batches(data, reader=tf.distribute.InputContext(2, index, 2)) for index in range(2)]
    for whole, one, other in zip(batches(data), *parts, strict=True):
        together = np.concatenate([one[0], other[0]])
        assert sorted(map(bytes, together)) == sorted(map(bytes, whole[0]))


def test_a_corrupt_image_has_weight_0_and_moves_no_other(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(folder, tmp_path / "data")
    victim = sorted((tmp_path / "data" / "train").rglob("*.JPEG"))[5]
    victim.write_bytes(victim.read_bytes()[:300])
    corrupt = jpeg_input.CorruptImages(1000)
    damaged = batches(jpegs.load_jpegs(tmp_path / "data", 32), corrupt=corrupt)
    whole = batches(jpegs.load_jpegs(folder, 32))
    assert corrupt.names == {str(victim)}
    corrupt.check()
    seen = 0
    for left, right in zip(whole, damaged, strict=True):
        np.testing.assert_array_equal(left[1], right[1])
        good = right[2] == 1
        seen += int((~good).sum())
        np.testing.assert_array_equal(left[0][good], right[0][good])
    assert seen == 2  # Once an epoch.
    with pytest.raises(UserError, match=rf"1 of 72 images are not readable.*{victim.name}"):
        too_many = jpeg_input.CorruptImages(72)
        too_many.add(str(victim).encode())
        too_many.check()


def test_a_training_is_evaluated_exported_and_verified(finished: Config) -> None:
    workdir = pathlib.Path(finished.workdir)
    metrics = finishing.evaluate_workdir(workdir, None)
    recorded = json.loads((workdir / "record.json").read_text())
    assert metrics["test_accuracy"] == recorded["metrics"]["test_accuracy"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 17))
    deployment.deploy(workdir, images=50, console=imagenet.Console(quiet=True))
    assert (workdir / "model.tflite").stat().st_size > 1000


def test_pixels_become_real_values_through_colors_that_do_not_change(
    folder: pathlib.Path,
) -> None:
    data = jpegs.load_jpegs(folder, 32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = (pixels.astype(np.float32) - data.zero_point) * data.scale
    np.testing.assert_array_equal(to_real(data, pixels), expected)
    same = jpeg_input.change_colors(data, tf.constant(pixels), tf.ones([2, 3]))
    np.testing.assert_array_equal(same, expected)
    grey = jpeg_input.change_colors(data, tf.constant(pixels), tf.constant([[1.0, 1.0, 0.0]] * 2))
    assert np.ptp(grey, axis=-1).max() < 1e-5
    dark = jpeg_input.change_colors(data, tf.constant(pixels), tf.constant([[0.0, 1.0, 1.0]] * 2))
    np.testing.assert_array_equal(dark, np.full_like(expected, data.input_range[0]))


def test_a_checkpoint_is_evaluated_where_there_is_no_model(
    finished: Config, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(finished.workdir, tmp_path / "run")
    (tmp_path / "run" / "model.h5").unlink()
    assert finishing.evaluate_workdir(tmp_path / "run", None)["step"] == 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--epochs=3", "--epochs=2, not 3"),
        ("--strategy=mirrored", "--strategy=one, not mirrored"),
        ("--config=resnet18-2x-w4a4", "--arch=digits_cnn, not resnet18"),
    ],
)
def test_an_evaluation_takes_no_flag_of_another_training(
    tmp_path: pathlib.Path, given: str, message: str
) -> None:
    trained = config(tmp_path / "data", tmp_path)
    (tmp_path / "record.json").write_text(json.dumps({"flags": trained.as_json()}))
    command = [sys.executable, "-m", "train.imagenet", "--mode=eval", f"--workdir={tmp_path}"]
    done = subprocess.run([*command, given], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    said = f"error: {tmp_path} holds a training with {message}, and --mode=eval evaluates what was"
    assert done.stderr.splitlines()[-1].startswith(said)


def test_an_evaluation_may_repeat_what_was_trained(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (wrpn_tf.Rule(name="conv3", weight_bits=4),)
    trained = config(tmp_path / "data", tmp_path, rules=rules, decay_epochs=(1,))
    (tmp_path / "record.json").write_text(json.dumps({"flags": trained.as_json()}))
    monkeypatch.setattr(finishing, "evaluate_workdir", lambda *place: place)
    given = {"epochs": 2, "abits": 4, "rules": rules, "decay_epochs": (1,), "checkpoint_steps": 3}
    places = {"workdir": str(tmp_path), "data_dir": "elsewhere"}
    assert imagenet.evaluate(None, given | places) == (str(tmp_path), "elsewhere")


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    def stop(self: Any, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self._step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.StopOnNonFinite, "on_train_batch_end", stop)


def test_resumed_from_the_checkpoint_before_a_corrupt_one(
    finished: Config,
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = config(folder, tmp_path)
    with monkeypatch.context() as patch:
        interrupt(patch, 14)
        with pytest.raises(KeyboardInterrupt):
            trainer_module.train(run, verbose=0)
    assert saved_steps(tmp_path / "checkpoints") == [12, 9, 8]
    newest = tmp_path / "checkpoints" / "ckpt-12.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:2000])
    trainer_module.train(run, verbose=0)
    captured = capsys.readouterr()
    assert "warning: cannot read checkpoint" in captured.err and "ckpt-12" in captured.err
    assert "after step 9 of 16" in captured.out
    expected = wrpn_tf.load_model(pathlib.Path(finished.workdir) / "model.h5").get_weights()
    actual = wrpn_tf.load_model(tmp_path / "model.h5").get_weights()
    for left, right in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "ema": 0.9, "clip_norm": 1.0, "label_smoothing": 0.1},
        {"mixed_precision": "bf16", "schedule": "step", "decay_epochs": (1,)},
        {"wbits": 32, "abits": 32, "mixed_precision": "fp16"},
    ],
    ids=["adam-ema", "bf16-step", "fp16-float"],
)
def test_options(folder: pathlib.Path, tmp_path: pathlib.Path, options: dict[str, Any]) -> None:
    metrics = trainer_module.train(config(folder, tmp_path, epochs=1, **options), verbose=0)
    assert np.isfinite(metrics["test_loss"])


def test_a_teacher(finished: Config, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = config(folder, tmp_path, epochs=1, teacher=finished.workdir)
    assert np.isfinite(trainer_module.train(run, verbose=0)["test_loss"])
    with pytest.raises(UserError, match=r"teacher: .* here \(48, 48, 3\)"):
        changed = dataclasses.replace(run, image_size=48, workdir=tmp_path / "other")
        trainer_module.train(changed, verbose=0)


def test_every_experiment_is_a_config() -> None:
    known = experiments()
    assert len(paper.ACCURACIES) == 15 + 16 + 1 + 9 + 5  # AlexNet 1x, 2x, 1.3x, the others.
    assert len(known) == 46 + 13  # And those without an accuracy in the paper.
    assert {name for name in known if known[name].top1 is None} == {
        "alexnet-1.3x-w8a4",
        *(f"{arch}-1x-float" for arch in ("resnet18", "resnet50")),
        *(
            f"{arch}-{shape}"
            for arch in ("resnet18", "resnet50")
            for shape in ("1x-w4a4", "1x-w2a2", "2x-w4a4", "2x-w2a2", "3x-w1a1")
        ),
    }
    for name, experiment in known.items():
        assert imagenet.choose(name, {}).workdir == f"runs/imagenet/{name}"
        assert experiment.command.endswith(f"--config={name}")
    assert known["resnet34-2x-w4a4"].top1 == 74.52
    assert known["alexnet-2x-w2a4"].cost == 0.4
    assert reported(imagenet.choose("resnet34-2x-w4a4", {})) == {"top1": 74.52, "cost": 0.5}
    assert reported(imagenet.choose("alexnet-2x-w2a4", {})) == {"top1": 57.2, "cost": 0.4}
    assert reported(imagenet.choose("alexnet-2x-w4a2", {})) == {"top1": 57.3, "cost": 0.4}
    for other in (
        {"rules": (wrpn_tf.Rule(name="conv1", weight_bits=2),)},
        {"dataset": "cifar10", "image_size": 0, "color": 0.0},
    ):
        assert reported(imagenet.choose("resnet34-2x-w4a4", other)) is None
    chosen = imagenet.choose(None, {"width": 2.0, "abits": 4})
    assert chosen == imagenet.choose("resnet34-2x-w4a4", {})
    with pytest.raises(UserError, match="unknown config 'vgg'"):
        imagenet.choose("vgg", {})


def test_an_architecture_brings_its_recipe() -> None:
    network: dict[str, Any] = {"arch": "alexnet", "width": 2.0, "abits": 4}
    chosen = imagenet.choose("alexnet-2x-w4a4", {})
    assert (chosen.optimizer, chosen.epochs, chosen.decay_epochs) == ("adam", 90, (60, 75))
    assert imagenet.choose(None, network) == chosen
    assert imagenet.choose("resnet34-2x-w4a4", {"arch": "alexnet"}) == chosen
    assert imagenet.choose("alexnet-2x-w4a4", {"arch": "resnet34"}) == imagenet.choose(
        "resnet34-2x-w4a4", {}
    )
    assert imagenet.choose(None, network | {"optimizer": "sgd"}).optimizer == "sgd"
    assert imagenet.choose(None, {"arch": "mobilenet_v1"}).optimizer == "sgd"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--data_dir={empty}"], "data set 'imagenet2012' is not prepared: nothing at"),
        (
            ["--data_dir={data}", "--strategy=mirrored", "--replicas=3"],
            "divisible by the 3 replicas",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    folder: pathlib.Path, tmp_path: pathlib.Path, given: list[str], message: str
) -> None:
    options = [flag.format(empty=tmp_path, data=folder) for flag in given]
    command = [sys.executable, "-m", "train.imagenet", "--arch=resnet8", "--batch_size=8"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "multiworker"}, "needs the environment variable TF_CONFIG"),
        ({"workdir": pathlib.Path("/proc/none")}, "Cannot write /proc/none"),
    ],
)
def test_mistakes_that_a_training_finds(
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises((UserError, WriteError), match=message):
        trainer_module.train(dataclasses.replace(config(folder, tmp_path), **change), verbose=0)


@needs(jpegs.NAME)
def test_a_wrong_label_among_records_is_one_sentence(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(DATA / jpegs.NAME, tmp_path / jpegs.NAME)
    (path,) = map(str, root.glob("*/*train.tfrecord*"))
    example = tf.train.Example()
    record = next(tf.data.TFRecordDataset(path).as_numpy_iterator())
    example.ParseFromString(record)
    example.features.feature["label"].int64_list.value[:] = [1234]
    with tf.io.TFRecordWriter(path) as file:
        for _ in range(800):
            file.write(example.SerializeToString())
    monkeypatch.setattr(command_line.app, "run", lambda start, flags_parser: start([]))
    with pytest.raises(SystemExit, match=r"error: label 1234 of \S+ is out of range 0 to 999;"):
        flags.run(lambda: trainer_module.train(config(tmp_path, tmp_path / "run"), verbose=0))


def test_folders_that_do_not_fit(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    val = tmp_path / "data" / "val"
    listed = tmp_path / "data" / "val.txt"
    listed.write_text("n01/000.JPEG 0\nn02/001.JPEG 4\n")
    with pytest.raises(ValueError, match=r"val.txt:2: label 4 is out of range 0 to 3"):
        jpegs.load_jpegs(tmp_path / "data", 32)
    listed.unlink()
    (val / "n01").rename(val / "n99")
    with pytest.raises(ValueError, match=r"n99 is the folder of a class that train/ does not"):
        jpegs.load_jpegs(tmp_path / "data", 32)
    shutil.rmtree(val)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        jpegs.load_jpegs(tmp_path / "data", 32)


@pytest.mark.parametrize("name", ["../train/n01/000.JPEG", "/etc/passwd", "n01/../../x", "n01\0"])
def test_val_txt_names_files_in_val(
    folder: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "val.txt").write_text(f"n01/000.JPEG 0\n{name} 1\n")
    with pytest.raises(ValueError, match=r"val\.txt:2: .* is not the name of a file in \S+val"):
        jpegs.load_jpegs(tmp_path / "data", 32)


def test_files_that_val_txt_names_are_there(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    names = ("n01/000.JPEG 0", "n02/gone.JPEG 1", "n03 2")
    (tmp_path / "data" / "val.txt").write_text("\n".join(names))
    message = r"val\.txt: 2 of its 3 files are not there, the first is \S+/val/n02/gone\.JPEG; cor"
    with pytest.raises(ValueError, match=message):
        jpegs.load_jpegs(tmp_path / "data", 32)


def test_a_class_without_images_is_a_warning(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    for name in ("n00", "n05", ".hidden"):
        (tmp_path / "data" / "train" / name).mkdir()
    with pytest.warns(UserWarning, match=r"train: no images of the classes 'n00', 'n05'"):
        assert len(jpegs.load_jpegs(tmp_path / "data", 32).class_names) == 6
