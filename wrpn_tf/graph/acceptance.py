"""What a model as a whole says that its copy could not keep: one sentence for each thing.

What is the same for both Kerases; the front of each finds out what only it knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from wrpn_tf.graph.roles import Kind, class_name, kind

OWN_METHODS = frozenset(
    {
        *("call", "compute_loss", "compute_metrics", "train_step", "test_step", "predict_step"),
        *("make_train_function", "make_test_function", "make_predict_function", "fit", "evaluate"),
        *("train_on_batch", "test_on_batch", "predict_on_batch", "predict", "compile", "metrics"),
    }
)
"""Methods of a model that its copy, a plain model, would not have."""
_PARTS = ("_regularizer", "_constraint", "_initializer")
_SMALL_INTEGERS = {"uint8", "int8", "uint16", "int16"}


def refuse(model: Any, problems: Iterable[str], verb: str = "quantize") -> None:
    """Raises one ValueError that says all the problems of a model, if there are any.

    The `verb` is what the message says cannot be done.
    """
    if found := list(dict.fromkeys(problems)):
        raise ValueError(f"Cannot {verb} model {model.name!r}: {'; '.join(found)}.")


def check_copied(front: Any, model: Any, verb: str) -> None:
    """Raises one ValueError that says what no copy has of a model and its layers, if anything.

    Args:
      front: that of the model's Keras, see `wrpn_tf.fronts`.
      model: the user's.
      verb: what is done with it.
    """
    front.check_model(model, verb)
    refuse(model, front.lost(model, verb), verb)


def nested_layers(model: Any, keras: Any) -> Iterator[Any]:
    """The layers of a model and of the models nested in it, and these models."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from nested_layers(layer, keras)


def quantized_already(layers: Iterable[Any], classes: Any) -> Iterator[str]:
    """A sentence where layers are of the classes that quantizing makes."""
    quantized = [layer.name for layer in layers if isinstance(layer, classes)]
    if quantized:
        yield f"it is quantized already ({', '.join(quantized)}); quantize the float model"


def own_metrics(owner: Any, metrics: Iterable[Any]) -> Iterator[str]:
    """A sentence where a model or layer has metrics beside those of `compile`."""
    if names := [metric.name for metric in metrics]:
        yield f"{owner.name!r} has metrics of its own ({', '.join(names)}); pass metrics to compile"


def own_methods(
    model: Any, keras: Any, packages: Collection[str], methods: Collection[str], verb: str
) -> Iterator[str]:
    """A sentence where a model, or a class of it that is not of the packages, has such methods."""
    classes = [
        cls
        for cls in type(model).__mro__
        if cls.__module__.split(".", maxsplit=1)[0] not in packages
    ]
    given = {name for cls in classes for name in vars(cls)} | set(_replaced(model))
    if own := sorted(given & set(methods)):
        yield (
            f"{type(model).__name__} {model.name!r} has its own {', '.join(own)}; {verb} a "
            f"{keras.__name__}.Model(inputs, outputs) of the same layers, and train that in a "
            "model around it"
        )


def _replaced(model: Any) -> Iterator[str]:
    """Attributes of an instance, but for what this package gave it: it is for training alone."""
    for name, value in vars(model).items():
        if str(getattr(value, "__module__", "")).split(".", maxsplit=1)[0] != "wrpn_tf":
            yield name


def weights_beside(model: Any, called: Iterable[Any]) -> Iterator[str]:
    """A sentence where a model has weights of none of the layers that are called in it."""
    reached = {id(weight) for layer in called for weight in getattr(layer, "weights", ())}
    own = [
        getattr(weight, "path", weight.name)
        for weight in model.weights
        if id(weight) not in reached
    ]
    if own:
        yield f"{model.name!r} has weights of no layer of its graph ({', '.join(own)})"


def shared_weights(layers: Iterable[Any], keras: Any) -> Iterator[str]:
    """A sentence for two layers that have a weight in common, of which each copy has its own."""
    owners: dict[int, Any] = {}
    for layer in layers:
        for weight in () if isinstance(layer, keras.Model) else layer.weights:
            owner = owners.setdefault(id(weight), layer)
            if owner is not layer:
                yield (
                    f"layers {owner.name!r} and {layer.name!r} share weights; call one layer twice"
                )


def regularizer_of_outputs(model: Any, regularizer: Any, keras: Any) -> Iterator[str]:
    """A sentence where a model as a whole has an activity regularizer."""
    if regularizer is not None:
        yield (
            f"{model.name!r} has an activity_regularizer; put a {keras.__name__}.layers."
            "ActivityRegularization behind it"
        )


