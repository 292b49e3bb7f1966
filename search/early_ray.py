"""Ray starts while the data set is read: both take seconds, and neither needs the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from search.settings import UsageError
from search.slots import Slots

SLOW = "timed out during startup"
"""What Ray says, 30 seconds after it started, of helpers that were not there in time."""


@contextmanager
def early_ray(slots: Slots, *, dashboard: bool = False) -> Iterator[Callable[[], str]]:
    """`local_ray`, coming up in a thread of its own while the caller does something else.

    Yields a function that returns when Ray is there, with what `local_ray` yields. It raises UsageError
    where Ray does not start, and does not at a second try where it was slow: Ray gives its helpers 15
    seconds, which reading them from a cold disk may take, and the second time they have been read.
    A thread, since importing Ray takes a second too; it lives until the end, since Ray ends with the thread
    that started it. So does what is left of a first try.
    """
    up: Future[str] = Future()
    leave = threading.Event()

    def run(*, last: bool) -> None:
        try:
            from search.local_ray import local_ray

            with local_ray(slots, dashboard=dashboard) as shown_at:
                up.set_result(shown_at)
                leave.wait()
        except BaseException as error:
            if up.done():
                raise
            if SLOW in str(error) and not last and not leave.is_set():
                return
            failure = UsageError(f"Ray could not be started: {_line(error)}")
            failure.__cause__ = error
            up.set_exception(failure)

    def try_twice() -> None:
        for last in (False, True):
            trying = threading.Thread(target=run, kwargs={"last": last}, name="ray")
            try:
                trying.start()
            except RuntimeError as error:  # a limit on threads
                up.set_exception(UsageError(f"Ray could not be started: {_line(error)}"))
                return
            trying.join()
            if up.done():
                return

    thread = threading.Thread(target=try_twice, name="start ray")
    thread.start()
    try:
        yield up.result
    finally:
        leave.set()
        thread.join()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
