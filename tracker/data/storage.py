"""Read files of a folder that is on this machine, on a web server or in a cloud's store."""

import io
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import urlopen

Place = Path | str  # a folder, or the URL of one

_TRIES = 4  # of a web server that does not answer, or breaks off
_PAUSE_S = 1.0  # before the second; twice as long before each that follows
_TIMEOUT_S = 60.0


def place_of(text: str) -> Place:
    """Return what an argument names: an URL as it is, all else as a path."""
    return text if "://" in text else Path(text)


def open_file(place: Place, name: str) -> BinaryIO:
    """Open a file of a place to read; one that is not on this machine is fetched whole, into memory.

    URLs of http:// and https:// are read by the standard library, others by fsspec. Raises ValueError naming a file
    that cannot be read, and what to install where a package is missing.
    """
    if isinstance(place, Path):
        try:
            return (place / name).open("rb")
        except OSError as error:
            raise ValueError(f"cannot read {place / name}: {error.strerror}") from error
    url = f"{place.rstrip('/')}/{name}"
    return io.BytesIO(_from_web(url) if url.startswith(("http://", "https://")) else _from_cloud(url))


def _from_web(url: str) -> bytes:
    return _patiently(url, lambda: _fetch(url))


def _fetch(url: str) -> bytes:
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except HTTPError as error:
        if error.code < 500:  # the server is well: it will say the same again
            raise ValueError(f"cannot read {url}: {error.code} {error.reason}") from error
        raise


def _patiently(url: str, fetch: Callable[[], bytes]) -> bytes:
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_S * 2 ** (attempt - 1))
        try:
            return fetch()
        except (OSError, HTTPException) as error:  # among them no connection, a timeout, and an answer cut short
            failure = error
    raise ValueError(f"cannot read {url}, tried {_TRIES} times: {failure}")


def _from_cloud(url: str) -> bytes:
    try:
        import fsspec

        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except ImportError as error:
        raise ValueError(f"cannot read {url}: {error}; pip install 'siamtrack[cloud]'") from error
    except Exception as error:  # every store has errors of its own
        raise ValueError(f"cannot read {url}: {type(error).__name__}: {error}") from error
