"""Train k-bit vision networks in tf_keras and ship them as integers."""

from wrpn_tf import models
from wrpn_tf.arithmetic import methods, quantizers
from wrpn_tf.costs import paper
from wrpn_tf.costs.memory import Memory
from wrpn_tf.costs.network_cost import Cost, LayerCost, measure_cost
from wrpn_tf.data import datasets, jpegs
from wrpn_tf.graph.roles import Kind
from wrpn_tf.graph.rules import Rule
from wrpn_tf.reporting import plots
from wrpn_tf.reporting.layer_summary import summary
from wrpn_tf.reporting.results import Result, pareto_front, read_results
from wrpn_tf.tfmot.calibration import calibrate
from wrpn_tf.tfmot.clipping import clipped_shares
from wrpn_tf.tfmot.inspection import (
    KernelCodes,
    LayerView,
    named_kernel_quantizers,
    named_output_quantizers,
    view,
)
from wrpn_tf.tfmot.one_grid_layers import QuantizedUpSampling2D
from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer, OutputGrid, RangeQuantizer
from wrpn_tf.tfmot.quantization import quantize_annotate, quantize_apply, quantize_model
from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig
from wrpn_tf.tfmot.saving import custom_objects, load_model
from wrpn_tf.tfmot.scheme import WRPNScheme
from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer
from wrpn_tf.widening.widening import widen
from wrpn_tf.widening.widths import WidthRule

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
