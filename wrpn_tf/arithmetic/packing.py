"""Codes of few bits, several in a byte: what training keeps of an activation."""

from __future__ import annotations

import math

import tensorflow as tf

from wrpn_tf.arithmetic.bits import packed_width

_WORD_BYTES = 8


def pack(codes: tf.Tensor, bits: int) -> tf.Tensor:
    """Packs codes: a byte holds 8, 4 or 2 of 1, 2 or 4 bits; of 3 bits 2, of 5 to 8 bits one.

    The codes are cut into as many equal runs as a byte holds codes, and the runs laid over each
    other: words of 64 bits are shifted, and no code is moved by itself.

    Args:
      codes: uint8 in ``[0, 2^bits - 1]``, any shape.
      bits: 1 to 8.

    Returns:
      uint64 ``[words]``; the last words are filled up with zeros.
    """
    width = packed_width(bits)
    runs = 8 // width
    flat = tf.reshape(codes, [-1])
    block = runs * _WORD_BYTES
    if not _fills(codes.shape, block):
        flat = tf.pad(flat, [[0, -tf.size(flat) % block]])
    words = tf.bitcast(tf.reshape(flat, [runs, -1, _WORD_BYTES]), tf.uint64)
    packed = words[0]
    for run in range(1, runs):
        shift = tf.constant(run * width, tf.uint64)
        packed = tf.bitwise.bitwise_or(packed, tf.bitwise.left_shift(words[run], shift))
    return packed


def unpack(packed: tf.Tensor, bits: int, shape: tf.TensorShape, sizes: tf.Tensor) -> tf.Tensor:
    """The codes that `pack` packed.

    Args:
      packed: from `pack`.
      bits: 1 to 8.
      shape: of the codes, as far as it is known; rank at least 1.
      sizes: int32 ``[rank]``: their whole shape.

    Returns:
      uint8 of that shape.
    """
    width = packed_width(bits)
    mask = tf.constant(0x0101010101010101 * ((1 << width) - 1), tf.uint64)
    shifted = [
        tf.bitwise.right_shift(packed, tf.constant(start, tf.uint64))
        for start in range(width, 8, width)
    ]
    runs = [tf.bitwise.bitwise_and(run, mask) for run in (packed, *shifted)]
    flat = tf.reshape(tf.bitcast(tf.concat(runs, axis=0), tf.uint8), [-1])
    if not _fills(shape, len(runs) * _WORD_BYTES):
        flat = flat[: tf.reduce_prod(sizes)]
    codes = tf.reshape(flat, sizes)
    codes.set_shape(shape)
    return codes


def _fills(shape: tf.TensorShape, block: int) -> bool:
    """Whether values of this shape fill blocks, whatever the sizes that are not known."""
    return math.prod(size for size in shape if size is not None) % block == 0
