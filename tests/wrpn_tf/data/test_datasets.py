"""Data sets: shapes, the exactness of the pixel map, and what is said when one is missing."""

import pathlib
import socket
import urllib.request

import numpy as np
import pytest
from real_data import DATA, needs

from wrpn_tf import datasets
from wrpn_tf.data import preparation


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits")


def test_digits_shapes_and_stratified_split(digits: datasets.Dataset) -> None:
    assert digits.train_images.shape == (1437, 8, 8, 1)
    assert digits.test_images.shape == (360, 8, 8, 1)
    assert digits.image_shape == (8, 8, 1)
    assert digits.train_images.dtype == digits.test_images.dtype == np.uint8
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int64
    assert (np.bincount(digits.test_labels) >= 34).all()
    assert digits.class_names == tuple("0123456789")
    assert len(np.unique(digits.train_images)) == 17
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)


def test_the_split_is_the_same_at_every_call(digits: datasets.Dataset) -> None:
    np.testing.assert_array_equal(datasets.load("digits").test_images, digits.test_images)


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 64, 121), (1 / 128, 0)])
def test_real_values_are_exact_and_agree_with_range_and_normalization(
    digits: datasets.Dataset, scale: float, zero_point: int
) -> None:
    data = datasets.dataclasses.replace(digits, scale=scale, zero_point=zero_point)
    pixels = np.arange(256, dtype=np.uint8)
    real = data.normalize(pixels)
    assert real.dtype == np.float32
    exact = scale * (np.arange(256.0) - zero_point)
    np.testing.assert_array_equal(real.astype(np.float64), exact)
    assert data.input_range == (exact[0], exact[255])
    mean, std = data.normalization["mean"][0], data.normalization["std"][0]
    np.testing.assert_array_equal((np.arange(256.0) - mean) / std, exact)


def test_head_keeps_the_test_images(digits: datasets.Dataset) -> None:
    head = digits.head(10)
    assert len(head.train_images) == len(head.train_labels) == 10
    assert len(head.test_images) == 360


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown data set 'mnist'; known: cifar10, digits"):
        datasets.load("mnist")


def test_a_missing_data_set_says_where_it_looked_and_what_to_do(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        datasets.load("cifar10", tmp_path)
    assert f"nothing at {tmp_path / 'cifar10'}" in str(error.value)
    assert f"tfds build cifar10 --data_dir={tmp_path}" in str(error.value)


@pytest.mark.parametrize(
    ("proxies", "host"),
    [
        ({}, "www.cs.toronto.edu"),
        ({"https": "http://proxy.example:3128"}, "proxy.example"),
        ({"http": "http://proxy.example:3128"}, "www.cs.toronto.edu"),
    ],
)
def test_without_a_network_it_says_so_at_once(proxies, host, tmp_path, monkeypatch) -> None:
    """TFDS tries for minutes."""
    tfds = pytest.importorskip("tensorflow_datasets")
    asked = []

    def unknown(host, port, *rest):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(urllib.request, "getproxies", lambda: proxies)
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: False)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder(name, data_dir=tmp_path))
    broken_off = tmp_path / "downloads" / "cifar10" / "file.tar.gz.tmp.0"
    broken_off.mkdir(parents=True)
    (broken_off / "file.tar.gz").touch()
    with pytest.raises(FileNotFoundError) as error:
        datasets.load("cifar10")
    assert asked == [host]
    assert f"{host} cannot be reached" in str(error.value)
    assert f"tfds build cifar10 --data_dir={tmp_path}," in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["downloads"]


def test_imagenet_without_archives_names_tfdss_own_folder(tmp_path, monkeypatch) -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder(name, data_dir=tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        preparation.prepared_builder("imagenet2012", None)
    assert f"tfds build imagenet2012 --data_dir={tmp_path}" in str(error.value).split("5.1.0;")[1]
    assert not list(tmp_path.iterdir())


@needs("cifar10")
def test_cifar10() -> None:
    data = datasets.load("cifar10", DATA)
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(data.train_labels), np.full(10, 5000))
    assert data.class_names[:2] == ("airplane", "automobile")
    sample = data.normalize(data.train_images[::10])
    assert abs(sample.mean()) < 0.05
    assert abs(sample.std() - 1) < 0.05
