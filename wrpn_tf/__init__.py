"""Train k-bit vision networks in Keras and ship them as integers.

Importing it imports neither TensorFlow nor a Keras: a public name's module is imported when the
name is first used.
"""

from typing import TYPE_CHECKING

from wrpn_tf.lazy import lazy_names
from wrpn_tf.siblings import warn_if_hidden

if TYPE_CHECKING:  # The table once more, for type checkers.
    from wrpn_tf import command_line as command_line
    from wrpn_tf import models as models
    from wrpn_tf.allocation.choosing import BitChoice as BitChoice
    from wrpn_tf.allocation.choosing import Decision as Decision
    from wrpn_tf.allocation.choosing import choose_bits as choose_bits
    from wrpn_tf.arithmetic import methods as methods
    from wrpn_tf.arithmetic import numpy_twins as numpy_twins
    from wrpn_tf.arithmetic import quantizers as quantizers
    from wrpn_tf.arithmetic.quantization_parameters import (
        QuantizationParameters as QuantizationParameters,
    )
    from wrpn_tf.costs import paper as paper
    from wrpn_tf.costs.memory import Memory as Memory
    from wrpn_tf.costs.network_cost import Cost as Cost
    from wrpn_tf.costs.network_cost import LayerCost as LayerCost
    from wrpn_tf.costs.network_cost import measure_cost as measure_cost
    from wrpn_tf.data import datasets as datasets
    from wrpn_tf.data import jpegs as jpegs
    from wrpn_tf.graph.fusion import Fusion as Fusion
    from wrpn_tf.graph.fusion import Group as Group
    from wrpn_tf.graph.roles import Kind as Kind
    from wrpn_tf.graph.roles import class_name as class_name
    from wrpn_tf.graph.rule_files import read_rules as read_rules
    from wrpn_tf.graph.rule_files import write_rules as write_rules
    from wrpn_tf.graph.rules import Rule as Rule
    from wrpn_tf.graph.views import KernelCodes as KernelCodes
    from wrpn_tf.graph.views import LayerView as LayerView
    from wrpn_tf.keras3.own_layers import DepthToSpace as DepthToSpace
    from wrpn_tf.keras3.own_layers import Slice as Slice
    from wrpn_tf.keras3.own_layers import SpaceToDepth as SpaceToDepth
    from wrpn_tf.quantization.calibration import calibrate as calibrate
    from wrpn_tf.quantization.clipping import clipped_shares as clipped_shares
    from wrpn_tf.quantization.crossing import from_tf_keras as from_tf_keras
    from wrpn_tf.quantization.crossing import to_float as to_float
    from wrpn_tf.quantization.crossing import to_tf_keras as to_tf_keras
    from wrpn_tf.quantization.feeding import batches as batches
    from wrpn_tf.quantization.inspection import fusion_groups as fusion_groups
    from wrpn_tf.quantization.inspection import infer as infer
    from wrpn_tf.quantization.inspection import infer_layer as infer_layer
    from wrpn_tf.quantization.inspection import input_quantizers as input_quantizers
    from wrpn_tf.quantization.inspection import named_kernel_quantizers as named_kernel_quantizers
    from wrpn_tf.quantization.inspection import named_output_quantizers as named_output_quantizers
    from wrpn_tf.quantization.inspection import view as view
    from wrpn_tf.quantization.loading import load_model as load_model
    from wrpn_tf.quantization.loading import trained_file as trained_file
    from wrpn_tf.quantization.quantizing import quantize_annotate as quantize_annotate
    from wrpn_tf.quantization.quantizing import quantize_apply as quantize_apply
    from wrpn_tf.quantization.quantizing import quantize_model as quantize_model
    from wrpn_tf.recomputation.packed_activations import pack_activations as pack_activations
    from wrpn_tf.reporting import plots as plots
    from wrpn_tf.reporting.layer_summary import summary as summary
    from wrpn_tf.reporting.results import Result as Result
    from wrpn_tf.reporting.results import pareto_front as pareto_front
    from wrpn_tf.reporting.results import read_results as read_results
    from wrpn_tf.tfmot.one_grid_layers import QuantizedUpSampling2D as QuantizedUpSampling2D
    from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer as ActivationQuantizer
    from wrpn_tf.tfmot.output_quantizers import RangeQuantizer as RangeQuantizer
    from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig as WRPNQuantizeConfig
    from wrpn_tf.tfmot.saving import custom_objects as custom_objects
    from wrpn_tf.tfmot.scheme import WRPNScheme as WRPNScheme
    from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer as WeightQuantizer
    from wrpn_tf.widening.widening import widen as widen
    from wrpn_tf.widening.widths import WidthRule as WidthRule

