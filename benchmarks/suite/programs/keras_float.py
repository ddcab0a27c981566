"""Float Keras 3 in its newest version."""

from benchmarks.suite.networks import Network
from benchmarks.suite.stepping import Step, training_step


def programs(network: Network) -> dict[str, Step]:
    """The float training step."""
    import keras

    return {"float": training_step(keras, network.build("keras"), network)}
