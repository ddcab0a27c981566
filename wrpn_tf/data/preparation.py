"""TensorFlow Datasets: found where they are prepared, or prepared where that is possible."""

import contextlib
import logging
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any


def prepared_builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """Returns the TFDS builder of a data set that is on disk.

    A missing data set is prepared in TFDS's own folder, that is where `data_dir` is None, and where
    `data_dir` holds archives that TFDS wants downloaded by hand. Any other `data_dir` is only read.

    Args:
        name: A TFDS name.
        data_dir: Folder of data sets; archives are in its `downloads/manual/`. None for TFDS's own
            (`~/tensorflow_datasets` or $TFDS_DATA_DIR).

    Raises:
        FileNotFoundError: The data set is not under `data_dir` or cannot be prepared.
        ImportError: TFDS is not installed.
    """
    with quiet():
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise ImportError(
                f"the data set {name!r} is read by TensorFlow Datasets ({error}): "
                "pip install tensorflow-datasets importlib_resources"
            ) from error
        root = None if data_dir is None else pathlib.Path(data_dir).expanduser().resolve()
        builder = tfds.builder(name, data_dir=root)
        if builder.is_prepared():
            return builder
        how = f"prepare it with: tfds build {name} --data_dir={root or builder.data_path}"
        if root is not None and not any((root / "downloads" / "manual").glob("*.tar")):
            raise FileNotFoundError(
                f"data set {name!r} is not prepared: nothing at {builder.data_path}; {how}"
            )
        print(f"preparing the data set {name!r} in {builder.data_path}", file=sys.stderr)
        try:
            builder.download_and_prepare()
        except Exception as error:  # TFDS raises whatever its downloader and parser raise.
            reason = str(error).strip().split("\n")[0]
            raise FileNotFoundError(
                f"data set {name!r} is not at {builder.data_path} and preparing it failed "
                f"({type(error).__name__}: {reason}); where what it "
                f"needs is there, {how}"
            ) from error
        return builder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back the log lines below WARNING that TFDS and absl write while they read."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
