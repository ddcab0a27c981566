"""TensorFlow Datasets: found where they are prepared, or prepared where that is possible."""

import contextlib
import logging
import os
import pathlib
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

_SECONDS = 10
"""How long a server may take to answer."""
_PORTS = {"http": 80, "ftp": 21}


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
        parts = builder.info.full_name.count("/") + 1  # NAME/VERSION, or NAME/CONFIG/VERSION.
        home = pathlib.Path(builder.data_path).parents[parts - 1]
        how = f"prepare it with: tfds build {name} --data_dir={home}"
        by_hand = root is not None or builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        if by_hand and not any((home / "downloads" / "manual").glob("*.tar")):
            raise FileNotFoundError(
                f"data set {name!r} is not prepared: nothing at {builder.data_path}; {how}"
            )
        _check_reachable(builder, home, how)
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


def _check_reachable(builder: Any, home: pathlib.Path, how: str) -> None:
    """Raises FileNotFoundError where nothing of a data set can be downloaded.

    TFDS would try for minutes. Where there is a proxy, that is what has to be reached.
    """
    servers = dict.fromkeys(map(_server, builder.url_infos))
    files = (path for path in (home / "downloads").rglob("*") if path.is_file())
    if not servers or any(".tmp." not in path.parent.name for path in files):
        return  # Nothing to download, or some of it is there, and not only what was broken off.
    for host, port in servers:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=_SECONDS).close()
            return
    raise FileNotFoundError(
        f"data set {builder.name!r} is not at {builder.data_path}, and "
        f"{', '.join(sorted(host for host, _ in servers))} cannot be reached to download it; where "
        f"there is a network, {how}, or name a folder that has it with --data_dir"
    )


def _server(url: str) -> tuple[str, int]:
    """Host and port that a download begins with: of the address, or of its proxy."""
    address = urllib.parse.urlparse(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urllib.parse.urlparse(proxy if "://" in proxy else f"http://{proxy}")
    return address.hostname or "", address.port or _PORTS.get(address.scheme, 443)


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
