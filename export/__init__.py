"""From a trained Keras model to integers: graph, NumPy executor, TFLite file, verification.

A public name's module is imported when the name is first used: the tools that only read .tflite
files start without TensorFlow.
"""

from typing import TYPE_CHECKING

from wrpn_tf.lazy import lazy_names

if TYPE_CHECKING:  # The table once more, for type checkers.
    from export.alignment.settling import settle as settle
    from export.executor.execution import execute as execute
    from export.ir.graph import IntegerGraph as IntegerGraph
    from export.ir.saving import load as load
    from export.ir.saving import save as save
    from export.ir.trained import TrainedGraph as TrainedGraph
    from export.lowering.network import FloatError as FloatError
    from export.lowering.network import LoweringError as LoweringError
    from export.lowering.network import lower as lower
    from export.proof.prover import prove as prove
    from export.realization.network import realize as realize
    from export.tools.conversion import to_tflite as to_tflite
    from export.verification.result import Verification as Verification
    from export.verification.verifier import verify as verify

_PUBLIC = {
    "FloatError": "export.lowering.network",
    "IntegerGraph": "export.ir.graph",
    "LoweringError": "export.lowering.network",
    "TrainedGraph": "export.ir.trained",
    "Verification": "export.verification.result",
    "execute": "export.executor.execution",
    "load": "export.ir.saving",
    "lower": "export.lowering.network",
    "prove": "export.proof.prover",
    "realize": "export.realization.network",
    "save": "export.ir.saving",
    "settle": "export.alignment.settling",
    "to_tflite": "export.tools.conversion",
    "verify": "export.verification.verifier",
}

__all__ = sorted(_PUBLIC)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _PUBLIC)
