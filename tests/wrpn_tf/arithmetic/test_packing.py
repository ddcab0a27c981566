"""Codes in few bits: what is packed comes back, and takes the bits that it should."""

import numpy as np
import pytest
import tensorflow as tf

from wrpn_tf.arithmetic import packing

WIDTHS = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8}


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("shape", [(0, 3), (1,), (7, 3), (2, 8, 8), (5, 4, 4, 16)])
def test_codes_come_back(bits, shape):
    codes = np.random.default_rng(0).integers(0, 2**bits, shape).astype(np.uint8)
    packed = packing.pack(tf.constant(codes), bits)
    assert packed.dtype == tf.uint64
    found = packing.unpack(packed, bits, tf.TensorShape(shape), tf.constant(shape))
    assert np.array_equal(found, codes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_code_takes_its_width(bits):
    """1,024 codes, a multiple of what words of 8 bytes hold, are 128 bytes for each bit."""
    packed = packing.pack(tf.zeros((4, 16, 16), tf.uint8), bits)
    assert 8 * packed.shape[0] == 128 * WIDTHS[bits]
    assert packing.packed_width(bits) == WIDTHS[bits]


@pytest.mark.parametrize("shape", [(None, 4, 4, 16), (None, 7), (None, None)])
def test_sizes_may_be_known_late(shape):
    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def there_and_back(codes):
        return packing.unpack(packing.pack(codes, 2), 2, codes.shape, tf.shape(codes))

    sizes = [3 if size is None else size for size in shape]
    codes = np.random.default_rng(0).integers(0, 4, sizes).astype(np.uint8)
    assert np.array_equal(there_and_back(codes), codes)
    assert there_and_back.get_concrete_function().output_shapes.as_list() == list(shape)


@pytest.mark.parametrize("bits", [0, 9, 32])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=str(bits)):
        packing.packed_width(bits)
