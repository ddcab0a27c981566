"""The quantization parameters of a tensor: one type from training to the file on the device."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizationParameters:
    """Where a tensor's codes lie: ``real = scale * (code - zero_point)``.

    The range is of codes with the zero point subtracted, so that 0 is the real number 0 whatever
    the type of the codes is.

    Attributes:
      scale: positive step between neighbouring codes, exactly a float32.
      low: smallest code, zero point subtracted; 0 for k-bit activations.
      high: largest code, zero point subtracted; ``2 ** bits - 1`` for k-bit activations.
      bits: bit-width: at most ``2 ** bits`` different codes ever occur.
    """

    scale: float
    low: int
    high: int
    bits: int

    @classmethod
    def int8(cls, *, scale: float, zero_point: int, bits: int = 8) -> QuantizationParameters:
        """The uppermost ``2 ** bits`` codes of an int8 tensor as TFLite describes it."""
        return cls(
            scale=scale,
            low=max(-128, 128 - 2**bits) - zero_point,
            high=127 - zero_point,
            bits=bits,
        )

    @property
    def zero_point(self) -> int:
        """Zero point of the TFLite int8 tensor: saturation at 127 is the upper clip."""
        return 127 - self.high

    def same_scale(self, other: QuantizationParameters) -> bool:
        """Whether equal int8 codes of both are equal real numbers: one scale and zero point."""
        return (self.scale, self.zero_point) == (other.scale, other.zero_point)
