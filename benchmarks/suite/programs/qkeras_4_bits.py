"""QKeras for Keras 3: 4 bits for weights and activations."""

from benchmarks.suite.networks import Network
from benchmarks.suite.stepping import Step, training_step

_WEIGHTS = "quantized_bits(4, 0, 1)"


def programs(network: Network) -> dict[str, Step]:
    """Training steps by name, the float one first."""
    import keras
    import qkeras

    def quantized(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.ReLU):
            return qkeras.QActivation("quantized_relu(4)", name=layer.name)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return qkeras.QDepthwiseConv2D.from_config(config | {"depthwise_quantizer": _WEIGHTS})
        if isinstance(layer, keras.layers.Conv2D):
            return qkeras.QConv2D.from_config(config | {"kernel_quantizer": _WEIGHTS})
        if isinstance(layer, keras.layers.Dense):
            quantizers = {"kernel_quantizer": _WEIGHTS, "bias_quantizer": _WEIGHTS}
            return qkeras.QDense.from_config(config | quantizers)
        return type(layer).from_config(config)

    model = network.build("keras")
    models = {
        "float": model,
        "QKeras, 4/4": keras.models.clone_model(model, clone_function=quantized),
    }
    return {name: training_step(keras, model, network) for name, model in models.items()}
