"""Fetching one file: quickly refused where there is no network, checked before it gets its name."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import queue
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal

from trainables.data.dataset import DataError, ProgressFactory

CONNECT_SECONDS = 5.0
_STALL_SECONDS = 15.0
_CHUNK_BYTES = 2**18


class DownloadError(DataError):
    """A file could not be fetched, or what came is not that file."""


def download(
    url: str,
    checksum: str,
    target: Path,
    progress: ProgressFactory,
    *,
    algorithm: Literal["md5", "sha256"] = "md5",
    connect_seconds: float = CONNECT_SECONDS,
) -> None:
    """Fetch `url` (http or https; proxies as the environment says) to `target`, complete or not at all.

    Raises DownloadError, within about `connect_seconds` where nobody answers, and for a sum of this
    `algorithm` that does not begin with `checksum`.
    """
    advice = f"; place {target.name} in {target.parent}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.closing(_connect(url, connect_seconds)) as response,
            tempfile.TemporaryDirectory(prefix="partial-", dir=target.parent) as folder,
        ):
            partial = Path(folder) / target.name
            digest = hashlib.new(algorithm, usedforsecurity=False)
            found = _receive(response, partial, f"Downloading {target.name}", progress, digest)
            if not found.startswith(checksum):
                name = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
                raise DownloadError(
                    f"what came from {url} has {name} {found}, expected {checksum}; deleted it{advice}"
                )
            partial.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url} could not be downloaded ({_reason(error)}){advice}") from error


def _connect(url: str, seconds: float) -> Any:
    # In a thread of its own: looking up a name knows no time limit, and a host with several addresses gets
    # the full limit for each.
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"only http and https are fetched, but the address is {url}")
    answers: queue.Queue[Any] = queue.Queue()

    def connect() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=_STALL_SECONDS))  # noqa: S310  http(s), seen to above
        except Exception as error:
            answers.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _receive(
    response: Any, path: Path, description: str, progress: ProgressFactory, digest: hashlib._Hash
) -> str:
    expected = int(response.headers.get("Content-Length") or 0)
    received = 0
    with path.open("wb") as file, progress(description, expected) as bar:
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            bar.advance(len(chunk))
            received += len(chunk)
    if received < expected:
        raise ConnectionError(f"it ended after {received} of {expected} bytes")
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
