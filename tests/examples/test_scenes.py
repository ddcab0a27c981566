"""Segmentation and detection on a few scenes: the file is the network that was trained."""

import importlib
import pathlib
import sys

import numpy as np
import pytest
from absl import flags

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(name="example")
def example_fixture(monkeypatch, tmp_path):
    """Imports an example by name, and runs it with flags; none of its flags stays defined."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(flags, "FLAGS", values := flags.FlagValues())
    for name in ("DEFINE_integer", "DEFINE_string"):
        define = getattr(flags, name)
        monkeypatch.setattr(
            flags, name, lambda *args, _d=define, **kw: _d(*args, flag_values=values, **kw)
        )
    before = set(sys.modules)

    def load(name, *arguments):
        module = importlib.import_module(name)
        output = tmp_path / "network.tflite"
        values([name, f"--output={output}", *arguments])
        return module

    yield load
    for name in set(sys.modules) - before:
        if name in {path.stem for path in EXAMPLES.glob("*.py")}:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "figure", "values"), [("segmentation", "mean IoU", 1), ("detection", "mAP .5", 3)]
)
def test_the_file_computes_what_was_trained(example, capsys, monkeypatch, name, figure, values):
    module = example(name, "--epochs=1", "--scenes=32")
    small = module.network
    monkeypatch.setattr(module, "network", lambda: small(4))
    monkeypatch.setattr(module.tflite_files.compiler, "is_installed", lambda: False)
    module.main([])
    text = capsys.readouterr().out
    assert "different: 0\n" in text and "\nverified" in text
    assert "0 on TPU" not in text and "on CPU" not in text
    assert text.count(figure) == 3
    *_, keras_line, file_line, _ = text.splitlines()
    assert keras_line.startswith(("mean IoU, 4/4", "4/4 in Keras"))
    assert file_line.startswith(("mean IoU, the file", "the file"))
    ours, its = (
        [float(word.strip(",")) for word in line.split() if word.strip(",")[:2] in ("0.", "1.")]
        for line in (keras_line, file_line)
    )
    assert len(ours) == len(its) == values


def test_scenes_hold_what_they_say(example):
    scenes = example("segmentation").digit_scenes.make(20, "train", seed=3)
    assert scenes.images.shape == (20, 32, 32, 1) and scenes.images.dtype == np.uint8
    for image, mask, boxes, labels in zip(
        scenes.images[..., 0], scenes.masks, scenes.boxes, scenes.labels, strict=True
    ):
        assert 1 <= len(boxes) == len(labels) <= 3
        assert set(np.unique(mask)) == {0, *(labels + 1)}
        assert (image[mask > 0] >= 64).all() and (image[mask == 0] < 64).all()
        inside = np.zeros_like(mask, bool)
        for top, left, bottom, right in boxes.astype(int):
            inside[top:bottom, left:right] = True
            window = mask[top:bottom, left:right] > 0
            assert window.any(1)[[0, -1]].all() and window.any(0)[[0, -1]].all()
        assert (inside | (mask == 0)).all()


def test_the_true_boxes_have_the_best_quality(example):
    module = example("detection")
    scenes = module.digit_scenes.make(40, "test", seed=1)
    (classes, offsets), _ = module.encode(scenes)
    scores = 20 * np.eye(11, dtype=np.float32)[classes]
    average, precision, recall = module.quality(module.decode(scores, offsets), scenes)
    assert average > 0.95 and precision == 1 and recall > 0.95
    scores = 20 * np.eye(11, dtype=np.float32)[np.where(classes > 0, classes % 10 + 1, 0)]
    assert module.quality(module.decode(scores, offsets), scenes)[0] < 0.05  # Another digit.


def test_the_most_probable_of_boxes_that_overlap_stays(example):
    suppress = example("detection").suppress
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 4, 10]], np.float32)
    probabilities = np.zeros((4, 10), np.float32)
    probabilities[[0, 1, 2, 3], [3, 3, 5, 7]] = 0.6, 0.9, 0.04, 0.5
    kept, classes, best = suppress(boxes, probabilities)
    assert kept.tolist() == [[1, 0, 11, 10], [0, 0, 4, 10]]
    assert classes.tolist() == [3, 7] and best.tolist() == [np.float32(0.9), np.float32(0.5)]


def test_mean_iou_counts_each_class_alike(example):
    mean_iou = example("segmentation").mean_iou
    masks = np.array([[[0, 0, 0, 1]]])
    assert mean_iou(masks, masks) == 1.0
    assert mean_iou(np.array([[[0, 0, 1, 1]]]), masks) == (2 / 3 + 1 / 2) / 2
