"""Members of zip archives that others wrote, never larger than the archive says they are."""

from __future__ import annotations

import zipfile

_KINDS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # Of others more may come out than is asked for.


def check_members(archive: zipfile.ZipFile, most: int) -> None:
    """Raises ValueError where an archive's members are more than `most` bytes uncompressed.

    Raises:
      ValueError: that, or a member is compressed by something else than deflate.
    """
    for member in archive.infolist():
        if member.compress_type not in _KINDS:
            raise ValueError(f"{member.filename!r} is neither stored nor deflated")
    size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise ValueError(f"its files have {size:,} bytes uncompressed, more than {most:,}")


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a member of an archive that `check_members` has seen."""
    with archive.open(member) as stream:
        content = stream.read(member.file_size)  # `archive.read` decompresses all there is.
        stream.read(1)  # Compares the checksum.
        return content
