"""Images of users: which are taken, as what, and what is said of the others."""

import numpy as np
import pytest

from export.tools import model_images

PIXELS = np.arange(2 * 4 * 4 * 1, dtype=np.uint8).reshape(2, 4, 4, 1) * 8


def source(tmp_path, array):
    np.save(tmp_path / "images.npy", array)
    return model_images.find(str(tmp_path / "images.npy"))


def test_pixels_become_what_the_range_says(tmp_path):
    found = source(tmp_path, PIXELS)
    assert found.are_pixels and found.count == 2
    reals = found.read((4, 4, 1), 9, (-1, 1))
    assert reals.dtype == np.float32
    np.testing.assert_allclose(reals, PIXELS / 127.5 - 1, atol=1e-6)


def test_few_are_spread_evenly(tmp_path):
    numbers = np.broadcast_to(np.arange(11.0)[:, None, None, None], (11, 4, 4, 1))
    read = source(tmp_path, numbers).read((4, 4, 1), 3, None)
    assert read[:, 0, 0, 0].tolist() == [0, 5, 10]


def test_a_folder_is_read_at_the_size_of_the_model(tmp_path):
    import tensorflow as tf

    for name, pixel in (("a/1.png", 51), ("2.PNG", 255)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        image = np.full((6, 8, 3), pixel, np.uint8)
        path.write_bytes(tf.io.encode_png(image).numpy())
    found = model_images.find(str(tmp_path))
    assert found.are_pixels and found.count == 2
    reals = found.read((4, 4, 1), 9, (0, 255))
    assert reals.shape == (2, 4, 4, 1)
    assert sorted(reals.mean(axis=(1, 2, 3)).round().tolist()) == [51, 255]


def test_files_that_are_no_images_are_left_out_or_named(tmp_path):
    import tensorflow as tf

    png = tf.io.encode_png(np.full((4, 4, 1), 9, np.uint8)).numpy()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("good.png", "._good.png", ".hidden/1.png"):
        (tmp_path / name).write_bytes(png)
    found = model_images.find(str(tmp_path))
    assert found.count == 1
    assert found.read((4, 4, 1), 9, (0, 255)).tolist() == np.full((1, 4, 4, 1), 9).tolist()
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"^Cannot read the image .*bad\.png\.$"):
        model_images.find(str(tmp_path)).read((4, 4, 1), 9, (0, 255))
    with pytest.raises(ValueError, match=r"to one \(height, width, 1 or 3\): give an \.npy"):
        model_images.find(str(tmp_path)).read((None, None, 1), 9, (0, 255))


def test_a_model_of_any_size_takes_arrays_of_any(tmp_path):
    assert source(tmp_path, PIXELS).read((None, None, 1), 9, (0, 255)).tolist() == PIXELS.tolist()


@pytest.mark.parametrize(
    ("array", "input_range", "message"),
    [
        (PIXELS / 255, (0, 255), "reach from 0 to 0.9725 only, and the input range is 0 to 255"),
        (PIXELS * 1.5, (0, 255), "reach from 0 to 372, and the input range is 0 to 255"),
        (PIXELS[:, 1:], (0, 255), r"have the shape \(3, 4, 1\); the model takes \(4, 4, 1\)"),
    ],
)
def test_images_that_do_not_fit_are_named(tmp_path, array, input_range, message):
    with pytest.raises(ValueError, match=message):
        source(tmp_path, array).read((4, 4, 1), 9, input_range)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PIXELS.astype(np.int64), "holds int64; expected pixels in uint8, or floats"),
        (np.zeros(3), r"no \.npy file of an array \[images, height, width, channels\]"),
    ],
)
def test_files_of_something_else(tmp_path, array, message):
    with pytest.raises(ValueError, match=message):
        source(tmp_path, array)


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="There is no file or folder"):
        model_images.find(str(tmp_path / "none.npy"))
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"is no \.npy file of an array"):
        model_images.find(str(tmp_path / "text.npy"))
