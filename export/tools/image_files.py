"""Which files of a folder are images."""

from __future__ import annotations

import pathlib

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
"""Of their names, in any case."""


def image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder, at any depth, in the order of their names; no hidden ones."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and path.is_file() and not _is_hidden(path, folder)
    )


def _is_hidden(path: pathlib.Path, folder: pathlib.Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
