"""What is done again and again, however long it takes by then, takes a small share of the time."""

from __future__ import annotations

import time
from types import TracebackType

SHARE = 0.02


class Paced:
    """When something is due again: not before `least` seconds, nor before it would take more than SHARE.

    A context manager around the thing itself.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._next = self._began = 0.0

    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = time.monotonic()
        self._next = now + max(self.least, (now - self._began) / SHARE)
