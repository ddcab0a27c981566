"""The names that each front has, see `wrpn_tf.fronts`."""

from tf_keras.backend import backend as backend

from wrpn_tf.tfmot import own_layers as own_layers
from wrpn_tf.tfmot.acceptance import check_accepted as check_accepted
from wrpn_tf.tfmot.acceptance import lost as lost
from wrpn_tf.tfmot.calls import layer_call as layer_call
from wrpn_tf.tfmot.inspection import named_kernel_quantizers as named_kernel_quantizers
from wrpn_tf.tfmot.inspection import named_output_quantizers as named_output_quantizers
from wrpn_tf.tfmot.inspection import scale_and_zero_point as scale_and_zero_point
from wrpn_tf.tfmot.inspection import unwrapped as unwrapped
from wrpn_tf.tfmot.inspection import view_layer as view_layer
from wrpn_tf.tfmot.interface import flat_outputs as flat_outputs
from wrpn_tf.tfmot.interface import input_names as input_names
from wrpn_tf.tfmot.interface import interface_of as interface_of
from wrpn_tf.tfmot.interface import nested_inputs as nested_inputs
from wrpn_tf.tfmot.interface import packed_inputs as packed_inputs
from wrpn_tf.tfmot.interface import packed_outputs as packed_outputs
from wrpn_tf.tfmot.own_layers import NAMESPACE
from wrpn_tf.tfmot.quantization import annotate as annotate
from wrpn_tf.tfmot.quantization import apply as apply
from wrpn_tf.tfmot.quantization import assemble as assemble
from wrpn_tf.tfmot.quantization import quantize as quantize
from wrpn_tf.tfmot.saving import load_model as load_model
from wrpn_tf.tfmot.traversal import call_as as call_as
from wrpn_tf.tfmot.traversal import check_model as check_model
from wrpn_tf.tfmot.traversal import configured as configured
from wrpn_tf.tfmot.traversal import flat_inputs as flat_inputs
from wrpn_tf.tfmot.traversal import graph_nodes as graph_nodes
from wrpn_tf.tfmot.traversal import output_tensors as output_tensors
from wrpn_tf.tfmot.traversal import read as read
from wrpn_tf.tfmot.traversal import rebuild_calls as rebuild_calls
from wrpn_tf.tfmot.traversal import replay as replay
from wrpn_tf.tfmot.updates import without_updates as without_updates

layers = NAMESPACE
