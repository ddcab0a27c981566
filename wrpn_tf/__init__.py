"""Train k-bit vision networks in tf_keras and ship them as integers."""

from wrpn_tf import datasets, jpegs, methods, models, paper, plots, quantizers
from wrpn_tf.calibration import calibrate
from wrpn_tf.clipping import clipped_shares
from wrpn_tf.configs import WRPNQuantizeConfig
from wrpn_tf.inspection import (
    KernelCodes,
    LayerView,
    named_kernel_quantizers,
    named_output_quantizers,
    view,
)
from wrpn_tf.layer_cost import Cost, LayerCost, measure_cost
from wrpn_tf.layer_summary import summary
from wrpn_tf.layers import Kind
from wrpn_tf.memory import Memory
from wrpn_tf.output_quantizers import ActivationQuantizer, OutputGrid, RangeQuantizer
from wrpn_tf.pooling import QuantizedUpSampling2D
from wrpn_tf.quantization import quantize_annotate, quantize_apply, quantize_model
from wrpn_tf.results import Result, pareto_front, read_results
from wrpn_tf.rules import Rule
from wrpn_tf.saving import custom_objects, load_model
from wrpn_tf.scheme import WRPNScheme
from wrpn_tf.weight_quantizer import WeightQuantizer
from wrpn_tf.widening import widen
from wrpn_tf.widths import WidthRule

__version__ = "0.1.0"

__all__ = [
    "ActivationQuantizer",
    "Cost",
    "KernelCodes",
    "Kind",
    "LayerCost",
    "LayerView",
    "Memory",
    "OutputGrid",
    "QuantizedUpSampling2D",
    "RangeQuantizer",
    "Result",
    "Rule",
    "WRPNQuantizeConfig",
    "WRPNScheme",
    "WeightQuantizer",
    "WidthRule",
    "calibrate",
    "clipped_shares",
    "custom_objects",
    "datasets",
    "jpegs",
    "load_model",
    "measure_cost",
    "methods",
    "models",
    "named_kernel_quantizers",
    "named_output_quantizers",
    "paper",
    "pareto_front",
    "plots",
    "quantize_annotate",
    "quantize_apply",
    "quantize_model",
    "quantizers",
    "read_results",
    "summary",
    "view",
    "widen",
]