def called_on_a_constant(layer: Any) -> str:
    """The sentence on a layer that reads a tensor which no layer gives."""
    return (
        f"layer {layer.name!r} ({type(layer).__name__}) is called on a constant; write it as an "
        "operation, x + constant"
    )


def reads_a_mask(name: str) -> str:
    """The sentence on a layer, or a model of layers, whose quantizers would lose a mask."""
    return (
        f"{name!r} reads values with a mask, as Embedding(mask_zero=True) and Masking make "
        "them, which a quantized layer has no regard for; annotate no layer that a mask reaches"
    )


def computes_in_integers(layer: Any, name: str, read: Sequence[str], made: str) -> Iterator[str]:
    """A sentence on arithmetic whose results depend on their integer type.

    Args:
      layer: what is called, or the layer that stands for it.
      name: of what is called.
      read: the types of the tensors that it reads.
      made: that of its output, as its Keras says.
    """
    if kind(layer) in (Kind.ADD, Kind.MULTIPLY):
        cuts_off = set(read) <= _SMALL_INTEGERS
    elif kind(layer) is Kind.AVERAGE:
        cuts_off = "int" in made
    else:
        cuts_off = class_name(layer) == "Rescaling" and made in _SMALL_INTEGERS
    if cuts_off:
        yield (
            f"{name!r} computes in {read[0]}, which cuts off what it cannot hold; cast what it "
            "reads to float32"
        )


def called_otherwise(layer: Any) -> str:
    """The sentence on a layer whose `call` was replaced."""
    return f"layer {layer.name!r} was given another call; make it a layer of its own"


def unusual_inputs(layers: Iterable[Any]) -> Iterator[str]:
    """A sentence for each input layer whose tensors are not dense, or may be missing."""
    for layer in layers:
        for way in ("sparse", "ragged", "optional"):
            if getattr(layer, way, False):
                yield f"input {layer.name!r} is {way}; a quantizer takes dense tensors"


def sizes_of_images(tensors: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """A sentence for each input, by name, whose images have no size."""
    for name, tensor in tensors:
        if None in tuple(tensor.shape)[1:]:
            yield (
                f"input {name!r} has the shape {tuple(tensor.shape)}, and an integer network has "
                "one size of images; build the model with keras.Input((height, width, channels))"
            )


def other_policies(
    layers: Iterable[Any], keras: Any, policy: Any, float32: Collection[str]
) -> Iterator[str]:
    """A sentence where Keras's policy, or those of layers, are not among the names for float32."""
    advice = "build and quantize the model under the policy 'float32'"
    if policy.name not in float32:
        yield f"the global policy is {policy.name!r}; {advice}"
        return
    others = [
        f"{layer.name} ({layer.dtype_policy.name!r})"
        for layer in layers
        if not isinstance(layer, keras.layers.InputLayer | keras.Model)
        and layer.dtype_policy.name not in float32
    ]
    if others:
        yield f"layers have other policies: {', '.join(others)}; {advice}"


def parts_of_weights(layer: Any, parts: Iterable[Any]) -> Iterator[str]:
    """One sentence where a layer's weights have parts that are not, or no longer, the layer's.

    Args:
      layer: of a model.
      parts: regularizers and constraints in force; None stands for none.
    """
    of_layer = {id(value) for value in vars(layer).values()}
    if any(part is not None and id(part) not in of_layer for part in parts):
        yield (
            f"layer {layer.name!r} has weights with a regularizer or constraint that is not the "
            "layer's; build the model anew with it, or without, as an argument of the layer"
        )


def parts_that_are_not_copied(layers: Iterable[Any], keras: Any) -> Iterator[str]:
    """One sentence on regularizers, constraints and initializers that their Keras cannot copy.

    Args:
      layers: of a model.
      keras: their Keras, whose modules say what of its own and of registered classes they copy.
    """
    lost = []
    for layer in layers:
        for attribute, part in vars(layer).items():
            module: Any = getattr(keras, f"{attribute.rsplit('_', 1)[-1]}s", None)
            if part is None or isinstance(part, list) or not attribute.endswith(_PARTS):
                continue
            try:
                if type(module.get(module.serialize(part))) is type(part):
                    continue
            except Exception:  # Of many classes, by Keras and by what the part's own code does.
                pass
            part_name = getattr(part, "__name__", type(part).__name__)
            lost.append(
                f"{layer.name} ({type(layer).__name__}: {attribute.lstrip('_')} {part_name})"
            )
    if lost:
        yield (
            f"layers have parts that Keras cannot copy: {', '.join(lost)}; give their classes a "
            f"get_config, and register them with {keras.__name__}.saving."
            "register_keras_serializable"
        )
