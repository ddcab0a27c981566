"""Folders of JPEG files, one folder for each class."""

import os
import pathlib
import warnings

import numpy as np

_SUFFIXES = (".jpeg", ".jpg")
_ORDER_SEED = 0
_SHOWN = 5


def list_images(
    folder: pathlib.Path,
) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Lists `train/<class>/*.JPEG` and `val/<class>/*.JPEG`.

    Classes are the folders of `train` in the order of their names, as in every list of ImageNet's
    1,000. `val` may also hold its files directly, with `val.txt` beside it: a line for each with
    the file's name and its label, a number from 0. Files are in a random order, always the same, so
    that the first of them are a sample of all classes.

    Args:
        folder: The folder of `train` and `val`.

    Returns:
        The class names, and for 'train' and 'val' the paths and the int64 labels.

    Raises:
        FileNotFoundError: A folder is absent or holds no image.
        ValueError: A class of `val` is not in `train`, or `val.txt` does not fit, or names a file
            that is not in `val` or not there.

    Warns of classes without images.
    """
    homes = [path for path in (folder / "train").iterdir() if path.is_dir()]
    names = tuple(sorted(home.name for home in homes if not home.name.startswith(".")))
    train = _labelled(folder / "train", names)
    if not (folder / "val").is_dir():
        raise FileNotFoundError(f"there is no folder {folder / 'val'} beside {folder / 'train'}")
    _warn_of_empty(folder / "train", names, train)
    listed = folder / "val.txt"
    val = _listed(listed, len(names)) if listed.is_file() else _labelled(folder / "val", names)
    return names, {"train": _arrays(train), "val": _arrays(val)}


def _labelled(folder: pathlib.Path, names: tuple[str, ...]) -> list[tuple[str, int]]:
    """The images in folders that are named by their class."""
    labels = {name: label for label, name in enumerate(names)}
    found = []
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        if path.parent.name not in labels:
            raise ValueError(
                f"{path.parent} is the folder of a class that train/ does not have; "
                f"its {len(names)} classes are {names[0]} to {names[-1]}"
            )
        found.append((str(path), labels[path.parent.name]))
    if not found:
        raise FileNotFoundError(
            f"no images {folder}/<class>/*.JPEG; files without class folders need their labels "
            f"in {folder}.txt"
            if folder.name == "val"
            else f"no images {folder}/<class>/*.JPEG"
        )
    return found


def _listed(listed: pathlib.Path, classes: int) -> list[tuple[str, int]]:
    """The images that `val.txt` lists."""
    found = []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, label = line.strip().rpartition(" ")
        if not (name and label.isdigit()):
            raise ValueError(f"{listed}:{number}: expected a file's name and a label, not {line!r}")
        if int(label) >= classes:
            raise ValueError(
                f"{listed}:{number}: label {label} is out of range 0 to {classes - 1}, the "
                f"{classes} classes of train/"
            )
        inside = pathlib.PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\0" in name:
            raise ValueError(
                f"{listed}:{number}: {name!r} is not the name of a file in {listed.with_suffix('')}"
            )
        found.append((str(listed.with_suffix("") / name), int(label)))
    if not found:
        raise ValueError(f"{listed} lists no images")
    absent = [path for path, _ in found if not os.path.isfile(path)]
    if absent:
        raise ValueError(
            f"{listed}: {len(absent):,} of its {len(found):,} files are not there, the first is "
            f"{absent[0]}; correct the list, or put the images there"
        )
    return found


def _warn_of_empty(
    folder: pathlib.Path, names: tuple[str, ...], found: list[tuple[str, int]]
) -> None:
    """Warns of classes that nothing is learned of."""
    missing = sorted(set(range(len(names))) - {label for _, label in found})
    if missing:
        shown = ", ".join(repr(names[label]) for label in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        warnings.warn(
            f"{folder}: no images of the class{'es' * (len(missing) > 1)} {shown}{more}",
            stacklevel=3,
        )


def _arrays(found: list[tuple[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(_ORDER_SEED).permutation(len(found))
    files, labels = zip(*found, strict=True)
    return np.array([os.fsencode(file) for file in files])[order], np.array(labels, np.int64)[order]
