"""Ctrl-C and SIGTERM: once to end a search cleanly, twice to leave at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.engine import Engine


@contextmanager
def interrupts(engine: Engine, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops the engine cleanly, a second one leaves at once.

    Only the main thread can do this; elsewhere (a notebook's worker thread) signals stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        if engine.stop_requested.is_set():
            os._exit(128 + number)  # Ray's processes end with this one, and a commit is whole or not there
        engine.stop_requested.set()
        say("stopping: what is finished is kept; press Ctrl-C again to leave at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
