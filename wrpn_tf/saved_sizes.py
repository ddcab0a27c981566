"""What files that others wrote may expand to: no more than they say, and than they are worth.

Zip and HDF5 store a terabyte of zeros in a few kilobytes. Sizes are compared with that of the file
before memory is taken.
"""

from __future__ import annotations

import os
import pathlib
import resource
import subprocess
import sys
import zipfile
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py

SHARE = 8
"""What a saved model may take, in sizes of its file: it may be compressed, or have an optimizer."""
LEAST = 2**26
"""Bytes that a saved model may take however small its file is."""
SECONDS = 60
"""What reading a file may take, once."""
MEMORY = 8 * 2**30
"""Address space of the process that does it."""
_CHECK = """
import sys
sys.path = [path for path in sys.path if path]  # Not the current folder, which `-c` puts first.
from wrpn_tf.saved_sizes import read_alone
read_alone(*sys.argv[1:])
"""
_MOST_CONFIG = 2**26
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # More may come out of others than is asked.


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


def allowance(path: str) -> int:
    """Bytes that a model from a file, or a folder, may take."""
    files = pathlib.Path(path).rglob("*") if os.path.isdir(path) else [pathlib.Path(path)]
    return LEAST + SHARE * sum(file.stat().st_size for file in files if file.is_file())


def too_large(most: int) -> str:
    """What is wrong with a model whose weights take more than `most` bytes, its `allowance`."""
    return (
        f"its layers have weights of more than {most:,} bytes, {SHARE} times the file and "
        f"{LEAST / 2**20:g} MiB"
    )


def check_file(path: str, most: int) -> None:
    """Reads a .keras or .h5 file in a process of its own: malformed HDF5 can make a reader hang.

    Raises:
      ValueError: it stands for more than `most` bytes, links elsewhere, or cannot be read; or that
        takes more than `SECONDS` or `MEMORY`.
    """
    search = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    try:
        checked = subprocess.run(
            [sys.executable, "-c", _CHECK, path, str(most)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"it cannot be read within {SECONDS} seconds") from error
    if checked.returncode:
        lines = checked.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(lines[-1] if lines else "it is damaged: its reader died")


def read_alone(path: str, most: str) -> None:
    """What the process of `check_file` does; ends it with status 1 and a sentence if it fails."""
    import h5py

    limit_resource(resource.RLIMIT_AS, MEMORY)
    try:
        if zipfile.is_zipfile(path):  # It may be both.
            with zipfile.ZipFile(path) as archive:
                _check_archive(archive, int(most))
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                _check_hdf5(file, int(most))
    except (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError) as error:
        sys.exit(f"it is damaged: {' '.join(str(error).split())}")
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        sys.exit(" ".join(str(error).split()))


def limit_resource(kind: int, most: int) -> None:
    """Limits this process to `most` of a resource (`resource.RLIMIT_…`), or to less if it has."""
    _, hard = resource.getrlimit(kind)
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (limit, limit))


def _check_archive(archive: zipfile.ZipFile, most: int) -> None:
    """Raises ValueError where a .keras archive holds more than `most` bytes, or links elsewhere."""
    import h5py

    check_members(archive, most)
    for member in archive.infolist():
        if member.filename in ("config.json", "metadata.json") and member.file_size > _MOST_CONFIG:
            raise ValueError(f"{member.filename} has {member.file_size:,} bytes")
        if member.filename.endswith(".h5"):
            with archive.open(member) as stream, h5py.File(stream, "r") as file:
                _check_hdf5(file, most)


def _check_hdf5(file: h5py.File, most: int) -> None:
    """Raises ValueError where an HDF5 file stands for more than `most` bytes, or links elsewhere.

    Datasets may lie in other files, and parts of one may be links into others: both would be read.
    """
    import h5py

    seen: set[int] = set()
    groups, left = [file["/"]], most
    while groups:
        group = groups.pop()
        dict(group.attrs)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a link to another place or file")
            part = group[name]
            place = h5py.h5o.get_info(part.id).addr
            if place in seen:
                continue
            seen.add(place)
            if isinstance(part, h5py.Group):
                groups.append(part)
            elif isinstance(part, h5py.Dataset):
                if part.external or part.is_virtual:
                    raise ValueError(f"the data of {name!r} lie in another file")
                left -= part.size * part.dtype.itemsize if part.shape is not None else 0
                if left < 0:
                    raise ValueError(f"its arrays take more than {most:,} bytes")
                dict(part.attrs)
                part[()]
