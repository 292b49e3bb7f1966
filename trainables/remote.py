"""A folder in an object store. One that fails for a while is waited for; what no waiting mends is told."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any, TypeVar

from trainables.file_system import file_system, lasting_fault, passing_fault
from trainables.storage import StorageError

T = TypeVar("T")
PATIENCE_SECONDS = 300.0
"""How long a store that fails is waited for."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Seconds between two tries: twice as many each time."""
_waits = random.Random()  # noqa: S311  for waiting, not for secrets; the global one is a trial's


@dataclass(frozen=True)
class RemotePlace:
    """A folder in an object store; travels to another process as its address."""

    address: str
    """Such as s3://bucket/runs/first."""
    patience: float = PATIENCE_SECONDS
    """Seconds that a store which fails is waited for."""

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> RemotePlace:
        return replace(self, address=f"{self.address}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> RemotePlace:
        """The folder that this one lies in."""
        return replace(self, address=self.address.rpartition("/")[0])

    def absolute(self) -> RemotePlace:
        """Itself: an address is the same from anywhere."""
        return self

    @contextmanager
    def new_file(self, name: str) -> Iterator[IO[bytes]]:
        """See `Place`. Kept in memory until it is whole, then put there by one request: so a checkpoint needs
        no manifest that says which of several objects belong together and are complete."""
        file = io.BytesIO()
        yield file
        self.write(name, file.getbuffer())

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put a file there whole."""

        def put(system: Any, path: str) -> None:
            with system.open_output_stream(path) as stream:
                stream.write(content)

        self._tried(put, name, "written")

    def open(self, name: str) -> IO[bytes]:
        """See `Place`."""
        return io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        """A file's content. Raises FileNotFoundError where there is none."""

        def get(system: Any, path: str) -> bytes:
            with system.open_input_stream(path) as stream:
                content: bytes = stream.read()
            return content

        return self._tried(get, name, "read")

    def names(self) -> list[str]:
        """See `Place`."""
        from pyarrow.fs import FileType

        return [info.base_name for info in self._listing() if info.type == FileType.File]

    def tree(self) -> list[str]:
        """Every file below it, as a path from here."""
        from pyarrow.fs import FileType

        root = file_system(self.address)[1] + "/"
        found = self._listing(recursive=True)
        return [info.path.removeprefix(root) for info in found if info.type == FileType.File]

    def folders(self) -> list[str]:
        """Names of the folders in it."""
        from pyarrow.fs import FileType

        return [info.base_name for info in self._listing() if info.type == FileType.Directory]

    def delete(self, name: str) -> None:
        """See `Place`."""

        def remove(system: Any, path: str) -> None:
            with suppress(FileNotFoundError):
                system.delete_file(path)

        self._tried(remove, name, "deleted")

    def _listing(self, *, recursive: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector

        def look(system: Any, path: str) -> list[Any]:
            selector = FileSelector(path, allow_not_found=True, recursive=recursive)
            return list(system.get_file_info(selector))

        return self._tried(look, "", "listed")

    def _tried(self, action: Callable[[Any, str], T], name: str, what: str) -> T:
        """What `action` returns; again and again while it fails by what may pass.

        Raises StorageError where patience ends, or where nothing would mend it, and FileNotFoundError.
        """
        address = f"{self.address}/{name}" if name else self.address
        deadline, wait = time.monotonic() + self.patience, FIRST_WAIT
        while True:
            try:
                # with little patience pyarrow's own tries, each of which may take its time, are too many
                system, path = file_system(address, *((1,) if self.patience < PATIENCE_SECONDS else ()))
                return action(system, path)
            except FileNotFoundError as error:
                if what != "written":
                    raise
                raise StorageError(f"{address} cannot be written: {error}") from error
            except OSError as error:
                fault = lasting_fault(error, address)
                if fault is None and time.monotonic() + wait < deadline:
                    time.sleep(wait * _waits.uniform(0.5, 1.0))
                    wait = min(2 * wait, LONGEST_WAIT)
                    continue
                reason = fault or passing_fault(error)
                raise StorageError(f"{address} cannot be {what}: {reason}") from error
