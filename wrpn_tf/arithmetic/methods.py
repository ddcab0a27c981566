"""Where quantizer scales come from: the names of the methods, and which bit-widths have them."""

from __future__ import annotations

from typing import Literal, get_args

Method = Literal["learned", "calibrated", "paper"]
WeightMethod = Literal["learned", "calibrated", "paper", "dynamic", "dorefa", "xnor"]
ActivationMethod = Literal["learned", "calibrated", "paper", "pact"]

METHODS: tuple[str, ...] = get_args(Method)
WEIGHT_METHODS: tuple[str, ...] = get_args(WeightMethod)
ACTIVATION_METHODS: tuple[str, ...] = get_args(ActivationMethod)

_WEIGHT_BITS: dict[str, tuple[range, str]] = {
    "dorefa": (range(1, 8), "1 to 7 bits (its codes, up to 2^k - 1, must fit int8)"),
    "xnor": (range(1, 2), "1 bit"),
}
"""By weight method that not every bit-width has: those that do, and the same in words."""


def check_method(method: str, known: tuple[str, ...] = METHODS, what: str = "method") -> None:
    """Raises ValueError naming a method that is not known."""
    if method not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; got {method!r}.")


def has_bits(method: WeightMethod, bits: int) -> bool:
    """Whether a weight method exists for a bit-width."""
    return method not in _WEIGHT_BITS or bits in _WEIGHT_BITS[method][0]


def check_weight_method(method: WeightMethod, bits: int) -> None:
    """Raises ValueError naming a method that is not known or does not exist for `bits`."""
    check_method(method, WEIGHT_METHODS, "weight_method")
    if not has_bits(method, bits):
        _, allowed = _WEIGHT_BITS[method]
        raise ValueError(f"weight_method {method!r} is for {allowed}; got {bits}.")
