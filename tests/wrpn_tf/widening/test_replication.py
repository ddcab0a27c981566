"""Weights of copies, one by one."""

import numpy as np
import pytest
from tf_keras import layers

from wrpn_tf.widening.replication import _copy_vector, _share


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_shares_have_the_type_of_the_kernel(dtype):
    kernel = np.ones((3, 2), dtype)
    equal, noisy = (
        _share(kernel, np.array([1, 2, 4]), 0, noise, np.random.default_rng(0))
        for noise in (0, 0.5)
    )
    assert equal.dtype == noisy.dtype == dtype
    assert equal[:, 0].tolist() == [1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    assert (noisy[1:] != equal[1:]).all()


def test_slopes_are_copied_unless_channels_share_them():
    copies, slopes = np.array([1, 2]), np.float32([[[0.25, 0.5]]])
    own, shared = layers.PReLU(shared_axes=[1, 2]), layers.PReLU(shared_axes=[1, 2, 3])
    assert _copy_vector(own, slopes, copies).tolist() == [[[0.25, 0.5, 0.5]]]
    assert _copy_vector(shared, slopes[..., :1], copies).tolist() == [[[0.25]]]


def test_a_weight_of_one_value_stays():
    assert _copy_vector(layers.ReLU(), np.float32(3), np.array([1, 2])) == 3
