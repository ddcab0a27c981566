"""ImageNet from the archives that image-net.org offers, prepared by TensorFlow Datasets."""

import io
import pathlib
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from wrpn_tf import jpegs

CLASSES = ("n01440764", "n01443537")
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"

tfds = pytest.importorskip("tensorflow_datasets")


def tar(files: dict[str, bytes]) -> bytes:
    """An archive of files by name."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def archives() -> dict[str, bytes]:
    """Four training images of two classes, an archive for each, and three validation images."""
    random = np.random.default_rng(0)
    images = iter(random.integers(0, 256, (7, 40, 50, 3), dtype=np.uint8))

    def jpeg() -> bytes:
        return tf.io.encode_jpeg(next(images)).numpy()

    classes = {
        f"{name}.tar": tar({f"{name}_{i}.JPEG": jpeg() for i in range(2)}) for name in CLASSES
    }
    val = {f"ILSVRC2012_val_0000000{i}.JPEG": jpeg() for i in (1, 2, 3)}
    return {TRAIN: tar(classes), VAL: tar(val)}


def write(folder: pathlib.Path, contents: dict[str, bytes]) -> pathlib.Path:
    manual = folder / "downloads" / "manual"
    manual.mkdir(parents=True)
    for name, content in contents.items():
        (manual / name).write_bytes(content)
    return folder


def test_archives_are_prepared_where_they_are(tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path, archives())
    data = jpegs.load_jpegs(folder, 32)
    assert (data.train.size, data.test.size) == (4, 3)
    found = {
        name.decode(): int(label) for name, _, label in data.train.elements().as_numpy_iterator()
    }
    names = [f"{name}_{i}.JPEG" for name in CLASSES for i in (0, 1)]
    assert found == dict(zip(names, (0, 0, 1, 1), strict=True))
    assert data.load_test_images(3).test_images.shape == (3, 32, 32, 3)
    before = sorted(folder.rglob("*.tfrecord*"))
    assert jpegs.load_jpegs(folder, 32).train.size == 4
    assert sorted(folder.rglob("*.tfrecord*")) == before


def test_one_archive_is_not_enough(tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path, {VAL: archives()[VAL]})
    with pytest.raises(ValueError, match="has no split 'train', only validation; remove that"):
        jpegs.load_jpegs(folder, 32)


def test_an_archive_that_cannot_be_read_leaves_nothing(tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path, archives() | {TRAIN: b"not an archive"})
    with pytest.raises(FileNotFoundError, match="preparing it failed"):
        jpegs.load_jpegs(folder, 32)
    assert not list(folder.rglob("*.tfrecord*"))
