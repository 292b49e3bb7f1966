"""A run folder that cannot be written any more, its disk full or failing: that is no fault of any trial."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

_NO_FAULT_OF_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
# as SQLite says it; it has no number for us by the time that it arrives here
_DATABASE_TEXTS = ("database or disk is full", "disk I/O error", "attempt to write a readonly database")


class StorageError(OSError):
    """What has to be kept cannot be written; the message names the place and the reason."""


class TakenOverError(StorageError):
    """Another driver goes on with the run: this one must write no more."""


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Raise StorageError instead of what is raised inside, where a full or failing disk is behind it."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        message = _message(error, place)
        if message is None:
            raise
        raise StorageError(message) from error


def _message(error: BaseException | None, place: object) -> str | None:
    """What a disk did not take, and why; None where something else went wrong.

    Libraries wrap what the system says in exceptions of their own, and torch only keeps it in the context.
    """
    while error is not None:
        if isinstance(error, StorageError):
            return str(error)
        if isinstance(error, OSError) and error.errno in _NO_FAULT_OF_OURS:
            return f"{error.filename or place} cannot be written: {os.strerror(error.errno)}"
        for text in _DATABASE_TEXTS:
            if text in str(error):
                return f"{place} cannot be written: {text}"
        error = error.__cause__ or error.__context__
    return None
