"""What a training leaves behind, as export needs it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import wrpn_tf
from export.alignment.settling import settle
from export.ir.graph import IntegerGraph
from export.kernel_sets.rules import TARGETS
from export.lowering.network import lower
from export.realization.network import is_narrowed, realize
from wrpn_tf import datasets, jpegs

_JPEG_IMAGES = 2000  # 300 MB of 224x224 pixels.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Workdir:
    """A finished training.

    Attributes:
      path: the folder.
      model: the trained model.
      dataset: name of the data set it was trained on.
      data_dir: where that was read from, or None for TFDS's default.
      labels: class names.
      image_size: height and width of the images, for data sets that have no size of their own.
      test_images: the test images are the first so many; 0 means all.
    """

    path: pathlib.Path
    model: Any
    dataset: str
    data_dir: str | None
    labels: tuple[str, ...]
    image_size: int
    test_images: int
    _graphs: dict[tuple[str, tuple[str, ...]], IntegerGraph] = dataclasses.field(
        default_factory=dict, init=False
    )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Workdir:
        """Reads the model and `record.json`.

        Raises:
          ValueError: if the folder does not hold a finished training.
        """
        path = pathlib.Path(path)
        try:
            record = json.loads((path / "record.json").read_text(encoding="utf-8"))
            dataset = record["dataset"]
            return cls(
                path=path,
                model=wrpn_tf.load_model(wrpn_tf.trained_file(path)),
                dataset=dataset["name"],
                data_dir=dataset["data_dir"],
                labels=tuple(dataset["class_names"]),
                image_size=record["flags"].get("image_size", 0),
                test_images=record["flags"].get("test_images", 0),
            )
        except (OSError, json.JSONDecodeError, KeyError) as error:
            raise ValueError(
                f"{path} is not the workdir of a finished training (record.json and model.h5 "
                f"or model.keras): "
                f"{error}"
            ) from error

    def graph(self, weights: str = "int8", kernel_sets: tuple[str, ...] = TARGETS) -> IntegerGraph:
        """The model's integer graph with the labels in its metadata.

        For 'int4' and 'int2' the model is settled on that storage's coarser grid first, in place,
        as training settled it on that of int8; its 'int8' graph computes the same from then on.
        Where no kernel is stored in fewer than 8 bits, it is the graph of 'int8'. For `kernel_sets`
        other than all it is settled on these (`export.settle`), in place.
        """
        key = weights, kernel_sets
        if key not in self._graphs:
            if weights != "int8" and not is_narrowed(lower(self.model), weights):
                return self.graph(kernel_sets=kernel_sets)
            if key != ("int8", TARGETS):
                settle(self.model, weights=weights, kernel_sets=kernel_sets)
                self._graphs.clear()
            description = f"{self.model.name} trained on {self.dataset} by wrpn_tf"
            metadata = {"labels": list(self.labels), "description": description}
            self._graphs[key] = realize(
                lower(self.model, metadata), weights=weights, kernel_sets=kernel_sets
            )
        return self._graphs[key]

    def load_data(self, data_dir: str | os.PathLike[str] | None = None) -> datasets.Dataset:
        """The data set, from `data_dir` if given, else from where the training read it.

        Of one that does not fit in memory, the first 2,000 test images and no training images.

        Raises:
          ValueError: if it is not there.
        """
        try:
            if self.dataset == jpegs.NAME:
                found = jpegs.load_jpegs(data_dir or self.data_dir, self.image_size)
                limit = min(_JPEG_IMAGES, self.test_images or _JPEG_IMAGES)
                return found.load_test_images(limit)
            whole = datasets.load(self.dataset, data_dir or self.data_dir)
            return whole.head(test=self.test_images or None)
        except (FileNotFoundError, ImportError) as error:
            raise ValueError(str(error)) from error
