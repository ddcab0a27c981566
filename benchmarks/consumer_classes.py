"""What one library makes of images: the class with the highest score of each, -1: none, as JSON.

    python benchmarks/consumer_classes.py mediapipe model.tflite images.npy

`benchmarks/consumers.py` runs this file in an environment of that library, which this package is
not in. Each function is what a user of the library writes, no more: pixels go in as they are, and
what to do with them is the library's business. Only code for an Interpreter looks at the type of
the input, as its users have to; PyCoral's does not. MediaPipe 0.10 gives no class where all scores
are below 0, as logits may be, whatever the file names as threshold.
"""

import importlib.metadata
import json
import sys

import numpy as np


def mediapipe(model: str, images: np.ndarray) -> list[int]:
    """MediaPipe Tasks."""
    import mediapipe as mp
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_path=model), max_results=1
    )
    classes = []
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image in images:
            picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=image)
            (scores,) = classifier.classify(picture).classifications
            classes.append(scores.categories[0].index if scores.categories else -1)
    return classes


def task_library(model: str, images: np.ndarray) -> list[int]:
    """TFLite Task Library."""
    from tflite_support.task import core, processor, vision

    options = vision.ImageClassifierOptions(
        base_options=core.BaseOptions(file_name=model),
        classification_options=processor.ClassificationOptions(max_results=1),
    )
    classifier = vision.ImageClassifier.create_from_options(options)
    classes = []
    for image in images:
        picture = vision.TensorImage.create_from_array(image)
        (scores,) = classifier.classify(picture).classifications
        classes.append(scores.categories[0].index if scores.categories else -1)
    return classes


def tflite_runtime(model: str, images: np.ndarray) -> list[int]:
    """The Interpreter of tflite-runtime."""
    from tflite_runtime.interpreter import Interpreter

    return interpret(Interpreter(model_path=model), images)


def litert(model: str, images: np.ndarray) -> list[int]:
    """The Interpreter of LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    return interpret(Interpreter(model_path=model), images)


def tensorflow(model: str, images: np.ndarray) -> list[int]:
    """The Interpreter of TensorFlow."""
    import tensorflow as tf

    return interpret(tf.lite.Interpreter(model_path=model), images)


def interpret(interpreter, images: np.ndarray) -> list[int]:
    """Classes by an Interpreter."""
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    offset = 128 if source["dtype"] == np.int8 else 0
    classes = []
    for image in images:
        codes = (image.astype(np.int16) - offset).astype(source["dtype"])
        interpreter.set_tensor(source["index"], codes[None])
        interpreter.invoke()
        classes.append(int(interpreter.get_tensor(target["index"]).argmax()))
    return classes


def pycoral(model: str, images: np.ndarray) -> list[int]:
    """As PyCoral's `common.set_input` and `classify.get_classes` do, on the CPU.

    The bytes of pixels are copied in, whatever the type of the input.
    """
    from tflite_runtime.interpreter import Interpreter

    interpreter = Interpreter(model_path=model)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    classes = []
    for image in images:
        interpreter.tensor(source["index"])()[0][:, :] = image
        interpreter.invoke()
        scores = interpreter.get_tensor(target["index"])[0].astype(np.int64)
        classes.append(int(scores.argmax()))
    return classes


PACKAGES = {
    mediapipe: "mediapipe",
    task_library: "tflite-support",
    tflite_runtime: "tflite-runtime",
    litert: "ai-edge-litert",
    tensorflow: "tensorflow",
    pycoral: "tflite-runtime",
}


def main() -> None:
    """Runs the program."""
    functions = {function.__name__: function for function in PACKAGES}
    if len(sys.argv) != 4 or sys.argv[1] not in functions:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(functions)} model.tflite images.npy")
    function = functions[sys.argv[1]]
    classes = function(sys.argv[2], np.load(sys.argv[3]))
    print(json.dumps({"version": importlib.metadata.version(PACKAGES[function]), "top1": classes}))


if __name__ == "__main__":
    main()
