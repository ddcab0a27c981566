"""Small Keras networks with everything that folding must get right."""

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

import wrpn_tf

INPUT_RANGE = (-1.0, 1.0)


def network(seed: int, *, size: int = 6, softmax: bool = False) -> keras.Model:
    """Every supported structure in one network, with awkward parameters.

    Batch normalization gains are negative, positive and zero; one bias is the same for all
    channels; a ReLU follows a convolution without batch normalization; there are a residual sum, a
    concatenation, depthwise and separable convolutions, pooling of each kind and a batch
    normalization behind the sum.
    """
    image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(image)
    x = trunk = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    x = layers.Conv2D(4, 3, padding="same", name="conv2")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    x = total = layers.Add(name="add")([x, trunk])
    x = layers.ReLU(name="relu2")(layers.BatchNormalization(name="bn_after_add")(x))
    depthwise = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    depthwise = layers.BatchNormalization(name="bn3")(depthwise)
    depthwise = layers.Activation("relu6", name="relu3")(depthwise)
    plain = layers.Conv2D(4, 1, activation="relu", name="plain")(x)
    pooled = layers.AveragePooling2D(3, 1, "same", name="average")(layers.ReLU(name="relu4")(total))
    x = layers.Concatenate(name="concatenate")([depthwise, plain, pooled])
    x = layers.MaxPooling2D(2, name="max")(x)
    x = layers.SeparableConv2D(5, 2, activation="relu", name="separable")(layers.ZeroPadding2D()(x))
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Dropout(0.1, name="dropout")(x))
    x = layers.Dense(4, activation="softmax" if softmax else None, name="logits")(x)
    model = keras.Model(image, x)
    randomize(model, seed)
    return model


def gated(seed: int) -> keras.Model:
    """Two inputs, two outputs, gates, constants, groups and layers that move codes.

    Squeeze-and-excite gates of both shapes, swish, hard sigmoid and hard swish built of operations,
    normalization and rescaling at an input and inside, a grouped convolution, cropping,
    upsampling, padding on one side and pooling that keeps its dimensions.
    """
    image = keras.Input((6, 6, 3), name="image")
    other = keras.Input((3, 3, 2), name="other")
    x = layers.Rescaling(0.5, 0.25, name="rescaled")(image)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.0, 2.0], name="normal")(x)
    x = layers.ZeroPadding2D(((0, 1), (1, 0)), name="pad")(x)
    x = layers.Conv2D(6, 3, dilation_rate=2, padding="same", activation="swish", name="conv")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(2, 1, activation="relu", name="reduce")(gate)
    gate = layers.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply(name="scaled")([gate, x])
    x = layers.Cropping2D(((1, 0), (0, 1)), name="crop")(x)
    x = layers.Conv2D(6, 3, 2, padding="same", groups=3, use_bias=False, name="grouped")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = x * (tf.nn.relu6(x + 3.0) / 6.0)
    side = layers.Conv2D(6, 1, name="side")(other * 0.5)
    x = layers.Add(name="sum")([x, side, x])
    x = layers.UpSampling2D((2, 3), name="up")(layers.Activation("hard_sigmoid", name="hard")(x))
    x = layers.MaxPooling2D((3, 2), (2, 3), "same", name="max")(x)
    wide = layers.DepthwiseConv2D((2, 3), (2, 2), depth_multiplier=2, name="wide")(x)
    features = layers.GlobalMaxPooling2D(name="features")(layers.ReLU(name="relu")(wide))
    probability = layers.Dense(1, activation="sigmoid", name="probability")(features)
    model = keras.Model([image, other], [probability, features])
    randomize(model, seed)
    return model


def decoder(seed: int) -> keras.Model:
    """Transposed convolutions: folded, with a bias, linear, and with gaps between their windows.

    Bilinear upsampling of k-bit and of 8-bit tensors. One of the convolutions goes into a
    concatenation with its encoder's features, one is the output.
    """
    image = keras.Input((6, 6, 3), name="image")
    features = layers.Conv2D(4, 3, padding="same", activation="relu", name="features")(image)
    x = layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="reduced")(features)
    x = layers.Conv2DTranspose(5, 3, 2, padding="same", use_bias=False, name="up1")(x)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    x = layers.Concatenate(name="joined")([x, features])
    x = layers.UpSampling2D((1, 2), interpolation="bilinear", name="smooth")(x)
    x = layers.Conv2DTranspose(9, (2, 4), (1, 2), activation="relu", name="up2")(x)
    x = layers.BatchNormalization(name="bn2")(layers.Conv2DTranspose(3, (4, 3), name="up3")(x))
    x = layers.UpSampling2D((2, 1), interpolation="bilinear", name="smooth2")(x)
    x = layers.Conv2DTranspose(2, 1, (2, 1), padding="same", name="up4")(x)
    model = keras.Model(image, x)
    randomize(model, seed)
    return model


def compared(seed: int) -> keras.Model:
    """Differences, maxima and minima: of k-bit and of linear tensors, with and without a ReLU."""
    image = keras.Input((5, 5, 3), name="image")
    one, two, three = (
        layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(image)
        for name in ("one", "two", "three")
    )
    x = most = layers.Maximum(name="most")([one, two, three])
    x = layers.ReLU(name="clipped")(layers.Subtract(name="edges")([x, one]))
    line = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 1, name="line")(x))
    x = tf.minimum(line, most)
    x = layers.Conv2D(3, 1, name="head")(layers.Subtract(name="difference")([most, x]))
    model = keras.Model(image, x)
    randomize(model, seed)
    return model


def randomize(model: keras.Model, seed: int) -> None:
    """Random parameters: gains of either sign and zero, equal biases in the layer 'plain'."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            count = layer.gamma.shape[0]
            gamma = random.uniform(-1.5, 1.5, count)
            gamma[:3] = random.permutation([-abs(gamma[0]), abs(gamma[1]), 0.0])
            variance = random.uniform(0.05, 2.0, count)
            variance[random.integers(count)] = 0.0
            layer.set_weights(
                [gamma, random.normal(0.3, 0.5, count), random.normal(0, 0.5, count), variance]
            )
        elif layer.weights:
            layer.set_weights([random.normal(0, 0.4, w.shape) for w in layer.get_weights()])
        if layer.name == "plain":
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, np.full_like(bias, 0.25)])


def quantize(model: keras.Model, seed: int, **options) -> keras.Model:
    """Quantizes and calibrates on random images."""
    quantized = wrpn_tf.quantize_model(model, input_range=INPUT_RANGE, **options)
    images = codes(quantized, 16, seed)
    several = isinstance(images, dict)
    wrpn_tf.calibrate(quantized, [[*map(reals, images.values())] if several else reals(images)])
    return quantized


def codes(model: keras.Model, count: int, seed: int) -> np.ndarray | dict[str, np.ndarray]:
    """Random int8 images for the model, by input name where it has several."""
    random = np.random.default_rng(seed)
    images = {
        name: random.integers(-128, 128, (count, *tensor.shape[1:])).astype(np.int8)
        for name, tensor in zip(model.input_names, model.inputs, strict=True)
    }
    return images if len(images) > 1 else images[model.input_names[0]]


def reals(image_codes: np.ndarray) -> np.ndarray:
    """The real values of image codes under `INPUT_RANGE`."""
    scale, zero_point, _ = wrpn_tf.quantizers.pixel_grid_np(*INPUT_RANGE)
    return (image_codes.astype(np.float32) - zero_point) * scale
