"""The names that each front has, see `wrpn_tf.fronts`."""

from keras.config import backend as backend

from wrpn_tf.keras3 import own_layers as own_layers
from wrpn_tf.keras3.acceptance import check_accepted as check_accepted
from wrpn_tf.keras3.acceptance import lost as lost
from wrpn_tf.keras3.calls import call_as as call_as
from wrpn_tf.keras3.calls import layer_call as layer_call
from wrpn_tf.keras3.calls import rebuild_calls as rebuild_calls
from wrpn_tf.keras3.inspection import named_kernel_quantizers as named_kernel_quantizers
from wrpn_tf.keras3.inspection import named_output_quantizers as named_output_quantizers
from wrpn_tf.keras3.inspection import scale_and_zero_point as scale_and_zero_point
from wrpn_tf.keras3.inspection import unwrapped as unwrapped
from wrpn_tf.keras3.inspection import view_layer as view_layer
from wrpn_tf.keras3.model import flat_inputs as flat_inputs
from wrpn_tf.keras3.model import flat_outputs as flat_outputs
from wrpn_tf.keras3.model import input_names as input_names
from wrpn_tf.keras3.model import interface_of as interface_of
from wrpn_tf.keras3.model import nested_inputs as nested_inputs
from wrpn_tf.keras3.model import packed_inputs as packed_inputs
from wrpn_tf.keras3.model import packed_outputs as packed_outputs
from wrpn_tf.keras3.model import without_updates as without_updates
from wrpn_tf.keras3.own_layers import NAMESPACE
from wrpn_tf.keras3.quantization import annotate as annotate
from wrpn_tf.keras3.quantization import apply as apply
from wrpn_tf.keras3.quantization import assemble as assemble
from wrpn_tf.keras3.quantization import quantize as quantize
from wrpn_tf.keras3.saving import load_model as load_model
from wrpn_tf.keras3.traversal import check_model as check_model
from wrpn_tf.keras3.traversal import configured as configured
from wrpn_tf.keras3.traversal import graph_nodes as graph_nodes
from wrpn_tf.keras3.traversal import output_tensors as output_tensors
from wrpn_tf.keras3.traversal import read as read
from wrpn_tf.keras3.traversal import replay as replay

layers = NAMESPACE
