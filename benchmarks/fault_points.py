"""A search that is ended by SIGKILL at a chosen point of its own code, for `benchmarks.faults`.

    python -m benchmarks.fault_points POINT COUNT DELAY [options of search.run]

Nothing in the project knows of this: before the search begins, functions are replaced in this process, and
in the workers by a Trainable of its own.
"""

from __future__ import annotations

import io
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO
from unittest import mock

import torch
from sqlalchemy import event
from sqlalchemy.engine import Engine as DatabaseEngine

import search.engine
import search.launch
from search.run import main as search_main
from search.study import StudyRecord
from trainables import checkpoint
from trainables.trainable import Trainable

POINTS = {
    "none": "never",
    "start": "DELAY seconds after the driver's start",
    "begin": "the settings have been written, and the record is not open yet",
    "training": "DELAY seconds after the COUNT-th report",
    "checkpoint": "a worker has written half of its COUNT-th checkpoint",
    "written": "a worker has written its COUNT-th checkpoint, and not reported the epoch yet",
    "report": "the COUNT-th report has been noted, and is not committed yet",
    "commit": "just before the COUNT-th commit after the first report",
    "ask": "the COUNT-th proposal has been made, and is not committed yet",
}


class DyingTrainable(Trainable):
    """Ends the driver and itself in or after a checkpoint: environment variables say which."""

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """As the Trainable does; then checkpoints are counted."""
        super().setup(config, **shared)
        count = int(os.environ["KILL_COUNT"])
        if os.environ["KILL_POINT"] == "written":
            _kill_after(checkpoint, "save", count, _end_both)
        else:
            whole = torch.save
            calls = itertools.count(1)

            def save(state: dict[str, Any], file: BinaryIO) -> None:
                if next(calls) < count:
                    whole(state, file)
                    return
                content = io.BytesIO()
                whole(state, content)
                file.write(content.getvalue()[: len(content.getvalue()) // 2])
                file.flush()
                _end_both()

            mock.patch.object(torch, "save", save).start()


def _end_both() -> None:
    """The driver first: a worker's death must not become something that it records."""
    os.kill(int(os.environ["KILL_DRIVER"]), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_after(owner: Any, name: str, count: int, kill: Callable[[], None]) -> None:
    """Have `kill` called when the function `name` of `owner` returns for the `count`-th time."""
    original = getattr(owner, name)
    calls = itertools.count(1)

    def counted(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if next(calls) == count:
            kill()
        return result

    setattr(owner, name, counted)


def _kill_at_commit(count: int) -> None:
    commits = itertools.count(1)

    def before_commit(connection: Any) -> None:
        if next(commits) == count:
            _end()

    def listen() -> None:
        event.listen(DatabaseEngine, "commit", before_commit)

    _kill_after(StudyRecord, "report", 1, listen)


def arm(point: str, count: int, delay: float) -> None:
    """Prepare the end of this process; the search has not begun."""
    os.environ |= {"KILL_POINT": point, "KILL_COUNT": str(count), "KILL_DRIVER": str(os.getpid())}
    timer = threading.Timer(delay, _end)
    timer.daemon = True
    match point:
        case "start":
            timer.start()
        case "begin":
            _kill_after(search.launch, "make_folder", 1, _end)
            _kill_after(search.launch, "write_settings", 1, _end)  # of one that goes on
        case "training":
            _kill_after(StudyRecord, "report", count, timer.start)
        case "report" | "ask":
            _kill_after(StudyRecord, point, count, _end)
        case "commit":
            _kill_at_commit(count)
        case "checkpoint" | "written":
            mock.patch.object(search.engine, "Trainable", DyingTrainable).start()
        case _:
            assert point == "none", point


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    sys.exit(search_main(sys.argv[4:]))
