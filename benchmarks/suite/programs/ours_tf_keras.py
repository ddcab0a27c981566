"""Float tf_keras, this package on it, and TF-MOT's 8 bits."""

from benchmarks.suite.networks import Network
from benchmarks.suite.stepping import Step, training_step


def programs(network: Network) -> dict[str, Step]:
    """Training steps by name, the float one first."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    import wrpn_tf

    def ours(weight_bits: int, activation_bits: int):
        model = wrpn_tf.quantize_model(network.build("tf_keras"), weight_bits, activation_bits)
        wrpn_tf.calibrate(model, [network.images(network.batch)])
        return model

    models = {
        "float": network.build("tf_keras"),
        "ours, 4/4": ours(4, 4),
        "ours, 2/2": ours(2, 2),
        "ours, 4/4, packed": ours(4, 4),
        "TF-MOT, 8/8": tfmot.quantization.keras.quantize_model(network.build("tf_keras")),
    }
    wrpn_tf.pack_activations(models["ours, 4/4, packed"])
    return {name: training_step(keras, model, network) for name, model in models.items()}
