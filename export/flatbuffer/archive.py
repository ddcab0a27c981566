"""The zip archive behind the flatbuffer of a .tflite file: labels and other associated files."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

from wrpn_tf.saved_sizes import check_members, read_member

MOST_BYTES = 32 * 2**20
"""What the files behind a flatbuffer may have together, uncompressed."""
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # The same files are the same bytes.


def append_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """The flatbuffer followed by an archive of files by name, or alone where there are none."""
    if not files:
        return model
    stream = io.BytesIO(model)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _FIXED_TIME), content)
    return stream.getvalue()


def appended_files(content: bytes) -> dict[str, bytes]:
    """The files in the archive behind a flatbuffer, by name; none where there is no archive.

    Raises:
      ValueError: if the archive is damaged, or its files have more than `MOST_BYTES`.
    """
    stream = io.BytesIO(content)
    if not zipfile.is_zipfile(stream):
        return {}
    try:
        with zipfile.ZipFile(stream) as archive:
            check_members(archive, MOST_BYTES)
            return {each.filename: read_member(archive, each) for each in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise ValueError(f"the files appended to this model cannot be read: {error}") from error
