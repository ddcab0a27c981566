"""HGQ2 with its defaults: bits that are learned, of weights and of what convolutions read."""

from benchmarks.suite.networks import Network
from benchmarks.suite.stepping import Step, training_step


def programs(network: Network) -> dict[str, Step]:
    """Training steps by name, the float one first.

    Raises:
      ValueError: the network has a layer that HGQ2 has no form of.
    """
    import hgq.layers
    import keras

    def quantized(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            raise ValueError("HGQ2 has no depthwise convolution")
        if isinstance(layer, keras.layers.Conv2D):
            return hgq.layers.QConv2D(**_arguments(config))
        if isinstance(layer, keras.layers.Dense):
            return hgq.layers.QDense(**_arguments(config))
        return type(layer).from_config(config)

    model = network.build("keras")
    models = {
        "float": model,
        "HGQ2": keras.models.clone_model(model, clone_function=quantized),
    }
    return {name: training_step(keras, model, network) for name, model in models.items()}


def _arguments(config: dict) -> dict:
    """What QConv2D and QDense take of a layer's configuration."""
    names = ("filters", "kernel_size", "strides", "padding", "units", "use_bias", "name")
    return {name: config[name] for name in names if name in config}
