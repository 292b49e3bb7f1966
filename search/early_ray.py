"""Ray starts while the data set is read: both take seconds, and neither needs the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from search.settings import UsageError
from search.slots import Slots


@contextmanager
def early_ray(slots: Slots, *, dashboard: bool = False) -> Iterator[Callable[[], str]]:
    """`local_ray`, coming up in a thread of its own while the caller does something else.

    Yields a function that returns when Ray is there, with what `local_ray` yields. It raises UsageError
    where Ray does not start. A thread, since importing Ray takes a second too; it lives until the end, since
    Ray ends with the thread that started it.
    """
    up: Future[str] = Future()
    leave = threading.Event()

    def run() -> None:
        try:
            from search.local_ray import local_ray

            with local_ray(slots, dashboard=dashboard) as shown_at:
                up.set_result(shown_at)
                leave.wait()
        except BaseException as error:
            if up.done():
                raise
            failure = UsageError(f"Ray could not be started: {_line(error)}")
            failure.__cause__ = error
            up.set_exception(failure)

    thread = threading.Thread(target=run, name="ray")
    thread.start()
    try:
        yield up.result
    finally:
        leave.set()
        thread.join()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
