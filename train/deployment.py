"""From a finished training to a verified .tflite file beside it."""

import dataclasses
import os
import pathlib

from rich.console import Console

from export.flatbuffer.borders import with_borders
from export.flatbuffer.writer import to_flatbuffer
from export.verification.result import Verification
from export.verification.verifier import MAX_ACCURACY_GAP, MIN_AGREEMENT, verify_graph
from export.verification.workdir import Workdir
from train.config import UserError
from train.finishing import is_integer_only
from train.record import Record
from wrpn_tf.files import write_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployment:
    """An exported training.

    Attributes:
        path: The file.
        size: Its bytes.
        verification: What comparing it with the training measured.
    """

    path: pathlib.Path
    size: int
    verification: Verification


def deploy(
    workdir: str | os.PathLike[str],
    *,
    images: int,
    console: Console,
    data_dir: str | os.PathLike[str] | None = None,
) -> Deployment | None:
    """Exports a finished training as `model.tflite` in its workdir and verifies the file.

    Does nothing, and returns None, for a network that has something in float.

    Args:
        workdir: The folder of the training.
        images: Test images to compare tensor by tensor; top-1 uses all.
        console: Where to print what is measured.
        data_dir: Where the data set is; None: where the training read it.

    Raises:
        UserError: The network diverged, the file cannot be written, or it is not what
            was trained.
    """
    path = pathlib.Path(workdir) / "model.tflite"
    config = Record.read_config(path.with_name("record.json"))
    if not config.quantized:
        return None
    try:
        finished = Workdir.load(workdir)
        if not is_integer_only(finished.model, config):
            return None
        content = with_borders(to_flatbuffer(finished.graph()), "uint8")
        write_bytes(path, content)
        data = finished.load_data(data_dir)
        verification = verify_graph(
            finished.model,
            finished.graph(),
            content,
            data.test_images,
            data.test_labels,
            sample=images,
            min_agreement=MIN_AGREEMENT,
            max_accuracy_gap=MAX_ACCURACY_GAP,
        )
        console.print(verification)
    except ValueError as error:
        raise UserError(f"export: {error}") from error
    if verification.failures:
        raise UserError(f"{path} is not verified: {' '.join(verification.failures)}")
    return Deployment(path=path, size=len(content), verification=verification)
