"""What is done again and again, however long it takes by then, takes a small share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.02


class Paced:
    """Does a thing again not before `least` seconds have passed, nor before it would take more than SHARE."""

    def __init__(self, least: float) -> None:
        self.least = least
        self._next = 0.0

    def run(self, action: Callable[[], None]) -> None:
        """Do it if it is time."""
        began = time.monotonic()
        if began < self._next:
            return
        action()
        now = time.monotonic()
        self._next = now + max(self.least, (now - began) / SHARE)
