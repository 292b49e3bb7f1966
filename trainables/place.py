"""A folder somewhere: on a disk, or in an object store (`s3://bucket/runs`).

Whoever keeps something knows only what both have in common: files that are there whole or not at all.
This module needs nothing heavy; what an object store needs is imported where one is used.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from trainables.storage import StorageError, writing

SCHEMES = ("s3", "gs", "gcs")
"""Object stores that pyarrow knows, where a file is there whole or not at all. Azure's is none: pyarrow puts
an empty file in the old one's place first."""
CHECK_PATIENCE = 10.0
"""Seconds after which a place that does not answer is given up on before anything has begun."""


if TYPE_CHECKING:
    from trainables.remote import RemotePlace

Folder: TypeAlias = "Path | RemotePlace"
"""Where a trial's files go: both know `/`, `name` and `parent`."""


class Place(Protocol):
    """A folder that may not be there yet. Errors are OSError; StorageError where it cannot be used."""

    def new_file(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write, which is there, and whole, once the context is left without an exception."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A file to read. Raises FileNotFoundError where there is none."""
        ...

    def names(self) -> list[str]:
        """Names of the files in it, in no order; none where the folder is not there."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        ...


@dataclass(frozen=True)
class LocalPlace:
    """A folder that the system shows, on a disk of this machine or on one that several share."""

    path: Path

    @contextmanager
    def new_file(self, name: str) -> Iterator[IO[bytes]]:
        """See `Place`: a temporary name, then a rename."""
        self.path.mkdir(parents=True, exist_ok=True)
        target = self.path / name
        temporary = target.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)  # there only if the disk is full, and then in the way

    def open(self, name: str) -> IO[bytes]:
        """See `Place`."""
        return (self.path / name).open("rb")

    def names(self) -> list[str]:
        """See `Place`."""
        return [path.name for path in self.path.glob("*")]

    def delete(self, name: str) -> None:
        """See `Place`."""
        (self.path / name).unlink(missing_ok=True)


def place_of(folder: Folder | str) -> Place:
    """What holds files, of a path or of the address of an object store."""
    if isinstance(folder, Path):
        return LocalPlace(folder)
    if not isinstance(folder, str):
        return folder
    where = location(folder)
    if isinstance(where, Path):
        return LocalPlace(where)
    from trainables.remote import RemotePlace

    return RemotePlace(where)


def location(text: str) -> Path | str:
    """What a user wrote as a folder: a path, or the address of an object store without a slash at its end.

    Raises ValueError, without the beginning `--option`, for an address that can never work.
    """
    collapsed = re.match(rf"({'|'.join((*SCHEMES, 'file'))}):/(?!/)", text)
    if collapsed:
        raise ValueError(f"must have two slashes, {collapsed[1]}://, but is {text!r}")
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    # a secret key may well have a slash in it, where the name of a bucket ends
    if re.search(r"://([^/]*@|[^/]*:.*@)", text):
        raise ValueError(
            "must hold no credentials, since settings and commands are written down: give them by "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, but it is "
            f"{parts.scheme}://...@{re.split('[?#]', text.rpartition('@')[2])[0]}"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            f"must have no options after its path: give region and endpoint by AWS_REGION and "
            f"AWS_ENDPOINT_URL, but it is {parts.scheme}://{parts.netloc}{parts.path}?..."
        )
    if parts.scheme == "file":
        if parts.netloc:
            raise ValueError(f"must have three slashes before a folder, file:///..., but is {text!r}")
        return Path(parts.path)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(f"must be a folder, or begin with one of {known}, but is {text!r}")
    if not parts.netloc:
        raise ValueError(f"must name a bucket, {parts.scheme}://BUCKET/folder, but is {text!r}")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def check_place(folder: Path | str) -> None:
    """Write, read and delete a file in a folder, on the machine that this is called on.

    Raises StorageError with one line that says what is in the way, within half a minute; ValueError for an
    address that can never work. What is written is gone afterwards, but for the folder itself.
    """
    place: Place
    if isinstance(folder, str) and not isinstance(folder := location(folder), Path):
        from trainables.remote import RemotePlace

        place = RemotePlace(folder, patience=CHECK_PATIENCE)
    else:
        place = LocalPlace(Path(folder))
    name, content = f".check-{uuid.uuid4().hex}", b"search"
    try:
        with writing(folder):
            with place.new_file(name) as file:
                file.write(content)
            with place.open(name) as file:
                read = file.read()
            listed = name in place.names()
            place.delete(name)
    except StorageError as error:
        raise StorageError(str(error).replace(f"/{name}", "")) from error  # nobody knows that file
    except OSError as error:
        raise StorageError(f"{folder} cannot be used: {error.strerror or error}") from error
    if read != content or not listed:
        raise StorageError(f"{folder} cannot be used: a file that was written there was not found again")
