"""Float Keras 3 and this package on it, with the backend that KERAS_BACKEND names."""

from benchmarks.suite.networks import Network
from benchmarks.suite.stepping import Step, training_step


def programs(network: Network) -> dict[str, Step]:
    """Training steps by name, the float one first."""
    import keras

    import wrpn_tf

    def ours():
        model = wrpn_tf.quantize_model(network.build("keras"), 4, 4)
        wrpn_tf.calibrate(model, [network.images(network.batch)])
        return model

    models = {"float": network.build("keras"), "ours, 4/4": ours()}
    if keras.backend.backend() == "tensorflow":
        models["ours, 4/4, packed"] = ours()
        wrpn_tf.pack_activations(models["ours, 4/4, packed"])
    return {name: training_step(keras, model, network) for name, model in models.items()}
