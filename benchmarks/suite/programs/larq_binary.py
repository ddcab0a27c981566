"""Larq: binary weights and activations in all convolutions but the first."""

from benchmarks.suite.networks import Network
from benchmarks.suite.stepping import Step, training_step


def programs(network: Network) -> dict[str, Step]:
    """Training steps by name, the float one first."""
    import larq
    import tf_keras as keras

    def binary(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.ReLU):  # The sign of a ReLU would be no code.
            return keras.layers.Activation("linear", name=layer.name)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            config |= {"input_quantizer": "ste_sign", "depthwise_quantizer": "ste_sign"}
            config["depthwise_constraint"] = "weight_clip"
            return larq.layers.QuantDepthwiseConv2D.from_config(config)
        if isinstance(layer, keras.layers.Conv2D) and layer.name != "conv1":
            config |= {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
            config["kernel_constraint"] = "weight_clip"
            return larq.layers.QuantConv2D.from_config(config)
        return type(layer).from_config(config)

    model = network.build("tf_keras")
    models = {
        "float": model,
        "Larq, 1/1": keras.models.clone_model(model, clone_function=binary),
    }
    return {name: training_step(keras, model, network) for name, model in models.items()}