__version__ = "0.1.0"

_PUBLIC = {
    "ActivationQuantizer": "wrpn_tf.tfmot.output_quantizers",
    "BitChoice": "wrpn_tf.allocation.choosing",
    "Cost": "wrpn_tf.costs.network_cost",
    "Decision": "wrpn_tf.allocation.choosing",
    "DepthToSpace": "wrpn_tf.keras3.own_layers",
    "Fusion": "wrpn_tf.graph.fusion",
    "Group": "wrpn_tf.graph.fusion",
    "KernelCodes": "wrpn_tf.graph.views",
    "Kind": "wrpn_tf.graph.roles",
    "LayerCost": "wrpn_tf.costs.network_cost",
    "LayerView": "wrpn_tf.graph.views",
    "Memory": "wrpn_tf.costs.memory",
    "QuantizationParameters": "wrpn_tf.arithmetic.quantization_parameters",
    "QuantizedUpSampling2D": "wrpn_tf.tfmot.one_grid_layers",
    "RangeQuantizer": "wrpn_tf.tfmot.output_quantizers",
    "Result": "wrpn_tf.reporting.results",
    "Rule": "wrpn_tf.graph.rules",
    "Slice": "wrpn_tf.keras3.own_layers",
    "SpaceToDepth": "wrpn_tf.keras3.own_layers",
    "WRPNQuantizeConfig": "wrpn_tf.tfmot.quantize_config",
    "WRPNScheme": "wrpn_tf.tfmot.scheme",
    "WeightQuantizer": "wrpn_tf.tfmot.weight_quantizer",
    "WidthRule": "wrpn_tf.widening.widths",
    "batches": "wrpn_tf.quantization.feeding",
    "calibrate": "wrpn_tf.quantization.calibration",
    "choose_bits": "wrpn_tf.allocation.choosing",
    "class_name": "wrpn_tf.graph.roles",
    "clipped_shares": "wrpn_tf.quantization.clipping",
    "command_line": "wrpn_tf.command_line",
    "custom_objects": "wrpn_tf.tfmot.saving",
    "datasets": "wrpn_tf.data.datasets",
    "from_tf_keras": "wrpn_tf.quantization.crossing",
    "fusion_groups": "wrpn_tf.quantization.inspection",
    "infer": "wrpn_tf.quantization.inspection",
    "infer_layer": "wrpn_tf.quantization.inspection",
    "input_quantizers": "wrpn_tf.quantization.inspection",
    "jpegs": "wrpn_tf.data.jpegs",
    "load_model": "wrpn_tf.quantization.loading",
    "measure_cost": "wrpn_tf.costs.network_cost",
    "methods": "wrpn_tf.arithmetic.methods",
    "models": "wrpn_tf.models",
    "named_kernel_quantizers": "wrpn_tf.quantization.inspection",
    "named_output_quantizers": "wrpn_tf.quantization.inspection",
    "numpy_twins": "wrpn_tf.arithmetic.numpy_twins",
    "pack_activations": "wrpn_tf.recomputation.packed_activations",
    "paper": "wrpn_tf.costs.paper",
    "pareto_front": "wrpn_tf.reporting.results",
    "plots": "wrpn_tf.reporting.plots",
    "quantize_annotate": "wrpn_tf.quantization.quantizing",
    "quantize_apply": "wrpn_tf.quantization.quantizing",
    "quantize_model": "wrpn_tf.quantization.quantizing",
    "quantizers": "wrpn_tf.arithmetic.quantizers",
    "read_results": "wrpn_tf.reporting.results",
    "read_rules": "wrpn_tf.graph.rule_files",
    "summary": "wrpn_tf.reporting.layer_summary",
    "to_float": "wrpn_tf.quantization.crossing",
    "to_tf_keras": "wrpn_tf.quantization.crossing",
    "trained_file": "wrpn_tf.quantization.loading",
    "view": "wrpn_tf.quantization.inspection",
    "widen": "wrpn_tf.widening.widening",
    "write_rules": "wrpn_tf.graph.rule_files",
}
_RENAMED = {"OutputGrid": "QuantizationParameters"}

__all__ = sorted(_PUBLIC)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _PUBLIC, _RENAMED)

warn_if_hidden("export")
