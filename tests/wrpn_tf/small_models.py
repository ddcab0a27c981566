"""Small networks for tests, their weights away from symmetric beginnings."""

import numpy as np
import tf_keras as keras
from tf_keras import layers


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every weight a random value, variances and gammas positive ones; returns the model."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        fan = max(1, int(np.prod(weight.shape[:-1])))
        values = random.normal(scale=fan**-0.5, size=weight.shape)
        if "variance" in weight.name or "gamma" in weight.name:
            values = 0.5 + np.abs(values)
        weight.assign(values.astype("float32"))
    return model


def images(model: keras.Model, count: int = 4, seed: int = 1):
    """Random inputs in [-1, 1], a list if the model takes several."""
    random = np.random.default_rng(seed)
    arrays = [
        random.uniform(-1, 1, (count, *tensor.shape[1:])).astype(np.float32)
        for tensor in model.inputs
    ]
    return arrays if len(arrays) > 1 else arrays[0]


def convnet() -> keras.Model:
    """Convolution, depthwise convolution, pooling and dense layer, normalized."""
    inputs = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="conv2")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.Conv2D(4, 1, name="conv3")(x)
    x = layers.ReLU(name="relu3")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(3, name="logits")(x)
    return randomize(keras.Model(inputs, outputs, name="convnet"))


def tiny() -> keras.Model:
    """Convolution, normalization, depthwise convolution, pooling and dense layer."""
    inputs = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(3, 3, name="conv1")(inputs)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.DepthwiseConv2D(3, activation="relu", name="conv2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(3, name="logits")(x)
    return randomize(keras.Model(inputs, outputs, name="tiny"))


def everything() -> keras.Model:
    """Every supported layer at least once, nested models, two inputs and two outputs."""
    image = keras.Input((8, 8, 2), name="image")
    other = keras.Input((8, 8, 2), name="other")
    x = layers.Add(name="sum_inputs")([image, other])
    x = layers.ZeroPadding2D(1, name="pad")(x)
    x = layers.Conv2D(4, 3, activation="relu", name="fused")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="multiplied")(x)
    x = layers.BatchNormalization(name="bn_after_conv")(x)
    x = layers.Activation("relu6", name="relu6")(x)
    x = layers.SeparableConv2D(
        6, 3, padding="same", depth_multiplier=2, activation="relu", name="separable"
    )(x)
    x = layers.BatchNormalization(name="bn_after_relu")(x)
    inner_in = keras.Input((8, 8, 6))
    inner = layers.Conv2D(6, 1, use_bias=False, name="inner_conv")(inner_in)
    inner = layers.ReLU(max_value=1.5, name="inner_relu")(inner)
    x = keras.Model(inner_in, inner, name="nested")(x)
    x = layers.Activation("swish", name="swish")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply(name="gated")([x, gate])
    x = layers.UpSampling2D(name="up")(layers.Rescaling(2.0, 0.5, name="rescaled")(x))
    x = layers.Cropping2D(((3, 5), (4, 4)), name="crop")(x)
    x = layers.UpSampling2D(interpolation="bilinear", name="smooth")(x)
    x = layers.MaxPooling2D(4, name="max")(x)
    x = layers.Conv2DTranspose(6, 2, padding="same", name="transposed")(x)
    shortcut = layers.Conv2D(6, 1, groups=2, name="shortcut")(x)
    x = layers.Conv2D(6, 3, padding="same", name="body")(x)
    x = total = layers.Add(name="add")([x, shortcut])
    x = layers.Maximum(name="most")([layers.Subtract(name="difference")([x, shortcut]), shortcut])
    x = layers.Minimum(name="least")([x, total])
    x = layers.BatchNormalization(name="preactivation")(x)
    x = layers.Activation("relu", name="activation")(x)
    one = layers.AveragePooling2D(2, padding="valid", name="average_valid")(x)
    two = layers.AveragePooling2D(3, strides=2, padding="same", name="average_same")(x)
    x = layers.Concatenate(name="concatenate")([one, two])
    x = layers.BatchNormalization(name="standalone")(x)
    x = layers.Activation("linear", name="linear")(x)
    y = layers.GlobalMaxPooling2D(name="global_max")(x)
    y = layers.Reshape((12,), name="reshape")(y)
    probabilities = layers.Activation("softmax", name="probabilities")(
        layers.Dense(3, name="head_one")(y)
    )
    z = layers.Flatten(name="flatten")(x)
    z = layers.Dropout(0.5, name="dropout")(z)
    z = layers.Dense(5, activation="relu", name="hidden")(z)
    z = layers.Dense(3, name="head_two")(z)
    z = layers.Softmax(name="softmax")(z)
    w = layers.GlobalAveragePooling2D(name="global_average")(x)
    w = layers.Dense(2, activation="softmax", name="head_three")(w)
    return randomize(keras.Model([image, other], [probabilities, z, w], name="everything"))


def train_step(model: keras.Model, inputs, seed: int = 2):
    """One step of SGD on random targets; returns the losses."""
    random = np.random.default_rng(seed)
    count = len(inputs[0] if isinstance(inputs, list) else inputs)
    targets = [random.normal(size=(count, *output.shape[1:])) for output in model.outputs]
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    return model.train_on_batch(inputs, targets)
