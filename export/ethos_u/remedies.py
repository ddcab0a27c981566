"""What to do about an operator that the NPU does not run."""

from __future__ import annotations

from export.ethos_u.compiler import Layer

_REMEDIES = {
    "RESIZE_NEAREST_NEIGHBOR": "Enlarge height and width by the same factor: 2, 4 or 8.",
    "RESIZE_BILINEAR": "Enlarge height and width by 2; a larger factor is several layers.",
    "TRANSPOSE_CONV": "Use strides of 1x1 or 2x2; a larger enlargement is several layers.",
    "CONV_2D": "Use strides of at most 3.",
    "DEPTHWISE_CONV_2D": "Use strides of at most 3.",
    "SOFTMAX": "Leave the softmax out: the largest score is the same class.",
    "TRANSPOSE": "Keep one order of the axes, or transpose at the ends.",
}
_FLOAT = "Give it integers: export the quantized model, with --io=int8 or uint8."
_DEFAULT = "`vela --supported-ops-report` lists what the NPU takes of this operator."


def remedy(layer: Layer) -> str:
    """One sentence on an operator on the CPU."""
    if "float" in layer.reason.lower():
        return _FLOAT
    return _REMEDIES.get(layer.operator, _DEFAULT)
